/** Strokes, clicks, cursors and the local window: everything that is drawn above the picture. */

import { knownDraft } from "./frames.js";
import { objectOf, page } from "./page.js";
import { waiting } from "./outbox.js";

/** What the pointer is doing; `pointer.js` writes it. */
export const hand = {
  live: null, // the action being drawn
  box: null, // [x0, y0, x1, y1] of a window being dragged
  cursor: null, // [x, y] of the pointer in fractions, while it is above the picture
};

const BACKGROUND = "#e8eaee"; // strokes that belong to no object
const FIRST = "#e6194b"; // what the server gives the first object, which the first stroke makes
const LINE = 3; // css pixels
const CASING = 6; // the same with the border that keeps a stroke visible on every ground
const SAVED_KINDS = new Set(["scribble", "click", "lasso"]); // of brush strokes the mask says it all

const lingering = new Map(); // frame -> actions that the server has computed but whose mask is not here yet

/** Keeps an action on screen until its mask is. @param {Object} action */
export function linger(action) {
  lingering.set(action.frame, [...(lingering.get(action.frame) ?? []), action]);
}

/** The mask of a frame has arrived. @param {number} frame */
export function clearInk(frame) {
  lingering.delete(frame);
}

/**
 * Paints everything.
 * @param {CanvasRenderingContext2D} context
 * @param {import("./viewport.js").Viewport} viewport
 * @param {number} frame the one on screen
 */
export function paintInk(context, viewport, frame) {
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  if (frame < 0 || page.peek) return;
  context.lineCap = context.lineJoin = "round";
  if (page.window) shade(context, viewport, page.window);
  const coming = [...(lingering.get(frame) ?? []), ...waiting(frame)];
  if (page.strokes && !page.playing) {
    const ids = new Set(coming.map((action) => action.id));
    for (const action of knownDraft(frame)) {
      if (SAVED_KINDS.has(action.kind) && !ids.has(action.id)) stroke(context, viewport, action, false);
    }
  }
  for (const action of coming) stroke(context, viewport, action, true);
  if (hand.live && hand.live.frame === frame) stroke(context, viewport, hand.live, true);
  if (hand.box) frameBox(context, viewport, hand.box, true);
  if (hand.cursor) cursor(context, viewport);
  if (page.crosshair) crosshair(context, viewport);
}

function stroke(context, viewport, action, fresh) {
  if (!action.path?.length) return;
  const colour = action.object ? (objectOf(action.object)?.colour ?? FIRST) : BACKGROUND;
  const points = action.path.map(([x, y]) => viewport.toCanvas(x, y));
  if (action.kind === "click") return dot(context, viewport.ratio, points[0], colour, action.positive);
  if (action.kind === "brush") return paintStroke(context, viewport, points, action, colour);
  const path = trace(points, action.kind === "lasso");
  const { ratio } = viewport;
  context.globalAlpha = fresh ? 1 : 0.85;
  context.strokeStyle = action.positive ? "rgb(255 255 255 / 0.9)" : "rgb(12 13 15 / 0.9)";
  context.lineWidth = (action.kind === "lasso" ? CASING - 2 : CASING) * ratio;
  context.stroke(path);
  if (action.kind === "lasso") {
    context.fillStyle = colour;
    context.globalAlpha = fresh ? 0.3 : 0;
    context.fill(path);
    context.globalAlpha = fresh ? 1 : 0.85;
  }
  context.strokeStyle = colour;
  context.lineWidth = (action.kind === "lasso" ? LINE - 1 : LINE) * ratio;
  // what takes away is dashed: it is not told by colour alone
  if (!action.positive) context.setLineDash([5 * ratio, 6 * ratio]);
  context.stroke(path);
  context.setLineDash([]);
  context.globalAlpha = 1;
}

