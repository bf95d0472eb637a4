/** The mask of this frame and what was done so far: edits that wait for propagation, and rounds. */

import { clearFrame, copyMask, pasteMask, resetFrame } from "./commands.js";
import { byId, el, icon, setText } from "./dom.js";
import { moment, plural } from "./format.js";
import { goTo } from "./go.js";
import { chooseFiles } from "./importing.js";
import { draftOf, isComputed, jobOf, objectOf, page, watch } from "./page.js";

const MOST_SWATCHES = 5;

/** Builds the lists. */
export function startEdits() {
  byId("copy").onclick = copyMask;
  byId("paste").onclick = () => pasteMask(false);
  byId("import").onclick = chooseFiles;
  byId("reset").onclick = resetFrame;
  byId("clear").onclick = clearFrame;
  watch(["frame", "server", "copied", "live"], showFrame);
  watch(["server"], showLists);
  watch(["frame"], showCurrent);
}

function showFrame() {
  if (!page.server) return;
  const { frame, server } = page;
  const draft = draftOf();
  const busy = Boolean(jobOf("propagate") ?? jobOf("delete"));
  const computed = isComputed(frame);
  setText(byId("frame-title"), `Frame ${frame}`);
  setText(byId("frame-state"), draft ? plural(draft.actions, "edit") : computed ? sureness(frame) : "no mask yet");
  byId("copy").disabled = !draft && !computed;
  byId("paste").disabled = page.copied === null || page.copied === frame || busy;
  byId("paste").dataset.tip =
    page.copied === null ? "Paste the copied mask here" : `Paste the mask of frame ${page.copied} here`;
  byId("import").disabled = busy;
  byId("reset").disabled = !draft || busy;
  byId("clear").disabled = (!draft && !computed) || busy;
}

function sureness(frame) {
  if (page.server.round?.frame === frame) return "drawn by you";
  const value = page.confidence[frame];
  if (page.server.rounds.some((round) => round.frame === frame && !round.undone)) return "drawn by you";
  return value === undefined || value === 255 ? "propagated" : `confidence ${value} %`;
}

let painted = ["", ""];

function showLists() {
  if (!page.server) return;
  const { drafts, rounds, objects, round } = page.server;
  const under =
    round && !drafts.some((draft) => draft.frame === round.frame)
      ? [round.frame, jobOf("propagate") !== undefined]
      : null;
  const said = [JSON.stringify([drafts, objects, under]), JSON.stringify([rounds, objects])];
  if (said[0] !== painted[0]) {
    setText(byId("edits-count"), drafts.length ? String(drafts.length) : "");
    fill("edits", [...(under ? [underWay(...under)] : []), ...drafts.map(editRow)], "None. Draw on a frame to begin.");
  }
  if (said[1] !== painted[1]) {
    const done = rounds.filter((round) => !round.undone);
    setText(byId("rounds-count"), done.length ? String(done.length) : "");
    const order = [...done].reverse().concat(rounds.filter((round) => round.undone));
    fill("rounds", order.map(roundRow), "None yet.");
  }
  painted = said;
  showCurrent();
}

function fill(id, rows, empty) {
  byId(id).replaceChildren(
    ...(rows.length ? rows.map((one) => el("li", {}, one)) : [el("li", { class: "empty" }, empty)]),
  );
}

/** The edits that are being propagated: no longer a draft, not yet a round. */
function underWay(frame, running) {
  return el(
    "button",
    { class: "row", test: `edit-${frame}`, "data-frame": String(frame), on: { click: () => goTo(frame) } },
    icon("draft"),
    el("span", { class: "main" }, `Frame ${frame}`),
    el("span", { class: "aside" }, running ? "propagating" : "paused"),
  );
}

function editRow({ frame, actions, objects }) {
  return el(
    "button",
    { class: "row", test: `edit-${frame}`, "data-frame": String(frame), on: { click: () => goTo(frame) } },
    icon("draft"),
    el("span", { class: "main" }, `Frame ${frame}`),
    swatches(objects),
    el("span", { class: "aside" }, plural(actions, "edit")),
  );
}

function roundRow({ number, frame, objects, created, undone }) {
  return el(
    "button",
    {
      class: `row${undone ? " undone" : ""}`,
      test: `round-${number}`,
      "data-frame": String(frame),
      tip: undone ? "Undone; redo brings it back" : null,
      on: { click: () => frame != null && goTo(frame) },
    },
    icon("round"),
    el("span", { class: "main" }, frame == null ? `Round ${number}` : `Frame ${frame}`),
    swatches(objects ?? []),
    el("span", { class: "aside" }, created ? moment(created) : ""),
  );
}

function swatches(ids) {
  const known = ids.map(objectOf).filter(Boolean);
  const names = known.map((one) => one.name).join(", ");
  return el(
    "span",
    { class: "swatches", title: names },
    ...known.slice(0, MOST_SWATCHES).map((one) => el("span", { class: "swatch", colour: one.colour })),
  );
}

function showCurrent() {
  for (const row of document.querySelectorAll("#edits .row, #rounds .row")) {
    row.setAttribute("aria-current", String(row.dataset.frame === String(page.frame)));
  }
}
