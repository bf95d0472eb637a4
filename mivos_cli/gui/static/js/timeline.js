/** The timeline: scrubbing, marks that attract the pointer, zoom for long videos, and its keys as a slider. */

import { byId, clamp, setText } from "./dom.js";
import { number, timecode } from "./format.js";
import { available, goTo, markedFrames } from "./go.js";
import { liveFrames, page, watch } from "./page.js";
import { takePick } from "./propagation.js";
import { forgetColours, lanes, MARKS, paintStrip } from "./strip.js";
import { onTheme } from "./theme.js";
import { startThumbs, thumbsFor } from "./thumbs.js";

const SIDE = 16; // css pixels left and right of the video
const FEWEST = 24; // frames in sight when zoomed in
const NEAR = 6; // css pixels within which a mark attracts the pointer
const THUMB_WAIT = 120; // ms without change before thumbnails are asked for

let box, context;
let size = { width: 1, height: 1 };
let range = [0, 1]; // frames in sight, [first, end) with fractions
let total = 0;
let painting = 0;
let settled = true; // whether the range has stood still for a moment
let timer = 0;
let project = null;

/** Starts the timeline. */
export function startTimeline() {
  box = byId("timeline");
  context = byId("strip").getContext("2d", { alpha: false });
  startThumbs(repaint);
  new ResizeObserver(resize).observe(box);
  onTheme(() => {
    forgetColours();
    repaint();
  });
  box.addEventListener("pointerdown", down);
  box.addEventListener("pointermove", move);
  box.addEventListener("pointerup", up);
  box.addEventListener("pointerleave", () => (byId("hover-mark").hidden = true));
  box.addEventListener("wheel", wheel, { passive: false });
  byId("time-in").onclick = () => zoom(0.5, middle());
  byId("time-out").onclick = () => zoom(2, middle());
  byId("time-fit").onclick = () => setRange(0, total);
  watch(["server", "confidence", "live"], takeServer);
  watch(["frame"], keepInSight);
  watch(["frame", "server"], showPlayhead);
  watch(["picking"], () => (box.dataset.pick = String(page.picking)));
}

const inner = () => Math.max(1, size.width - 2 * SIDE);
const xOf = (frame) => SIDE + ((frame - range[0]) / (range[1] - range[0])) * inner();
const frameAt = (x) => range[0] + ((x - SIDE) / inner()) * (range[1] - range[0]);
const centreOf = (frame) => xOf(frame + 0.5);
const middle = () => (page.frame >= range[0] && page.frame < range[1] ? page.frame : (range[0] + range[1]) / 2);

function takeServer() {
  if (!page.server) return;
  if (project !== page.project || total !== page.server.frames) {
    project = page.project;
    total = page.server.frames;
    range = [0, Math.max(1, total)];
  }
  repaint();
}

function resize() {
  const { width, height } = box.getBoundingClientRect();
  const ratio = devicePixelRatio || 1;
  size = { width, height };
  Object.assign(byId("strip"), { width: Math.round(width * ratio), height: Math.round(height * ratio) });
  paint();
  showPlayhead();
}

function repaint() {
  painting ||= requestAnimationFrame(paint);
}

function paint() {
  painting = 0;
  if (!page.server || size.width < 2) return;
  const ratio = devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const { server, confidence } = page;
  paintStrip(context, { ...size, x: xOf, frameAt, server, confidence, live: liveFrames, thumbs: thumbs() });
}

/** Pictures side by side; each shows the frame in its middle. They keep their places while the range stands still. */
function thumbs() {
  const { server } = page;
  const height = lanes(size.height).thumbs[1];
  if (height < 12 || !settled) return [];
  const width = (height * server.width) / server.height;
  const places = [];
  const end = Math.min(size.width, xOf(total));
  for (let x = Math.max(xOf(0), xOf(0) + Math.floor((0 - xOf(0)) / width) * width); x < end; x += width) {
    const frame = clamp(Math.floor(frameAt(x + width / 2)), 0, total - 1);
    if (frame < available()) places.push({ frame, x, width });
  }
  return thumbsFor(places);
}