function paintStroke(context, viewport, points, action, colour) {
  const width = 2 * action.radius * viewport.frameHeight * viewport.scale;
  context.save();
  context.beginPath();
  context.rect(...viewport.toCanvas(0, 0), viewport.frameWidth * viewport.scale, viewport.frameHeight * viewport.scale);
  context.clip();
  context.globalAlpha = 0.55;
  context.strokeStyle = action.positive && action.object ? colour : "#17181b";
  context.lineWidth = width;
  context.stroke(trace(points, false));
  context.restore();
}

function dot(context, ratio, [x, y], colour, positive) {
  context.beginPath();
  context.arc(x, y, 7 * ratio, 0, 7);
  context.fillStyle = colour;
  context.fill();
  context.lineWidth = 2 * ratio;
  context.strokeStyle = positive ? "#fff" : "#101114";
  context.stroke();
  context.beginPath();
  context.moveTo(x - 3 * ratio, y);
  context.lineTo(x + 3 * ratio, y);
  if (positive) {
    context.moveTo(x, y - 3 * ratio);
    context.lineTo(x, y + 3 * ratio);
  }
  context.stroke();
}

function trace(points, closed) {
  const path = new Path2D();
  path.moveTo(...points[0]);
  for (const point of points.slice(1)) path.lineTo(...point);
  if (points.length === 1) path.lineTo(points[0][0] + 0.01, points[0][1]);
  if (closed) path.closePath();
  return path;
}

function shade(context, viewport, [x0, y0, x1, y1]) {
  const [left, top] = viewport.toCanvas(x0, y0);
  const [right, bottom] = viewport.toCanvas(x1, y1);
  context.fillStyle = "rgb(8 9 11 / 0.6)";
  context.beginPath();
  context.rect(0, 0, context.canvas.width, context.canvas.height);
  context.rect(left, top, right - left, bottom - top);
  context.fill("evenodd");
  frameBox(context, viewport, [x0, y0, x1, y1], false);
}

function frameBox(context, viewport, [x0, y0, x1, y1], dashed) {
  const [left, top] = viewport.toCanvas(x0, y0);
  const [right, bottom] = viewport.toCanvas(x1, y1);
  const { ratio } = viewport;
  context.lineWidth = 3 * ratio;
  context.strokeStyle = "rgb(0 0 0 / 0.6)";
  context.strokeRect(left, top, right - left, bottom - top);
  context.lineWidth = 1.5 * ratio;
  context.strokeStyle = "#fff";
  if (dashed) context.setLineDash([6 * ratio, 4 * ratio]);
  context.strokeRect(left, top, right - left, bottom - top);
  context.setLineDash([]);
}

function cursor(context, viewport) {
  const [x, y] = viewport.toCanvas(...hand.cursor);
  const { ratio } = viewport;
  const erasing = page.tool === "eraser" || page.object === 0;
  if (page.tool !== "brush" && page.tool !== "eraser") return;
  const radius = Math.max(1.5 * ratio, (page.brush / 2) * viewport.scale);
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.lineWidth = 3 * ratio;
  context.strokeStyle = "rgb(0 0 0 / 0.55)";
  context.stroke();
  context.lineWidth = 1.5 * ratio;
  context.strokeStyle = erasing ? "#fff" : (objectOf(page.object)?.colour ?? "#fff");
  if (erasing) context.setLineDash([4 * ratio, 3 * ratio]);
  context.stroke();
  context.setLineDash([]);
}

function crosshair(context, viewport) {
  const [x, y] = viewport.toCanvas(...page.crosshair).map(Math.round);
  const { ratio } = viewport;
  for (const [width, style] of [
    [3, "rgb(0 0 0 / 0.6)"],
    [1, "#fff"],
  ]) {
    context.lineWidth = width * ratio;
    context.strokeStyle = style;
    context.beginPath();
    for (const [dx, dy] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ]) {
      context.moveTo(x + 5 * ratio * dx, y + 5 * ratio * dy);
      context.lineTo(x + 20 * ratio * dx, y + 20 * ratio * dy);
    }
    context.stroke();
  }
}
