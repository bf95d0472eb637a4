/** Small pictures for the timeline, a few at a time and only while nothing else is fetched. */

import { frameUrl } from "./api.js";
import { page } from "./page.js";
import { isSettled } from "./view.js";

const WIDTH = 160; // pixels of a fetched picture
const KEPT = 400; // pictures; 57 kB each when decoded
const PARALLEL = 2;
const RETRY = 150; // ms

const known = new Map(); // frame -> image, in order of use
let wanted = [];
let loading = 0;
let timer = 0;
let arrived = () => {};
let project = null;

/** @param {() => void} listener called when pictures have come */
export function startThumbs(listener) {
  arrived = listener;
}

/**
 * The pictures at hand for a row of places; missing ones are fetched.
 * @param {{frame: number, x: number, width: number}[]} places
 * @returns {{x: number, width: number, image: HTMLImageElement}[]}
 */
export function thumbsFor(places) {
  if (project !== page.project) {
    project = page.project;
    known.clear();
  }
  wanted = places.map((place) => place.frame).filter((frame) => !known.has(frame));
  if (wanted.length) later(0);
  return places.filter((place) => known.has(place.frame)).map((place) => ({ ...place, image: use(place.frame) }));
}

function use(frame) {
  const image = known.get(frame);
  known.delete(frame);
  known.set(frame, image);
  return image;
}

function later(wait) {
  clearTimeout(timer);
  timer = setTimeout(fetchSome, wait);
}

async function fetchSome() {
  if (!page.online || !wanted.length) return;
  if (!isSettled() || page.playing) return later(RETRY); // what is looked at comes first
  while (loading < PARALLEL && wanted.length) fetchOne(wanted.shift(), project);
}

async function fetchOne(frame, mine) {
  loading++;
  const image = new Image();
  image.src = frameUrl(mine, frame, WIDTH);
  try {
    await image.decode();
    if (mine === project) known.set(frame, image);
    if (known.size > KEPT) known.delete(known.keys().next().value);
  } catch {
    // the strip stays empty there; the next painting asks again
  } finally {
    loading--;
    arrived();
    if (wanted.length) later(0);
  }
}
