/**
 * The viewer: the frame and its overlay on one canvas, strokes and cursors on a second one above it.
 *
 * A frame is drawn as soon as its image is here; its mask waits for at most `GRACE` ms. While frames change quickly
 * at most `PARALLEL` of them are fetched and those in between are left out.
 */

import { byId } from "./dom.js";
import * as frames from "./frames.js";
import { available } from "./go.js";
import { clearInk, paintInk } from "./ink.js";
import { compose, lookOf } from "./overlay.js";
import { paintOverview } from "./overview.js";
import { draftOf, page, set, watch } from "./page.js";
import { colours, onTheme } from "./theme.js";
import { Viewport } from "./viewport.js";

const GRACE = 80; // ms; longer than a mask takes, shorter than what feels slow
const PARALLEL = 2;
const CRISP = 4; // device pixels per pixel of the frame from which on pixels are shown as squares

export const viewport = new Viewport();

/** What is on screen. */
const shown = { frame: -1, bitmap: null, mask: null, before: null };

let canvas, context, inkContext;
let ground = "#000";
let painting = 0;
let inking = 0;
let wanted = 0; // number of the newest wish for a frame
let started = 0;
let drawn = 0;
let loading = 0;
let failed = -1; // the frame that could not be fetched
let composed = { key: "", canvas: null };
let afterDraw = () => {};

/** Starts the viewer. @param {() => void} onDrawn called after each frame drawn because `page.frame` changed */
export function startView(onDrawn) {
  afterDraw = onDrawn;
  canvas = byId("view");
  context = canvas.getContext("2d", { alpha: false });
  inkContext = byId("ink").getContext("2d");
  const observer = new ResizeObserver(resize);
  observer.observe(byId("viewer"));
  onTheme(readTheme);
  readTheme();
  watch(["frame", "project"], want);
  // what failed, or was not decoded yet, is tried again whenever the server tells something new
  watch(["server"], () => shown.frame !== page.frame && loading === 0 && want());
  watch(["mode", "opacity", "edge", "hidden", "targets", "server"], requestPaint);
  watch(["server"], retry);
  watch(["mode", "peek"], () => page.server && needsBefore() && loadBefore(page.frame));
  watch(["peek"], requestPaint);
  watch(["strokes", "window", "crosshair", "tool", "object", "brush", "pending", "picking"], requestInk);
  watch(["strokes"], () => page.server && page.strokes && loadDraft(page.frame));
}

/** Whether the frame that is wanted is on screen. */
export const isSettled = () => shown.frame === page.frame && loading === 0;

/** The frame on screen, -1 before the first one. */
export const frameOnScreen = () => shown.frame;

/** Forgets what is shown: another project is opened. */
export function resetView() {
  Object.assign(shown, { frame: -1, bitmap: null, mask: null, before: null });
  composed = { key: "", canvas: null };
  viewport.frame(page.server.width, page.server.height);
  moveView((view) => view.fit());
  want();
}

/** Masks changed on the server. @param {number[]|null} list frames; null: all */
export function masksChanged(list) {
  frames.invalidate(list);
  if (list === null || list.includes(page.frame)) refreshMask(page.frame);
}

/** Paints image and overlay before the next refresh of the screen. */
export function requestPaint() {
  painting ||= requestAnimationFrame(paint);
}

/** Paints strokes and cursors before the next refresh of the screen. */
export function requestInk() {
  inking ||= requestAnimationFrame(ink);
}

function readTheme() {
  ground = colours(["ground"]).ground;
  requestPaint();
}

function resize() {
  const ratio = devicePixelRatio || 1;
  const box = byId("viewer").getBoundingClientRect();
  const [width, height] = [Math.max(1, Math.round(box.width * ratio)), Math.max(1, Math.round(box.height * ratio))];
  for (const one of [canvas, byId("ink")]) Object.assign(one, { width, height });
  viewport.resize(width, height, ratio);
  paint(); // at once: a resized canvas is empty
}

function want() {
  if (!page.server || page.frame >= available()) return;
  wanted++;
  if (loading < PARALLEL) load();
}

/** A frame that could not be fetched may be there now, as when the video is still being read. */
function retry() {
  if (failed === page.frame && loading === 0) want();
}

