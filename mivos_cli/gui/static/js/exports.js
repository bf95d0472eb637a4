/** The export dialog: what to write, how far it is, and what was written before. */

import * as api from "./api.js";
import { byId, el } from "./dom.js";
import { bytes, moment, plural } from "./format.js";
import { attempt, confirm, toast } from "./notices.js";
import { jobOf, page, watch } from "./page.js";
import { describeJob } from "./propagation.js";
import { cancelJob } from "./status.js";

const FORMATS = [
  ["overlay", "Overlay video", "MP4 with tinted objects, sound and timing of the source. To look at and to show."],
  ["png", "Masks", "One palette PNG per frame; the pixel value is the object's number. For programs and training."],
  ["binary", "Black and white masks", "One PNG per frame and object, white where it is. For compositing."],
  ["webm", "Cut-out video, WebM", "VP9 with alpha: the objects without background. Small; for the web."],
  ["prores", "Cut-out video, ProRes", "ProRes 4444 with alpha, MOV. Large; for editing programs."],
  ["coco", "COCO RLE", "All masks in one JSON file. For annotation and training tools."],
  ["youtube-vis", "YouTube-VIS", "One entry per object over all frames, JSON. For video instance segmentation."],
  ["cvat", "CVAT", "XML to upload to a CVAT task of the same video; masks frame by frame."],
  ["label-studio", "Label Studio", "Brush masks of the frames, and boxes of the video; with the labeling interface."],
  ["ome-zarr", "OME-Zarr", "Frames and objects as an image with labels. For napari and Fiji."],
];
const NAMES = Object.fromEntries(FORMATS.map(([format, name]) => [format, name]));
const CHOSEN = "mivos.formats";

let made = null; // what the server lists; null: not asked yet

/** Starts button and dialog. */
export function startExports() {
  byId("export").onclick = openExports;
  build();
  watch(["server"], showButton);
  watch(["server", "progress"], showRun);
}

/** Opens the dialog. */
export function openExports() {
  made = null;
  showNote();
  showList();
  byId("export-dialog").showModal();
  refresh();
}

/** An export has ended: the list is another one now. @param {{state: string}} job */
export function exportEnded({ state }) {
  if (state === "done" && !byId("export-dialog").open) {
    toast({ text: "Export is ready", level: "good", key: "export", action: { label: "Show", run: openExports } });
  }
  if (byId("export-dialog").open) refresh();
}

function build() {
  const dialog = byId("export-dialog");
  const chosen = (localStorage.getItem(CHOSEN) ?? "overlay,png").split(",");
  const boxes = FORMATS.map(([format, name, text]) =>
    el(
      "label",
      { class: "format" },
      el("input", {
        type: "checkbox",
        name: format,
        test: `format-${format}`,
        checked: chosen.includes(format),
        on: { change: remember },
      }),
      el("span", {}, name),
      el("small", {}, text),
    ),
  );
  const close = () => dialog.close();
  dialog.append(
    el(
      "header",
      {},
      el("h1", { id: "export-title" }, "Export"),
      el("button", { class: "button quiet icon-only", icon: "close", "aria-label": "Close", on: { click: close } }),
    ),
    el(
      "div",
      { class: "body" },
      el("div", { class: "formats", role: "group", "aria-label": "Formats" }, ...boxes),
      el("p", { class: "note", id: "export-note" }),
      el("div", { class: "exports", id: "exports", "data-testid": "exports" }),
    ),
    el(
      "footer",
      {},
      el(
        "div",
        { class: "export-run", id: "export-run" },
        el("span", { id: "export-words" }),
        el("div", { class: "bar", test: "export-progress" }, el("i")),
        el("span", { id: "export-left" }),
      ),
      el(
        "button",
        {
          class: "button",
          id: "export-cancel",
          test: "export-cancel",
          on: { click: () => cancelJob(jobOf("export").id) },
        },
        "Cancel",
      ),
      el(
        "button",
        { class: "button primary", id: "export-start", test: "export-start", on: { click: start } },
        "Export",
      ),
    ),
  );
  dialog.addEventListener("click", (event) => event.target === dialog && close()); // beside it
}

const checked = () => [...byId("export-dialog").querySelectorAll(".format input:checked")].map((input) => input.name);

function remember() {
  localStorage.setItem(CHOSEN, checked().join(","));
  showRun();
}

function start() {
  attempt(() => api.exportTo(page.project, checked()), "Not exported");
}

function showButton() {
  if (!page.server) return;
  byId("export").dataset.tip = page.server.rounds.some((round) => !round.undone)
    ? "Masks and videos as files"
    : "Masks and videos as files, after the first propagation";
}

function showNote() {
  const { rounds, drafts, frames, source_width, source_height } = page.server;
  const note = byId("export-note");
  const none = !rounds.some((round) => !round.undone);
  if (none) note.textContent = "There is nothing to export yet: propagate first, or keep the mask of a single frame.";
  else if (drafts.length)
    note.textContent = `Edits of ${plural(drafts.length, "frame")} are not propagated and will not be part of it.`;
  else note.textContent = `All ${plural(frames, "frame")} at ${source_width} × ${source_height}.`;
}

function showRun() {
  if (!page.server || !byId("export-run")) return;
  const job = jobOf("export");
  byId("export-run").hidden = byId("export-cancel").hidden = !job;
  byId("export-start").hidden = Boolean(job);
  byId("export-start").disabled = !checked().length || !page.server.rounds.some((round) => !round.undone);
  showNote();
  if (!job) return;
  const { what, count, left, part } = describeJob(job, page.progress?.get(job.id));
  byId("export-words").textContent = count ? `${what} ${count}` : what;
  byId("export-left").textContent = left;
  const bar = byId("export-run").querySelector(".bar");
  bar.classList.toggle("unknown", part === null);
  bar.style.setProperty("--done", String(part ?? 0));
}

async function refresh() {
  const answer = await attempt(() => api.exportsOf(page.project), "The list of exports is missing");
  made = answer?.exports ?? [];
  showList();
}

function showList() {
  const box = byId("exports");
  if (!made?.length) return box.replaceChildren();
  const list = el("ul", {}, ...made.map(madeRow));
  box.replaceChildren(el("h2", {}, "Made before"), list);
}

function madeRow({ id, created, formats, folder, files }) {
  const names = formats.map((format) => NAMES[format] ?? format).join(", ");
  const links = files.map((file) =>
    el(
      "a",
      {
        class: "button small",
        icon: "download",
        href: api.exportUrl(page.project, id, file.name),
        download: file.name,
        test: "export-file",
      },
      el("span", {}, file.name),
      el("small", {}, bytes(file.bytes)),
    ),
  );
  const remove = async () => {
    if (
      !(await confirm({
        title: "Delete this export?",
        text: `${names}, made ${moment(created)}. The masks in the session stay.`,
        yes: "Delete",
      }))
    )
      return;
    await attempt(() => api.deleteExport(page.project, id), "Not deleted");
    refresh();
  };
  return el(
    "li",
    {},
    el(
      "div",
      { class: "made" },
      el("span", { title: folder }, `${moment(created)} · ${folder}`),
      el("button", {
        class: "button quiet icon-only small",
        icon: "trash",
        "aria-label": "Delete this export",
        tip: "Delete this export",
        on: { click: remove },
      }),
    ),
    el("div", { class: "files" }, ...links),
  );
}
