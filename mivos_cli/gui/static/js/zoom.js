/** The zoom buttons below the picture, and what their keys do. */

import { byId, setText } from "./dom.js";
import { page } from "./page.js";
import { moveView, viewport } from "./view.js";

const STEP = 1.4;

/** @param {1|-1} way */
export const zoomBy = (way) => moveView((view) => view.zoomTo(view.scale * (way > 0 ? STEP : 1 / STEP)));

/** Whole frame, or the whole local window. */
export const fitView = () => moveView((view) => (page.window ? view.fitBox(page.window) : view.fit()));

/** One pixel of the working size on one pixel of the screen. */
export const zoomActual = () => moveView((view) => view.zoomTo(view.ratio));

/** Starts the buttons. */
export function startZoom() {
  byId("zoom-in").onclick = () => zoomBy(1);
  byId("zoom-out").onclick = () => zoomBy(-1);
  byId("zoom-fit").onclick = fitView;
  byId("zoom-actual").onclick = zoomActual;
  const show = () => setText(byId("zoom-level"), `${Math.round((100 * viewport.scale) / viewport.ratio)} %`);
  addEventListener("mivos-zoom", show);
  new ResizeObserver(() => requestAnimationFrame(show)).observe(byId("viewer"));
}