function setRange(from, to) {
  const span = clamp(to - from, Math.min(FEWEST, total), total);
  const start = clamp(from, 0, total - span);
  range = [start, start + span];
  settled = false;
  clearTimeout(timer);
  timer = setTimeout(() => {
    settled = true;
    repaint();
  }, THUMB_WAIT);
  repaint();
  showPlayhead();
}

function zoom(factor, frame) {
  const span = clamp((range[1] - range[0]) * factor, Math.min(FEWEST, total), total);
  const part = (frame - range[0]) / (range[1] - range[0]);
  setRange(frame - part * span, frame - part * span + span);
}

function wheel(event) {
  event.preventDefault();
  const sideways = event.shiftKey ? event.deltaY : event.deltaX;
  if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
    const frames = (sideways / inner()) * (range[1] - range[0]);
    setRange(range[0] + frames, range[1] + frames);
    return showHover(event);
  }
  zoom(Math.exp(clamp(event.deltaY, -120, 120) / 300), clamp(frameAt(local(event)[0]), 0, total));
  showHover(event);
}

function local(event) {
  const at = box.getBoundingClientRect();
  return [event.clientX - at.left, event.clientY - at.top];
}

function frameOf(event) {
  const [x, y] = local(event);
  const frame = clamp(Math.floor(frameAt(x)), 0, Math.max(0, total - 1));
  if (y < size.height - MARKS - 2) return frame;
  const marks = [...markedFrames(), ...(page.server.suggestion == null ? [] : [page.server.suggestion])];
  const near = marks
    .filter((one) => Math.abs(centreOf(one) - x) <= NEAR)
    .sort((a, b) => Math.abs(centreOf(a) - x) - Math.abs(centreOf(b) - x));
  return near[0] ?? frame;
}

function down(event) {
  if (event.button !== 0) return;
  if (page.picking) return takePick(frameOf(event));
  box.setPointerCapture(event.pointerId);
  box.focus({ preventScroll: true });
  goTo(frameOf(event));
}

function move(event) {
  if (!page.server) return;
  if (box.hasPointerCapture(event.pointerId)) {
    const [x] = local(event);
    // beyond the edge the range moves along
    const push = x < 0 ? x : x > size.width ? x - size.width : 0;
    const frames = (push / inner()) * (range[1] - range[0]) * 0.2;
    if (push) setRange(range[0] + frames, range[1] + frames);
    goTo(frameOf(event));
  }
  showHover(event);
}

function showHover(event) {
  const frame = frameOf(event);
  const mark = byId("hover-mark");
  mark.hidden = false;
  place(mark, byId("hover-label"), frame);
  setText(byId("hover-label"), `${number(frame)} · ${timecode(frame, page.server.fps, total)}`);
}

function up(event) {
  if (box.hasPointerCapture(event.pointerId)) box.releasePointerCapture(event.pointerId);
}

function place(element, label, frame) {
  const x = centreOf(frame);
  element.style.transform = `translateX(${x.toFixed(1)}px)`;
  // near an edge the label moves inwards, the line stays
  const half = label.offsetWidth / 2 || 16;
  label.style.setProperty("--nudge", `${clamp(x, half + 4, Math.max(half + 4, size.width - half - 4)) - x}px`);
}

/** The strip moves along with the frame: turned like a page while playing, else just as far as needed. */
function keepInSight() {
  const { frame, playing } = page;
  if (!page.server || (frame >= range[0] && frame < range[1])) return;
  const span = range[1] - range[0];
  const from = playing ? frame : frame < range[0] ? frame - span * 0.1 : frame - span * 0.9;
  setRange(from, from + span);
}

function showPlayhead() {
  if (!page.server) return;
  const { frame, server } = page;
  byId("playhead").hidden = frame < range[0] || frame >= range[1]; // somebody looks at another part of the strip
  setText(byId("playhead-label"), number(frame));
  place(byId("playhead"), byId("playhead-label"), frame);
  box.setAttribute("aria-valuemax", String(Math.max(0, server.frames - 1)));
  box.setAttribute("aria-valuenow", String(frame));
  box.setAttribute("aria-valuetext", `frame ${frame}, ${timecode(frame, server.fps, server.frames)}`);
}
