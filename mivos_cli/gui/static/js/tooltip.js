/** Tooltips: what a button does, and its key. They come after a moment with the mouse and at once with the keyboard. */

import { clamp, el } from "./dom.js";
import { keyLabel } from "./keymap.js";

const WAIT = 450; // ms
const AGAIN = 300; // ms after one has gone in which the next comes without waiting

let box = null;
let timer = 0;
let gone = 0;
let owner = null;

/** Starts listening. Elements say `data-tip`, and `data-key` if a key does the same. */
export function startTooltips() {
  // as a popover it is above open dialogs and menus
  box = el("div", { class: "tip", popover: "manual", role: "tooltip" });
  document.body.append(box);
  addEventListener("pointerover", (event) => enter(event.target, event.pointerType === "touch" ? -1 : WAIT));
  addEventListener("focusin", (event) => event.target.matches?.(":focus-visible") && enter(event.target, 0));
  addEventListener("focusout", hide);
  addEventListener("pointerdown", hide, true);
  addEventListener("keydown", hide, true);
  addEventListener("wheel", hide, { capture: true, passive: true });
}

function enter(target, wait) {
  const found = target.closest?.("[data-tip]") ?? null;
  if (found === owner) return;
  hide();
  if (!found || wait < 0) return;
  owner = found;
  timer = setTimeout(show, Date.now() - gone < AGAIN ? 0 : wait);
}

function show() {
  if (!owner?.isConnected || !owner.dataset.tip) return;
  const key = owner.dataset.key;
  box.replaceChildren(el("span", {}, owner.dataset.tip), key ? el("kbd", {}, keyLabel(key)) : "");
  box.showPopover();
  const [at, own] = [owner.getBoundingClientRect(), box.getBoundingClientRect()];
  const beside = owner.dataset.side === "right";
  const below = at.bottom + 8 + own.height < innerHeight;
  const left = beside ? at.right + 8 : at.left + at.width / 2 - own.width / 2;
  const top = beside ? at.top + at.height / 2 - own.height / 2 : below ? at.bottom + 6 : at.top - own.height - 6;
  box.style.left = `${clamp(left, 8, innerWidth - own.width - 8)}px`;
  box.style.top = `${clamp(top, 8, innerHeight - own.height - 8)}px`;
}

function hide() {
  clearTimeout(timer);
  if (box.matches(":popover-open")) {
    box.hidePopover();
    gone = Date.now();
  }
  owner = null;
}
