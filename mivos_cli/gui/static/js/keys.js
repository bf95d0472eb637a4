/** Acts on the keys of `keymap.js`. Text fields, menus and pressed buttons keep the keys that they need. */

import * as commands from "./commands.js";
import { byId, takesText } from "./dom.js";
import { goTo, stepBy, toMarked, toSuggested } from "./go.js";
import { openHelp } from "./help.js";
import { KEYMAP } from "./keymap.js";
import { isOpen } from "./notices.js";
import { startRename } from "./objects.js";
import { cancelDrag, holdSpace } from "./pointer.js";
import { page, set } from "./page.js";
import { stopPicking, takePick, togglePropagation } from "./propagation.js";
import { togglePlay } from "./play.js";
import { fitView, zoomActual, zoomBy } from "./zoom.js";

/** What each command of the table does; gets its argument, and the name of the key that was pressed. */
const ACTS = {
  tool: (tool) => commands.setTool(tool),
  brush: (way) => commands.setBrush(page.brush * (way > 0 ? 1.15 : 1 / 1.15), way),
  escape,
  object: (_, key) => commands.selectObject(Number(key)),
  addObject: () => commands.addObject(),
  rename: () => startRename(page.object),
  toggleEye: () => commands.toggleEye(page.object),
  undo: () => commands.undo(),
  redo: () => commands.redo(),
  copy: () => commands.copyMask(),
  paste: () => commands.pasteMask(false),
  pasteObject: () => commands.pasteMask(true),
  reset: () => commands.resetFrame(),
  clear: () => commands.clearFrame(),
  propagate: () => (page.picking ? takePick(page.frame) : togglePropagation()),
  step: (frames) => stepBy(frames),
  first: () => goTo(0),
  last: () => goTo(page.server.frames - 1),
  marked: (way) => toMarked(way),
  suggested: () => toSuggested(),
  space: () => {}, // on its release: until then it may be the start of a drag
  zoom: (way) => zoomBy(way),
  fit: () => fitView(),
  actual: () => zoomActual(),
  mode: () => commands.nextMode(),
  peek: () => set({ peek: true }),
  strokes: () => set({ strokes: !page.strokes }),
  crosshair: (distance, key) => {
    byId("view").focus({ preventScroll: true }); // Enter is to click there, not to press a button
    commands.moveCrosshair(key, distance);
  },
  clickThere: (positive) => commands.clickThere(positive),
  help: () => openHelp(),
};

const REPEATING = new Set(["step", "brush", "zoom", "crosshair", "marked", "undo", "redo"]);

/** Lines of the table by key; Enter has two. */
const lines = new Map();
for (const { lines: all } of KEYMAP) {
  for (const line of all) {
    if (line.command) for (const key of line.keys) lines.set(key, [...(lines.get(key) ?? []), line]);
  }
}

/** Starts listening. */
export function startKeys() {
  addEventListener("keydown", down);
  addEventListener("keyup", up);
  addEventListener("pointerdown", () => delete document.documentElement.dataset.tabbing, true);
  addEventListener("blur", () => {
    holdSpace(false);
    set({ peek: false });
  });
  // A button that was pressed with the mouse would keep the focus, and Space would press it again instead of playing.
  addEventListener("click", (event) => {
    const button =
      event.target instanceof Element && event.target.closest("button, input[type=range], input[type=checkbox]");
    if (button && event.detail > 0 && button.closest("#editor")) byId("view").focus({ preventScroll: true });
  });
  addEventListener("change", (event) => {
    if (event.target.matches?.("#editor input[type=range]") && !event.target.matches(":focus-visible"))
      event.target.blur();
  });
}

/** @param {KeyboardEvent} event @returns {string} as the table writes it */
export function nameOf(event) {
  let key = event.key === " " ? "Space" : event.key;
  // other alphabets: the letter that is printed at that place on a Latin keyboard
  if (key.length === 1 && key > "\u007f" && event.code.startsWith("Key")) key = event.code.slice(3);
  const letter = /^[a-z]$/i.test(key);
  if (letter) key = key.toUpperCase();
  const parts = [];
  if (event.ctrlKey || event.metaKey) parts.push("Ctrl");
  if (event.altKey) parts.push("Alt");
  // signs such as + and ? need Shift on one keyboard and not on another
  if (event.shiftKey && (letter || key.length > 1)) parts.push("Shift");
  return [...parts, key].join("+");
}

function down(event) {
  if (event.key === "Tab") document.documentElement.dataset.tabbing = "true";
  if (byId("editor").hidden || isOpen() || event.isComposing || event.defaultPrevented) return;
  const { target } = event;
  if (takesText(target)) return;
  const name = nameOf(event);
  if (name === "Ctrl+C" && String(getSelection())) return; // the text of a message is to be copied
  if (target.closest?.("[popover]") && name !== "?") return;
  const pressing =
    target.matches?.("button, a, input[type=checkbox], input[type=color]") && (name === "Enter" || name === "Space");
  const sliding = target.matches?.("input[type=range]") && /^(Shift\+)?(Arrow|Home|End|Page)/.test(name);
  if (pressing || sliding) return;
  const line = choose(lines.get(name) ?? []);
  if (!line) return;
  event.preventDefault();
  if (name === "Space") return void holdSpace(true);
  if (event.repeat && !REPEATING.has(line.command)) return;
  ACTS[line.command](line.argument, name.split("+").pop() || "+");
}

/** Enter clicks while the crosshair is out and propagates otherwise. */
function choose(found) {
  return (
    found.find((line) => line.command === "clickThere" && page.crosshair) ??
    found.find((line) => line.command !== "clickThere")
  );
}

function up(event) {
  if (event.key === "x" || event.key === "X") set({ peek: false });
  if (event.key !== " ") return;
  const { target } = event;
  const ours = !byId("editor").hidden && !isOpen() && !takesText(target) && !target.matches?.("button, a, input");
  if (!holdSpace(false) && ours && !target.closest?.("[popover]")) togglePlay();
}

function escape() {
  if (cancelDrag()) return;
  if (page.picking) return stopPicking();
  if (page.crosshair) return set({ crosshair: null });
  if (page.window) return commands.leaveWindow();
  if (page.tool === "window") commands.setTool("scribble");
}
