/** What the mouse, the pen and fingers do on the picture. */

import { byId, clamp } from "./dom.js";
import { backgroundSign, draw, enterWindow, mayDraw, setBrush } from "./commands.js";
import { hand } from "./ink.js";
import { page, set, watch } from "./page.js";
import { DRAWING } from "./tools.js";
import { moveView, requestInk, viewport } from "./view.js";

const NEAR = 0.6; // pixels of the frame: points closer than this to the last one add nothing
const LONGEST = 8000; // points of a stroke
const SMALLEST_BOX = 0.02; // of width or height: a smaller window is a slip of the hand
const STEP = 1.25; // zoom per notch of the wheel

const held = { space: false, panned: false };
const fingers = new Map(); // touches on the picture: two of them move and zoom it
let drag = null; // {kind: "pan"|"draw"|"box", pointer, ...}

/** Starts listening. */
export function startPointer() {
  const view = byId("view");
  view.addEventListener("contextmenu", (event) => event.preventDefault());
  view.addEventListener("pointerdown", down);
  view.addEventListener("pointermove", move);
  view.addEventListener("pointerup", up);
  view.addEventListener("pointercancel", (event) => (fingers.delete(event.pointerId), cancelDrag()));
  view.addEventListener("pointerleave", () => ((hand.cursor = null), requestInk()));
  view.addEventListener("wheel", wheel, { passive: false });
  view.addEventListener("auxclick", (event) => event.preventDefault());
  watch(["tool", "online", "server", "playing"], showCursor);
}

/**
 * The space bar: while it is held, dragging moves the picture.
 * @param {boolean} down
 * @returns {boolean} whether something was dragged since it went down
 */
export function holdSpace(down) {
  if (down && !held.space) held.panned = false;
  held.space = down;
  showCursor();
  return held.panned;
}

/** Drops a stroke or box that is being drawn. @returns {boolean} whether there was one */
export function cancelDrag() {
  const had = Boolean(hand.live || hand.box);
  drag = null;
  hand.live = hand.box = null;
  showCursor();
  requestInk();
  return had;
}

function point(event) {
  const box = byId("view").getBoundingClientRect();
  return [(event.clientX - box.left) * viewport.ratio, (event.clientY - box.top) * viewport.ratio];
}

const inside = ([x, y]) => [clamp(x, 0, 1), clamp(y, 0, 1)];

function down(event) {
  byId("view").focus({ preventScroll: true });
  set({ crosshair: null });
  if (event.pointerType === "touch") {
    fingers.set(event.pointerId, point(event));
    if (fingers.size === 2) return cancelDrag();
  }
  if (drag || fingers.size > 1) return;
  const pan = event.button === 1 || held.space || page.tool === "pan";
  if (!pan && event.button !== 0 && event.button !== 2 && event.button !== 5) return;
  event.preventDefault();
  byId("view").setPointerCapture(event.pointerId);
  const at = point(event);
  const pointer = event.pointerId;
  if (pan) {
    drag = { kind: "pan", pointer, at };
    held.panned = held.space;
  } else if (page.tool === "window") {
    drag = { kind: "box", pointer, from: inside(viewport.toFraction(...at)) };
  } else if (DRAWING.has(page.tool) && mayDraw()) {
    drag = { kind: "draw", pointer };
    // button 5 is the eraser at the other end of a pen
    hand.live = begin(inside(viewport.toFraction(...at)), event.button === 0);
  }
  showCursor();
  requestInk();
}

function begin(start, positive) {
  const { tool, frame, object } = page;
  const action = {
    frame,
    kind: tool === "eraser" ? "brush" : tool,
    object,
    positive: positive !== (tool === "eraser"),
    path: [start],
    window: page.window,
  };
  if (object === 0) action.positive = backgroundSign(action.kind);
  if (action.kind === "brush") action.radius = page.brush / 2 / viewport.frameHeight;
  if (action.kind === "click") action.refine = page.refine && Boolean(page.server.can_refine);
  return action;
}

