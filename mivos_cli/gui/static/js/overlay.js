/** Masks to colours: one pass over the labels by a table, a second one for lines along borders. */

import { page } from "./page.js";

const ADDED = pack(46, 230, 166, 150);
const REMOVED = [pack(255, 90, 118, 190), pack(60, 10, 22, 170)]; // hatched, so that it is not told by colour alone
const KEPT = pack(215, 219, 226, 60);
const LIGHT = pack(214, 216, 220, 255); // chequers behind a cut-out
const DARK = pack(150, 154, 161, 255);
const CHEQUER = 8; // pixels of the working size

let target = null; // {canvas, context, image, pixels}; one for all frames

/** A pixel of an ImageData in a Uint32Array on a little-endian machine, as all that run browsers are. */
function pack(red, green, blue, alpha) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

function parse(colour) {
  const value = parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/**
 * What the look of the overlay depends on besides the labels.
 * @param {string} mode
 * @returns {{mode: string, key: string, tint: Uint32Array, line: Uint32Array}} tables by object id
 */
export function lookOf(mode) {
  const { opacity, edge, hidden, targets, server } = page;
  const objects = server?.objects ?? [];
  const key = JSON.stringify([
    mode,
    opacity,
    edge,
    [...hidden],
    [...targets],
    objects.map((one) => [one.id, one.colour]),
  ]);
  const [tint, line] = [new Uint32Array(256), new Uint32Array(256)];
  const strength = Math.round((opacity / 100) * 255);
  // fade: what is no object gets darker. The tint is half as strong there, as the contrast shows the object already
  if (mode === "fade") tint.fill(pack(8, 9, 11, Math.min(235, Math.round(60 + strength * 0.75))));
  for (let id = 1; id < 256; id++) {
    const known = objects.find((one) => one.id === id);
    const [red, green, blue] = parse(known?.colour ?? "#9aa0a8");
    if (mode === "cutout") tint[id] = !targets.size || targets.has(id) ? 1 : 0;
    else if (hidden.has(id)) continue;
    else if (mode === "tint") tint[id] = pack(red, green, blue, strength);
    else if (mode === "fade") tint[id] = pack(red, green, blue, Math.round(strength * 0.3));
    const shown = mode === "outline" || (edge && (mode === "tint" || mode === "fade"));
    if (shown) line[id] = pack(red, green, blue, mode === "outline" ? Math.max(90, strength) : 255);
  }
  return { mode, key, tint, line };
}

/**
 * Draws labels into a canvas that is used again by the next call.
 * @param {Uint8Array|null} labels object ids row by row
 * @param {Uint8Array|null} before the same from before, for the difference
 * @param {number} width
 * @param {number} height
 * @param {ReturnType<typeof lookOf>} look
 * @returns {HTMLCanvasElement|null} null: nothing to draw
 */
export function compose(labels, before, width, height, look) {
  const size = width * height;
  if (look.mode === "off" || (!labels && !(look.mode === "difference" && before))) return null;
  if (labels && labels.length !== size) return null; // of another working size: a late answer
  const { canvas, context, image, pixels } = surface(width, height);
  if (look.mode === "difference") differ(labels, before?.length === size ? before : null, width, height, pixels);
  else if (look.mode === "cutout") cut(labels, width, height, look.tint, pixels);
  else {
    const table = look.tint;
    for (let i = 0; i < size; i++) pixels[i] = table[labels[i]];
    if (look.line.some(Boolean)) outline(labels, width, height, look.line, look.mode === "outline" ? 2 : 1, pixels);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function surface(width, height) {
  if (target?.canvas.width !== width || target.canvas.height !== height) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    target = { canvas, context, image, pixels: new Uint32Array(image.data.buffer) };
  }
  return target;
}

/** Paints pixels that have another object within `reach` pixels left, right, above or below. */
function outline(labels, width, height, table, reach, pixels) {
  const rows = reach * width;
  const size = width * height;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const id = labels[i];
      if (id === 0 || table[id] === 0) continue;
      if (
        (x >= reach && labels[i - reach] !== id) ||
        (x + reach < width && labels[i + reach] !== id) ||
        (i >= rows && labels[i - rows] !== id) ||
        (i + rows < size && labels[i + rows] !== id)
      )
        pixels[i] = table[id];
    }
  }
}

function cut(labels, width, height, kept, pixels) {
  for (let y = 0, i = 0; y < height; y++) {
    const odd = Math.floor(y / CHEQUER) & 1;
    for (let x = 0; x < width; x++, i++) {
      if (kept[labels[i]]) pixels[i] = 0;
      else pixels[i] = (Math.floor(x / CHEQUER) & 1) === odd ? LIGHT : DARK;
    }
  }
}

function differ(labels, before, width, height, pixels) {
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const now = labels ? labels[i] : 0;
      const then = before ? before[i] : 0;
      if (now === then) pixels[i] = now ? KEPT : 0;
      else pixels[i] = now ? ADDED : REMOVED[((x + y) >> 2) & 1];
    }
  }
}
