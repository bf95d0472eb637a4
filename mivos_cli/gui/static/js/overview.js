/** The small map of the whole frame in the corner while a part of it is out of sight. */

import { byId } from "./dom.js";

const WIDTH = 168; // css pixels
const TALLEST = 140;

/**
 * Paints the map, or hides it where the whole frame is seen.
 * @param {import("./viewport.js").Viewport} viewport
 * @param {ImageBitmap} bitmap
 * @param {HTMLCanvasElement|null} overlay
 */
export function paintOverview(viewport, bitmap, overlay) {
  const canvas = byId("overview");
  canvas.hidden = !viewport.zoomedIn;
  if (canvas.hidden) return;
  const scale = Math.min(WIDTH / bitmap.width, TALLEST / bitmap.height);
  const [cssWidth, cssHeight] = [Math.round(bitmap.width * scale), Math.round(bitmap.height * scale)];
  const [width, height] = [Math.round(cssWidth * viewport.ratio), Math.round(cssHeight * viewport.ratio)];
  if (canvas.width !== width || canvas.height !== height) {
    Object.assign(canvas, { width, height });
    Object.assign(canvas.style, { width: `${cssWidth}px`, height: `${cssHeight}px` });
  }
  const context = canvas.getContext("2d", { alpha: false });
  context.drawImage(bitmap, 0, 0, width, height);
  if (overlay) context.drawImage(overlay, 0, 0, width, height);
  const [x0, y0, x1, y1] = viewport.visible();
  context.fillStyle = "rgb(0 0 0 / 0.5)";
  context.beginPath();
  context.rect(0, 0, width, height);
  context.rect(x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height);
  context.fill("evenodd");
  context.strokeStyle = "#fff";
  context.lineWidth = viewport.ratio;
  context.strokeRect(x0 * width + 0.5, y0 * height + 0.5, (x1 - x0) * width - 1, (y1 - y0) * height - 1);
}

/**
 * Dragging in the map moves the picture.
 * @param {(change: (viewport: import("./viewport.js").Viewport) => void) => void} moveView
 */
export function startOverview(moveView) {
  const canvas = byId("overview");
  const centre = (event) => {
    const box = canvas.getBoundingClientRect();
    const [fx, fy] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    moveView((viewport) => {
      const [x, y] = viewport.toCanvas(fx, fy);
      viewport.pan(viewport.width / 2 - x, viewport.height / 2 - y);
    });
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    centre(event);
  });
  canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && centre(event));
}
