/** The list of objects: choose, rename, recolour, hide, delete. */

import { addObject, changeObject, deleteObject, selectObject, toggleEye, toggleTarget } from "./commands.js";
import { byId, el } from "./dom.js";
import { objectOf, page, watch } from "./page.js";

let renaming = null; // number of the object whose name is being typed

/** Builds the list. */
export function startObjects() {
  byId("add-object").onclick = () => addObject();
  watch(["server", "object", "hidden", "targets", "mode"], show);
}

/** Lets the name of an object be typed. @param {number} id */
export function startRename(id) {
  if (id === 0 || !objectOf(id)) return;
  renaming = id;
  show();
  const input = byId("objects").querySelector("input.rename");
  input.focus();
  input.select();
}

let painted = "";

function show() {
  if (!page.server) return;
  const { objects } = page.server;
  const said = JSON.stringify([
    objects,
    page.object,
    [...page.hidden],
    [...page.targets],
    page.mode === "cutout",
    renaming,
    page.project,
  ]);
  if (said === painted) return; // pushes come often, and a new list would take the focus away
  painted = said;
  const box = byId("objects");
  const focus = box.contains(document.activeElement) ? document.activeElement.dataset.testid : null;
  const [typed, chosenText] = [box.querySelector("input.rename"), [0, 0]];
  const kept = typed && typed.dataset.id === String(renaming) ? typed : null;
  if (kept) chosenText.splice(0, 2, kept.selectionStart, kept.selectionEnd);
  const { scrollTop } = box;
  const chosenBefore = box.querySelector(".pick[aria-pressed=true]")?.dataset.id;
  box.replaceChildren(...objects.map((one) => row(one, kept)), backgroundRow());
  box.scrollTop = scrollTop;
  if (focus) box.querySelector(`[data-testid="${focus}"]`)?.focus({ preventScroll: true });
  if (kept) kept.setSelectionRange(...chosenText);
  if (chosenBefore !== String(page.object))
    box.querySelector(".pick[aria-pressed=true]")?.scrollIntoView({ block: "nearest" });
}

function row({ id, name, colour }, input) {
  const hidden = page.hidden.has(id);
  const item = el("li", { class: `object${hidden ? " hidden-object" : ""}`, test: `object-${id}` }, pick(id, name));
  const picker = el("input", {
    type: "color",
    value: colour,
    test: `object-colour-${id}`,
    "aria-label": `Colour of ${name}`,
    on: { change: (event) => changeObject(id, { colour: event.target.value }) },
  });
  const swatch = el("span", { class: "swatch", colour });
  picker.addEventListener("input", () => swatch.style.setProperty("--colour", picker.value));
  item.append(
    el("span", { class: "number" }, String(id)),
    el("label", { class: "colour", tip: "Colour" }, swatch, picker),
    renaming === id
      ? (input ?? renameInput(id, name))
      : el("span", { class: "name", test: `object-name-${id}`, title: name }, name),
  );
  item.addEventListener("dblclick", (event) => event.target.matches(".pick, .name") && startRename(id));
  const button = (icon, test, label, run, shown, pressed) =>
    el("button", {
      class: `button quiet icon-only small on-hover${shown ? " kept" : ""}`,
      icon,
      test: `${test}-${id}`,
      tip: label,
      "aria-label": `${label}: ${name}`,
      "aria-pressed": pressed === undefined ? null : String(pressed),
      on: { click: run },
    });
  if (page.mode === "cutout") {
    const target = page.targets.has(id);
    item.append(button("target", "object-target", "Keep in the cut-out", () => toggleTarget(id), true, target));
  }
  item.append(
    button("trash", "object-delete", "Delete", () => deleteObject(id), false),
    button(hidden ? "eye-off" : "eye", "object-eye", hidden ? "Show" : "Hide", () => toggleEye(id), true),
  );
  return item;
}

function backgroundRow() {
  return el(
    "li",
    { class: "object background", test: "object-0" },
    pick(0, "Background"),
    el("span", { class: "number" }, "0"),
    el("span", { class: "colour" }, el("span", { class: "swatch none" })),
    el("span", { class: "name", test: "object-name-0" }, "Background"),
  );
}

function pick(id, name) {
  return el("button", {
    class: "pick",
    "data-id": String(id),
    "data-testid": `object-pick-${id}`,
    "aria-label": name,
    "aria-pressed": String(id === page.object),
    on: {
      click: () => selectObject(id),
      keydown: (event) => walk(event),
    },
  });
}

function walk(event) {
  const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!way) return;
  event.preventDefault();
  const all = [...byId("objects").querySelectorAll(".pick")];
  const next = all[all.indexOf(event.currentTarget) + way];
  if (!next) return;
  next.focus();
  selectObject(Number(next.dataset.id));
}

function renameInput(id, name) {
  let done = false;
  const end = (keep) => {
    if (done) return;
    done = true;
    renaming = null;
    const typed = input.value.trim();
    if (keep && typed && typed !== name) changeObject(id, { name: typed });
    show();
    // back to where the keys of the tools work, or to the row for those who walk with Tab
    const walking = document.documentElement.dataset.tabbing === "true";
    const row = byId("objects").querySelector(`.pick[data-id="${id}"]`);
    (walking && row ? row : byId("view")).focus({ preventScroll: true });
  };
  const input = el("input", {
    type: "text",
    class: "rename",
    value: name,
    maxlength: "80",
    "data-id": String(id),
    "aria-label": `Name of object ${id}`,
    spellcheck: "false",
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") end(true);
    if (event.key === "Escape") end(false);
    event.stopPropagation();
  });
  input.addEventListener("blur", () => input.isConnected && end(true));
  return input;
}
