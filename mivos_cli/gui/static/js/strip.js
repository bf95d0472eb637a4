/** Paints the timeline: ruler, thumbnails, what is computed, confidence, marks. Works on pixels, not on frames. */

import { colours } from "./theme.js";

export const RULER = 16; // css pixels from above
export const MARKS = 18; // from below
const CONFIDENCE = 26;
const COVERAGE = 3;
const GAP = 3;
const SURE = 80; // percent
const DOUBTFUL = 60;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000];
const TICK = 72; // css pixels between labels, at least

const NAMES = [
  "surface",
  "ground",
  "line",
  "line-strong",
  "text",
  "text-2",
  "text-3",
  "accent-2",
  "accent-text",
  "warn",
  "bad",
];
let palette = null;

/** Colours are read again at the next painting. */
export const forgetColours = () => (palette = null);

/** Where the lanes are in a strip of that height. @param {number} height css pixels */
export function lanes(height) {
  const marks = height - MARKS;
  const confidence = marks - GAP - CONFIDENCE;
  const coverage = confidence - GAP - COVERAGE;
  return { thumbs: [RULER, Math.max(0, coverage - GAP - RULER)], coverage, confidence, marks };
}

/**
 * Paints everything but the playhead.
 * @param {CanvasRenderingContext2D} context scaled to css pixels
 * @param {Object} what
 * @param {number} what.width css pixels
 * @param {number} what.height
 * @param {(frame: number) => number} what.x left edge of a frame
 * @param {(x: number) => number} what.frameAt
 * @param {Object} what.server state
 * @param {Set<number>} what.live frames of the running propagation
 * @param {Uint8Array} what.confidence
 * @param {{x: number, width: number, image: CanvasImageSource}[]} what.thumbs
 */
export function paintStrip(context, what) {
  palette ??= colours(NAMES);
  const { width, height, server } = what;
  const lane = lanes(height);
  context.fillStyle = palette.surface;
  context.fillRect(0, 0, width, height);
  const [left, right] = [what.x(0), what.x(server.frames)];
  context.fillStyle = palette.ground;
  context.fillRect(left, RULER, right - left, lane.thumbs[1]);
  context.save();
  context.beginPath();
  context.rect(left, RULER, right - left, lane.thumbs[1]); // the last picture is cut where the video ends
  context.clip();
  for (const thumb of what.thumbs) context.drawImage(thumb.image, thumb.x, RULER, thumb.width, lane.thumbs[1]);
  context.restore();
  coverage(context, what, lane, left, right);
  certainty(context, what, lane, left, right);
  ruler(context, what);
  marks(context, what, lane);
}

function ruler(context, { width, x, frameAt, server }) {
  const perFrame = x(1) - x(0);
  const step = STEPS.find((one) => one * perFrame >= TICK) ?? STEPS.at(-1);
  context.font = "10px system-ui, sans-serif";
  context.textBaseline = "middle";
  const [first, last] = [Math.max(0, Math.floor(frameAt(0))), Math.min(server.frames - 1, Math.ceil(frameAt(width)))];
  for (let frame = first - (first % step); frame <= last; frame += step) {
    const at = Math.round(x(frame)) + 0.5;
    context.fillStyle = palette["line-strong"];
    context.fillRect(at - 0.5, RULER - 5, 1, 5);
    context.fillStyle = palette["text-3"];
    context.fillText(String(frame), at + 4, RULER / 2);
  }
}

function coverage(context, { server, x, width, live }, lane, left, right) {
  context.fillStyle = palette.line;
  context.fillRect(left, lane.coverage, right - left, COVERAGE);
  context.fillStyle = palette["accent-text"];
  for (const [first, last] of server.computed) {
    const [from, to] = [x(first), x(last + 1)];
    if (to < 0 || from > width) continue;
    context.fillRect(from, lane.coverage, Math.max(1, to - from), COVERAGE);
  }
  for (const frame of live) {
    const from = Math.floor(x(frame)); // whole pixels: neighbours would leave a seam
    context.fillRect(from, lane.coverage, Math.ceil(x(frame + 1)) - from, COVERAGE);
  }
}

/** Bars, one per pixel: the least certain frame below it. Height and colour say the same. */
function certainty(context, { confidence, frameAt, x, width, server }, lane, left, right) {
  const bottom = lane.confidence + CONFIDENCE;
  context.fillStyle = palette.line;
  context.fillRect(left, bottom - 1, right - left, 1);
  const [from, to] = [Math.max(0, Math.floor(left)), Math.min(width, Math.ceil(right))];
  for (let pixel = from; pixel < to; pixel++) {
    const value = lowest(confidence, frameAt(pixel), frameAt(pixel + 1), server.frames);
    if (value === 255) continue;
    context.fillStyle = value >= SURE ? palette["accent-2"] : value >= DOUBTFUL ? palette.warn : palette.bad;
    const high = Math.max(2, (value / 100) * CONFIDENCE);
    context.globalAlpha = 0.4;
    context.fillRect(pixel, bottom - high, 1, high);
    context.globalAlpha = 1;
    context.fillRect(pixel, bottom - high, 1, 2);
  }
}

function lowest(confidence, from, to, frames) {
  let found = 255;
  const last = Math.min(frames - 1, Math.max(Math.floor(from), Math.ceil(to) - 1));
  for (let frame = Math.max(0, Math.floor(from)); frame <= last; frame++) {
    const value = confidence[frame];
    if (value !== undefined && value < found) found = value;
  }
  return found;
}

function marks(context, { server, x, width }, lane) {
  const middle = lane.marks + MARKS / 2 - 1;
  const centre = (frame) => (x(frame) + x(frame + 1)) / 2;
  const seen = (at) => at > -10 && at < width + 10;
  context.lineWidth = 1.5;
  for (const round of server.rounds) {
    if (round.undone || round.frame == null || !seen(centre(round.frame))) continue;
    diamond(context, centre(round.frame), middle);
    context.fillStyle = palette.text;
    context.fill();
  }
  const drafts = server.drafts.map((draft) => draft.frame);
  if (server.round) drafts.push(server.round.frame); // no round yet, no draft any more
  for (const frame of drafts) {
    if (!seen(centre(frame))) continue;
    diamond(context, centre(frame), middle);
    context.fillStyle = palette.surface;
    context.fill();
    context.strokeStyle = palette["accent-text"];
    context.stroke();
  }
  if (server.suggestion != null && seen(centre(server.suggestion))) flag(context, centre(server.suggestion), lane);
}

function diamond(context, x, y) {
  const size = 5;
  context.beginPath();
  context.moveTo(x, y - size);
  context.lineTo(x + size, y);
  context.lineTo(x, y + size);
  context.lineTo(x - size, y);
  context.closePath();
}

function flag(context, x, lane) {
  const bottom = lane.marks + MARKS - 3;
  context.fillStyle = palette.warn;
  context.fillRect(x - 0.75, lane.confidence, 1.5, bottom - lane.confidence);
  context.beginPath();
  context.moveTo(x, bottom - 11);
  context.lineTo(x + 9, bottom - 7.5);
  context.lineTo(x, bottom - 4);
  context.fill();
}
