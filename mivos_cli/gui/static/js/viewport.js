/** Where the frame is in the canvas: zoom and pan, in device pixels. */

import { clamp } from "./dom.js";

export const MARGIN = 16; // css pixels around a frame that is fitted
const LARGEST = 32; // device pixels per pixel of the frame

/** Maps frame pixels to canvas pixels: canvas = frame * scale + offset. */
export class Viewport {
  constructor() {
    this.width = this.height = 1; // of the canvas, device pixels
    this.frameWidth = this.frameHeight = 1;
    this.ratio = 1; // device pixels per css pixel
    this.scale = 1;
    this.x = this.y = 0;
    this.fitted = true; // follows the size of the canvas until somebody zooms
  }

  /** The scale at which the whole frame is seen. */
  get fitScale() {
    const margin = 2 * MARGIN * this.ratio;
    return Math.max(0.01, Math.min((this.width - margin) / this.frameWidth, (this.height - margin) / this.frameHeight));
  }

  /** Whether a part of the frame is out of sight. */
  get zoomedIn() {
    return this.scale > this.fitScale * 1.02;
  }

  /** Device pixels of the canvas. @param {number} width @param {number} height @param {number} ratio */
  resize(width, height, ratio) {
    const [dx, dy] = [(width - this.width) / 2, (height - this.height) / 2];
    Object.assign(this, { width, height, ratio });
    if (this.fitted) return this.fit();
    this.x += dx;
    this.y += dy;
    this.settle();
  }

  /** Pixels of the frame. @param {number} width @param {number} height */
  frame(width, height) {
    if (this.frameWidth === width && this.frameHeight === height) return;
    Object.assign(this, { frameWidth: width, frameHeight: height });
    this.fit();
  }

  fit() {
    this.fitted = true;
    this.scale = this.fitScale;
    this.x = Math.round((this.width - this.frameWidth * this.scale) / 2);
    this.y = Math.round((this.height - this.frameHeight * this.scale) / 2);
  }

  /** Shows a part of the frame. @param {number[]} box [x0, y0, x1, y1] in fractions */
  fitBox([x0, y0, x1, y1]) {
    const margin = 3 * MARGIN * this.ratio;
    const [wide, high] = [(x1 - x0) * this.frameWidth, (y1 - y0) * this.frameHeight];
    this.scale = clamp(Math.min((this.width - 2 * margin) / wide, (this.height - 2 * margin) / high), 0.05, LARGEST);
    this.x = this.width / 2 - ((x0 + x1) / 2) * this.frameWidth * this.scale;
    this.y = this.height / 2 - ((y0 + y1) / 2) * this.frameHeight * this.scale;
    this.fitted = false;
  }

  /** Zooms to a scale, leaving the canvas point (x, y) where it is. */
  zoomTo(scale, x = this.width / 2, y = this.height / 2) {
    const wanted = clamp(scale, Math.min(this.fitScale, 1) / 2, LARGEST);
    this.x = x - ((x - this.x) * wanted) / this.scale;
    this.y = y - ((y - this.y) * wanted) / this.scale;
    this.scale = wanted;
    this.fitted = false;
    this.settle();
  }

  /** Moves by device pixels. */
  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.settle();
  }

  /** Keeps a part of the frame in sight: nobody should have to look for it. */
  settle() {
    const keep = 48 * this.ratio;
    this.x = clamp(this.x, keep - this.frameWidth * this.scale, this.width - keep);
    this.y = clamp(this.y, keep - this.frameHeight * this.scale, this.height - keep);
  }

  /** Canvas point of a point in fractions. @returns {[number, number]} */
  toCanvas(fx, fy) {
    return [this.x + fx * this.frameWidth * this.scale, this.y + fy * this.frameHeight * this.scale];
  }

  /** Fractions of a canvas point; outside the frame below 0 or above 1. @returns {[number, number]} */
  toFraction(x, y) {
    return [(x - this.x) / (this.frameWidth * this.scale), (y - this.y) / (this.frameHeight * this.scale)];
  }

  /** The part of the frame in sight, in fractions. @returns {number[]} [x0, y0, x1, y1] */
  visible() {
    const [x0, y0] = this.toFraction(0, 0);
    const [x1, y1] = this.toFraction(this.width, this.height);
    return [clamp(x0, 0, 1), clamp(y0, 0, 1), clamp(x1, 0, 1), clamp(y1, 0, 1)];
  }
}
