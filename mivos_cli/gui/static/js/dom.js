/** Making and finding elements. No innerHTML anywhere: names of files and objects are text, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/** @param {string} id @returns {HTMLElement} the element of that id */
export const byId = (id) => document.getElementById(id);

/**
 * An icon of icons.svg (see `loadIcons`).
 * @param {string} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/**
 * Makes an element.
 * @param {string} tag
 * @param {Object<string, any>} [props] `class`, `icon`, `test` (data-testid), `tip`, `key`, `colour` (sets --colour),
 *   `on` ({event: listener}); others become attributes, booleans set or leave them out
 * @param {...(Node|string|null|undefined)} children
 * @returns {HTMLElement}
 */
export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  const { class: className, icon: iconName, test, tip, key, colour, on = {}, ...attributes } = props;
  if (className) made.className = className;
  if (iconName) made.append(icon(iconName));
  if (test) made.dataset.testid = test;
  if (tip) made.dataset.tip = tip;
  if (key) made.dataset.key = key;
  if (colour) made.style.setProperty("--colour", colour);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  for (const [event, listener] of Object.entries(on)) made.addEventListener(event, listener);
  made.append(...children.filter((child) => child != null));
  return made;
}

/**
 * Changes which icon a button shows.
 * @param {HTMLElement} button
 * @param {string} name
 */
export function setIcon(button, name) {
  if (button.dataset.icon === name && button.querySelector(".icon")) return;
  button.dataset.icon = name;
  button.querySelector(".icon")?.remove();
  button.prepend(icon(name));
}

/** Takes the drawings of icons.svg into the page; icons made before and after show them. */
export async function loadIcons() {
  const answer = await fetch("icons.svg");
  const drawings = new DOMParser().parseFromString(await answer.text(), "image/svg+xml").documentElement;
  drawings.setAttribute("class", "drawings");
  document.body.prepend(document.importNode(drawings, true));
}

/** Puts the icons into all elements of the page that name one. */
export function dressIcons() {
  for (const found of document.querySelectorAll("[data-icon]")) setIcon(found, found.dataset.icon);
}

/**
 * Sets text only where it differs, so that nothing is laid out anew for nothing.
 * @param {HTMLElement} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Sets a range input and the filled part of its track.
 * @param {HTMLInputElement} input
 * @param {number} value
 */
export function setRange(input, value) {
  input.value = String(value);
  const [low, high] = [Number(input.min), Number(input.max)];
  input.style.setProperty("--at", `${(100 * (value - low)) / (high - low)}%`);
}

/** @param {number} value @param {number} low @param {number} high */
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** Whether typing goes into this element, so that keys must be left to it. @param {Element} element */
export function takesText(element) {
  return (
    element instanceof HTMLElement &&
    element.matches("input:not([type=range], [type=checkbox], [type=color]), textarea, select")
  );
}
