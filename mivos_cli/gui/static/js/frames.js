/**
 * Frames and masks of the open project: fetched once, kept within a bound, fetched again when the server says so.
 *
 * Decoded frames take width x height x 4 bytes (1.6 MB at 854 x 480), masks a quarter of that. What was not used for
 * the longest time goes first.
 */

import * as api from "./api.js";
import { page } from "./page.js";

const IMAGE_BYTES = 192 * 2 ** 20; // about 110 frames of 854 x 480
const MASK_BYTES = 96 * 2 ** 20; // about 240 masks of that size

/** A map that forgets what was used the longest time ago once it holds more than `limit` bytes. */
class Bounded {
  constructor(limit, dispose = () => {}) {
    this.limit = limit;
    this.dispose = dispose;
    this.items = new Map(); // in order of use
    this.bytes = 0;
  }

  get(key) {
    const item = this.items.get(key);
    if (item) {
      this.items.delete(key);
      this.items.set(key, item);
    }
    return item?.value;
  }

  has(key) {
    return this.items.has(key);
  }

  set(key, value, bytes) {
    this.delete(key);
    this.items.set(key, { value, bytes });
    this.bytes += bytes;
    // the newest stays even if it alone is too large: it is about to be shown
    for (const old of this.items.keys()) {
      if (this.bytes <= this.limit || old === key) break;
      this.delete(old);
    }
  }

  delete(key) {
    const item = this.items.get(key);
    if (!item) return;
    this.items.delete(key);
    this.bytes -= item.bytes;
    this.dispose(item.value);
  }

  clear() {
    for (const key of [...this.items.keys()]) this.delete(key);
  }
}

// A bitmap is not closed when it is forgotten: it may be on screen. The browser frees it with its last reference.
const images = new Bounded(IMAGE_BYTES);
const masks = new Bounded(MASK_BYTES);
const drafts = new Map(); // frame -> actions; small, and few
const inFlight = new Map();
let changes = 0; // grows with each invalidation of all
const changedAt = new Map(); // mask key -> number of the last invalidation of that one
let version = 0; // of masks, in the order in which they came

/** @typedef {{labels: Uint8Array|null, version: number}} Mask labels: object ids row by row; null: no mask there */

/** Forgets everything: another project is opened. */
export function forgetAll() {
  images.clear();
  masks.clear();
  drafts.clear();
  inFlight.clear();
  invalidate(null);
}

/** @param {number} frame @returns {Promise<ImageBitmap>} */
export function image(frame) {
  const known = images.get(frame);
  if (known) return Promise.resolve(known);
  const project = page.project;
  return once(`image ${frame}`, async () => {
    const bitmap = await createImageBitmap(await api.frameImage(project, frame));
    if (project === page.project) images.set(frame, bitmap, bitmap.width * bitmap.height * 4);
    return bitmap;
  });
}

/**
 * @param {number} frame
 * @param {"shown"|"committed"|"before"} [which]
 * @returns {Promise<Mask>} as the server has it now, or had it when nothing has changed since
 */
export function mask(frame, which = "shown") {
  const key = `${frame} ${which}`;
  const known = masks.get(key);
  if (known) return Promise.resolve(known);
  const [project, stamp] = [page.project, stampOf(key)];
  // the stamp is part of the name: a request from before a change must not answer for one after it
  return once(`mask ${key} ${stamp}`, async () => {
    const labels = await api.mask(project, frame, which);
    const made = { labels, version: ++version };
    if (project === page.project && stamp === stampOf(key)) masks.set(key, made, labels ? labels.length : 64);
    return made;
  });
}

/** @param {number} frame @returns {Promise<Object[]>} the actions of its draft */
export async function draft(frame) {
  const [project, stamp] = [page.project, stampOf(`${frame} draft`)];
  const known = drafts.get(frame);
  if (known) return known;
  return once(`draft ${frame} ${stamp}`, async () => {
    const { actions } = await api.draft(project, frame);
    if (project === page.project && stamp === stampOf(`${frame} draft`)) drafts.set(frame, actions);
    return actions;
  });
}

/** @param {number} frame @returns {Object[]} the actions of its draft as far as they are here */
export const knownDraft = (frame) => drafts.get(frame) ?? [];

/** @param {number} frame @returns {boolean} whether image and mask are here */
export const isReady = (frame) => images.has(frame) && masks.has(`${frame} shown`);

/** @param {number} frame fetches image and mask; failures are left to whoever shows the frame */
export const prefetch = (frame) => Promise.allSettled([image(frame), mask(frame)]);

/**
 * The masks of these frames are not what they were.
 * @param {number[]|null} frames null: all
 */
export function invalidate(frames) {
  changes++;
  if (frames === null) {
    changedAt.clear();
    masks.clear();
    drafts.clear();
    base = changes;
    return;
  }
  for (const frame of frames) {
    for (const which of ["shown", "committed", "before"]) {
      masks.delete(`${frame} ${which}`);
      changedAt.set(`${frame} ${which}`, changes);
    }
    drafts.delete(frame);
    changedAt.set(`${frame} draft`, changes);
  }
}

let base = 0; // number of the last invalidation of all
const stampOf = (key) => changedAt.get(key) ?? base;

/** Runs `work` unless it is running already under that name. */
function once(name, work) {
  const running = inFlight.get(name);
  if (running) return running;
  const promise = work().finally(() => inFlight.get(name) === promise && inFlight.delete(name));
  inFlight.set(name, promise);
  return promise;
}
