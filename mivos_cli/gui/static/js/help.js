/** The help: how the tool is used, in five steps, and every key. */

import { byId, el } from "./dom.js";
import { KEYMAP, keyLabel } from "./keymap.js";
import { page, set } from "./page.js";

/** The way from a video to its masks; the guide shows where one is. */
export const STEPS = [
  ["Choose", "An object in the list at the right, or the background. N makes a new one."],
  ["Draw", "A line along it with the left button, what is not it with the right."],
  ["Propagate", "P carries the mask to all other frames. Pause whenever you like."],
  ["Correct", "Where it went wrong, draw again and propagate again. G suggests a frame."],
  ["Export", "Masks, overlays and cut-outs, to be downloaded."],
];

/** Opens the help. */
export function openHelp() {
  const dialog = byId("help-dialog");
  if (!dialog.childElementCount) build(dialog);
  const { server } = page;
  byId("help-facts").textContent = server ? `${machine(server.model)} · ${server.path}` : "";
  dialog.showModal();
  dialog.querySelector(".body").scrollTop = 0;
}

/** The model and what runs it, as far as somebody chose that. */
function machine({ name, device, engine }) {
  return [name, ...[device, engine].filter((one) => one && one !== "auto")].join(", ");
}

/** Starts the button. */
export function startHelp() {
  byId("help").onclick = openHelp;
}

function build(dialog) {
  const close = () => dialog.close();
  const steps = STEPS.map(([name, text], index) =>
    el("div", {}, el("b", {}, `${index + 1}. ${name}`), el("span", {}, text)),
  );
  const guide = () => {
    set({ guide: true });
    close();
  };
  dialog.append(
    el(
      "header",
      {},
      el("h1", { id: "help-title" }, "Keys and help"),
      el("button", {
        class: "button quiet icon-only",
        icon: "close",
        "aria-label": "Close",
        autofocus: true,
        on: { click: close },
      }),
    ),
    el(
      "div",
      { class: "body", tabindex: "0" },
      el("div", { class: "steps" }, ...steps),
      el("div", { class: "keys" }, ...KEYMAP.map(section)),
    ),
    el(
      "footer",
      {},
      el("small", { class: "facts", id: "help-facts" }),
      el("div", { class: "space" }),
      el("button", { class: "button", on: { click: guide } }, "Show what to do next"),
    ),
  );
  dialog.addEventListener("click", (event) => event.target === dialog && close()); // beside it
}

function section({ title, lines }) {
  return el(
    "section",
    {},
    el("h2", {}, title),
    el("dl", {}, ...lines.map((line) => el("div", {}, el("dt", {}, line.text), el("dd", {}, ...labels(line.keys))))),
  );
}

/** Rows of keys such as 1 to 9, or the four arrows, are shortened. */
function labels(keys) {
  if (keys.length > 4) return [el("kbd", {}, keys[0]), "to", el("kbd", {}, keys.at(-1))];
  if (keys.length === 4 && keys.every((key) => key.includes("Arrow"))) {
    return [el("kbd", {}, keyLabel(keys[0]).replace("←", "arrows"))];
  }
  return keys.map((key) => el("kbd", {}, keyLabel(key)));
}
