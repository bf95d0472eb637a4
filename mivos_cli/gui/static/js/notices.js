/** What the page tells: toasts at the lower left, the banner above the picture, questions. */

import { byId, el, icon } from "./dom.js";

const BRIEF = 1800; // ms on screen
const USUAL = 5000;
const LONG = 10000; // errors
const MOST = 4;
const ICONS = { info: "info", good: "check", warning: "warning", error: "warning" };

/**
 * Shows a message for a while.
 * @param {Object} what
 * @param {string} what.text one line
 * @param {string|null} [what.hint] what to do about it
 * @param {"info"|"good"|"warning"|"error"} [what.level]
 * @param {string} [what.key] replaces the message of the same key
 * @param {boolean} [what.brief] gone soon
 * @param {{label: string, run: () => void}} [what.action] a button
 */
export function toast({ text, hint = null, level = "info", key = text, brief = false, action = null }) {
  const box = byId("toasts");
  const same = [...box.children].find((child) => child.dataset.of === key);
  const made = el("div", {
    class: `toast ${level}`,
    test: "toast",
    role: level === "error" ? "alert" : "status",
    "data-level": level,
  });
  made.dataset.of = key;
  const close = () => made.remove();
  made.append(icon(ICONS[level]), el("p", {}, text, hint ? el("small", {}, hint) : null));
  if (action)
    made.append(el("button", { class: "button small", on: { click: () => (close(), action.run()) } }, action.label));
  if (!brief)
    made.append(
      el("button", {
        class: "button quiet icon-only",
        icon: "close",
        "aria-label": "Close the message",
        on: { click: close },
      }),
    );
  if (same) same.replaceWith(made);
  else box.append(made);
  while (box.children.length > MOST) box.firstChild.remove();
  let timer = 0;
  const start = () => (timer = setTimeout(close, brief ? BRIEF : level === "error" || action ? LONG : USUAL));
  made.addEventListener("pointerenter", () => clearTimeout(timer)); // somebody is reading it
  made.addEventListener("pointerleave", start);
  start();
}

/**
 * Shows what went wrong.
 * @param {Error & {hint?: string|null, status?: number}} error
 * @param {string} [what] was tried
 */
export function tell(error, what = "") {
  if (error.status === 0) return toast({ text: error.message, level: "warning", key: "connection" });
  toast({ text: what ? `${what}: ${error.message}` : error.message, hint: error.hint, level: "error" });
}

/**
 * Runs something that talks to the server and shows its failure.
 * @template T @param {() => Promise<T>} work @param {string} [what] was tried
 * @returns {Promise<T|undefined>}
 */
export async function attempt(work, what) {
  try {
    return await work();
  } catch (error) {
    tell(error, what);
  }
}

/**
 * Shows the banner, or hides it.
 * @param {null|{text: string, hint?: string, level?: "info"|"warning", icon?: string, key: string,
 *   buttons: {label: string, test?: string, class?: string, run: () => void}[]}} what
 */
export function banner(what) {
  const box = byId("banner");
  const said = what ? JSON.stringify([what.key, what.text, what.hint, what.buttons.map((one) => one.label)]) : "";
  if (box.dataset.said === said) return;
  box.dataset.said = said;
  box.hidden = !what;
  if (!what) return box.replaceChildren();
  const buttons = what.buttons.map((one) =>
    el("button", { class: `button small ${one.class ?? ""}`, test: one.test, on: { click: one.run } }, one.label),
  );
  box.className = `banner ${what.level ?? "info"}`;
  box.replaceChildren(
    icon(what.icon ?? (what.level === "warning" ? "warning" : "info")),
    el("p", {}, what.text, what.hint ? el("small", {}, what.hint) : null),
    el("div", { class: "group" }, ...buttons),
  );
}

/** Whether a dialog is open, so that keys belong to it. */
export const isOpen = () => document.querySelector("dialog[open]") !== null;

/**
 * Asks before something that is hard to take back.
 * @param {{title: string, text: string, yes: string}} question
 * @returns {Promise<boolean>}
 */
export function confirm({ title, text, yes }) {
  const dialog = byId("confirm-dialog");
  return new Promise((answer) => {
    const close = (value) => () => dialog.close(value);
    dialog.replaceChildren(
      el("header", {}, el("h1", { id: "confirm-title" }, title)),
      el("div", { class: "body" }, el("p", {}, text)),
      el(
        "footer",
        {},
        el("button", { class: "button", test: "confirm-no", autofocus: true, on: { click: close("no") } }, "Cancel"),
        el("button", { class: "button danger", test: "confirm-yes", on: { click: close("yes") } }, yes),
      ),
    );
    dialog.returnValue = "no";
    dialog.onclose = () => answer(dialog.returnValue === "yes");
    dialog.showModal();
  });
}