async function load() {
  const [mine, frame] = [wanted, page.frame];
  started = mine;
  loading++;
  try {
    const mask = settledOrNull(frames.mask(frame));
    const before = needsBefore() ? settledOrNull(frames.mask(frame, "before")) : null;
    const bitmap = await frames.image(frame);
    const inTime = await Promise.race([mask, new Promise((done) => setTimeout(done, GRACE, undefined))]);
    if (mine < drawn) return;
    drawn = mine;
    failed = -1;
    if (frame !== shown.frame) clearInk(shown.frame);
    const late = inTime === undefined;
    Object.assign(shown, { frame, bitmap, mask: late ? null : inTime, before: before && !late ? await before : null });
    message("");
    paint();
    afterDraw();
    if (late) mask.then((found) => found && takeMask(frame, found));
    if (page.strokes && draftOf(frame)) loadDraft(frame);
  } catch (error) {
    failed = frame;
    if (frame === page.frame) message(`Frame ${frame} is not here yet: ${error.message}`);
  } finally {
    loading--;
    if (wanted > started) load();
  }
}

async function refreshMask(frame) {
  if (needsBefore()) loadBefore(frame);
  const found = await settledOrNull(frames.mask(frame));
  if (found) takeMask(frame, found);
  if (page.strokes || frames.knownDraft(frame).length) await loadDraft(frame);
  if (found) clearInk(frame);
  requestInk();
}

function takeMask(frame, mask) {
  if (shown.frame !== frame || mask.version < (shown.mask?.version ?? 0)) return;
  shown.mask = mask;
  paint();
}

async function loadBefore(frame) {
  const found = await settledOrNull(frames.mask(frame, "before"));
  if (shown.frame !== frame || !found) return;
  shown.before = found;
  requestPaint();
}

async function loadDraft(frame) {
  await settledOrNull(frames.draft(frame));
  requestInk();
}

const needsBefore = () => page.mode === "difference" || page.peek;

/** A failed fetch is no mask for now; the next push or frame change tries again. */
const settledOrNull = (promise) => promise.catch(() => null);

function paint() {
  cancelAnimationFrame(painting);
  painting = 0;
  if (!context) return;
  context.fillStyle = ground;
  context.fillRect(0, 0, canvas.width, canvas.height);
  const { bitmap } = shown;
  if (bitmap) {
    const { x, y, scale } = viewport;
    viewport.frame(bitmap.width, bitmap.height);
    context.imageSmoothingEnabled = scale < CRISP;
    const place = [x, y, bitmap.width * scale, bitmap.height * scale];
    context.drawImage(bitmap, ...place);
    const overlay = overlayOf(bitmap.width, bitmap.height);
    if (overlay) context.drawImage(overlay, ...place);
    paintOverview(viewport, bitmap, overlay);
    const { dataset } = document.documentElement;
    dataset.frame = String(shown.frame);
    if (shown.mask) dataset.mask = String(shown.mask.version);
  }
  ink();
}

function overlayOf(width, height) {
  const mode = page.peek && page.mode === "difference" ? "tint" : page.mode;
  const look = lookOf(mode);
  const mask = page.peek ? shown.before : shown.mask;
  const before = mode === "difference" ? shown.before : null;
  const key = `${mask?.version} ${before?.version} ${look.key}`;
  if (composed.key !== key) {
    composed = { key, canvas: compose(mask?.labels ?? null, before?.labels ?? null, width, height, look) };
  }
  return composed.canvas;
}

function ink() {
  cancelAnimationFrame(inking);
  inking = 0;
  if (inkContext) paintInk(inkContext, viewport, shown.frame);
}

function message(text) {
  const badge = byId("view-badge");
  badge.textContent = text || (page.peek ? "Before" : "");
  badge.hidden = !badge.textContent;
}

watch(["peek"], () => byId("view-badge") && message(""));

/** Zooms or moves the picture and shows it. @param {(viewport: Viewport) => void} change */
export function moveView(change) {
  change(viewport);
  set({ crosshair: page.crosshair && [...page.crosshair] });
  requestPaint();
  dispatchEvent(new Event("mivos-zoom"));
}