function move(event) {
  const at = point(event);
  if (fingers.has(event.pointerId)) {
    if (fingers.size === 2) return pinch(event.pointerId, at);
    fingers.set(event.pointerId, at);
  }
  hand.cursor = event.pointerType === "touch" ? null : viewport.toFraction(...at);
  if (drag?.pointer === event.pointerId) {
    if (drag.kind === "pan") {
      const [dx, dy] = [at[0] - drag.at[0], at[1] - drag.at[1]];
      drag.at = at;
      return moveView((view) => view.pan(dx, dy));
    }
    if (drag.kind === "box") hand.box = boxOf(drag.from, inside(viewport.toFraction(...at)));
    else extend(event);
  }
  requestInk();
}

function extend(event) {
  if (!hand.live) return;
  if (hand.live.kind === "click") return; // it is where it was pressed
  // a fast hand moves on between two refreshes of the screen; the browser keeps the points in between
  const steps = event.getCoalescedEvents?.() ?? [];
  for (const step of steps.length ? steps : [event]) add(inside(viewport.toFraction(...point(step))));
}

function add([x, y]) {
  const { path } = hand.live;
  const [lastX, lastY] = path.at(-1);
  const far = Math.hypot((x - lastX) * viewport.frameWidth, (y - lastY) * viewport.frameHeight);
  if (far >= NEAR && path.length < LONGEST) path.push([x, y]);
}

function up(event) {
  fingers.delete(event.pointerId);
  if (drag?.pointer !== event.pointerId) return;
  const ended = drag;
  const { live, box } = hand;
  cancelDrag();
  if (ended.kind === "box" && box && box[2] - box[0] > SMALLEST_BOX && box[3] - box[1] > SMALLEST_BOX) enterWindow(box);
  if (ended.kind === "draw" && live && (live.kind !== "lasso" || live.path.length > 2)) draw(live);
}

function pinch(pointer, at) {
  const other = [...fingers].find(([id]) => id !== pointer)[1];
  const was = fingers.get(pointer);
  fingers.set(pointer, at);
  const apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
  const middle = [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2];
  moveView((view) => {
    view.pan((at[0] - was[0]) / 2, (at[1] - was[1]) / 2);
    view.zoomTo((view.scale * apart(at)) / apart(was), ...middle);
  });
}

function wheel(event) {
  event.preventDefault();
  if (event.altKey) return setBrush(page.brush * (event.deltaY < 0 ? 1.15 : 1 / 1.15), event.deltaY < 0 ? 1 : -1);
  const at = point(event);
  // A pad pinches as a wheel with Ctrl, and scrolls finely or sideways; a wheel comes in notches, straight.
  const notch = event.deltaMode !== 0 || (event.deltaX === 0 && Math.abs(event.deltaY) >= 80);
  if (event.ctrlKey && !notch) moveView((view) => view.zoomTo(view.scale * Math.exp(-event.deltaY / 100), ...at));
  else if (event.ctrlKey || (notch && !event.shiftKey)) {
    moveView((view) => view.zoomTo(view.scale * (event.deltaY < 0 ? STEP : 1 / STEP), ...at));
  } else {
    const [dx, dy] = event.shiftKey && !event.deltaX ? [event.deltaY, 0] : [event.deltaX, event.deltaY];
    moveView((view) => view.pan(-dx * view.ratio, -dy * view.ratio));
  }
  hand.cursor = viewport.toFraction(...at);
}

function boxOf([ax, ay], [bx, by]) {
  return [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
}

function showCursor() {
  const view = byId("view");
  let cursor = "";
  if (drag?.kind === "pan") cursor = "grabbing";
  else if (held.space || page.tool === "pan") cursor = "grab";
  else if (page.tool === "brush" || page.tool === "eraser") cursor = "none";
  if (view.dataset.cursor !== cursor) view.dataset.cursor = cursor;
}
