/** Menus that hang below their button. The browser's popover closes them on Esc and on a press elsewhere. */

import { byId, clamp, el } from "./dom.js";

/**
 * Places a menu when it opens and lets arrow keys walk in it.
 * @param {string} menuId
 * @param {string} buttonId
 * @param {() => HTMLElement[]} items made anew each time
 */
export function startMenu(menuId, buttonId, items) {
  const [menu, button] = [byId(menuId), byId(buttonId)];
  menu.addEventListener("beforetoggle", (event) => {
    button.setAttribute("aria-expanded", String(event.newState === "open"));
    if (event.newState === "open") menu.replaceChildren(...items());
  });
  menu.addEventListener("toggle", (event) => {
    if (event.newState !== "open") return;
    const [at, own] = [button.getBoundingClientRect(), menu.getBoundingClientRect()];
    menu.style.top = `${at.bottom + 4}px`;
    menu.style.left = `${clamp(at.right - own.width, 8, innerWidth - own.width - 8)}px`;
    menu.querySelector("button:not(:disabled), input")?.focus();
  });
  menu.addEventListener("keydown", (event) => {
    const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!way || event.target.matches("input[type=range]")) return;
    event.preventDefault();
    const all = [...menu.querySelectorAll("button:not(:disabled), input")];
    all[(all.indexOf(document.activeElement) + way + all.length) % all.length]?.focus();
  });
}

/**
 * A line of a menu with a switch.
 * @param {{text: string, hint?: string, test?: string, key?: string, checked: boolean,
 *   change: (on: boolean) => void}} what
 */
export function menuCheck({ text, hint, test, key, checked, change }) {
  const input = el("input", {
    type: "checkbox",
    test,
    checked,
    on: { change: (event) => change(event.target.checked) },
  });
  return el(
    "label",
    { class: "check" },
    input,
    el("span", {}, text),
    key ? el("kbd", {}, key) : el("span"),
    hint ? el("small", {}, hint) : null,
  );
}
