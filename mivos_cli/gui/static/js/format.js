/** Numbers as people read them. */

const count = new Intl.NumberFormat("en");

/** @param {number} value @returns {string} with thousands separators */
export const number = (value) => count.format(value);

/** @param {number} n @param {string} word @param {string} [many] @returns {string} such as "3 frames" */
export const plural = (n, word, many = `${word}s`) => `${number(n)} ${n === 1 ? word : many}`;

/**
 * Time of a frame as h:mm:ss:ff, without the hours where the clip has none. Nominal: rate times index.
 * @param {number} frame
 * @param {number} fps
 * @param {number} [total] frames of the clip
 */
export function timecode(frame, fps, total = 0) {
  const rate = fps > 0 ? fps : 25;
  const seconds = Math.floor(frame / rate + 1e-6);
  const rest = Math.min(Math.ceil(rate) - 1, Math.max(0, Math.round(frame - seconds * rate)));
  const two = (value) => String(value).padStart(2, "0");
  const tail = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}:${two(rest)}`;
  return total / rate >= 3600 ? `${Math.floor(seconds / 3600)}:${tail}` : tail;
}

/** @param {number} seconds @returns {string} such as "0:42" or "1:02:10" */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** @param {number} size @returns {string} such as "3.2 MB" */
export function bytes(size) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; size >= 1000 && unit < units.length - 1; unit++) size /= 1000;
  return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** @param {string|number|Date} when @returns {string} the time today, else the day */
export function moment(when) {
  const date = new Date(when);
  if (Number.isNaN(date.getTime())) return "";
  const today = new Date().toDateString() === date.toDateString();
  return today
    ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false })
    : date.toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" });
}

/** @returns {string} a uuid; crypto.randomUUID exists only on secure origins, and --host may make this page insecure */
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const raw = crypto.getRandomValues(new Uint8Array(16));
  raw[6] = (raw[6] & 0x0f) | 0x40;
  raw[8] = (raw[8] & 0x3f) | 0x80;
  const hex = [...raw].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
