/** Starts everything and decides what is shown: the list of projects or one of them. */

import * as api from "./api.js";
import { notePush, redo, startCommands, undo } from "./commands.js";
import { startDisplay } from "./display.js";
import { byId, dressIcons, el, loadIcons, setText } from "./dom.js";
import { startEdits } from "./edits.js";
import { exportEnded, startExports } from "./exports.js";
import { forgetAll } from "./frames.js";
import { number, plural } from "./format.js";
import { startGuide } from "./guide.js";
import { startHelp } from "./help.js";
import { hideHome, showHome } from "./home.js";
import { startImporting } from "./importing.js";
import { startKeys } from "./keys.js";
import { banner, tell, toast } from "./notices.js";
import { startObjects } from "./objects.js";
import * as outbox from "./outbox.js";
import { startOverview } from "./overview.js";
import { jobOf, noteLive, page, set, takeState, watch } from "./page.js";
import { fetchNeighbours, startPlay } from "./play.js";
import { startPointer } from "./pointer.js";
import { follow, propagationEnded, reached, startPropagation } from "./propagation.js";
import { connect, disconnect } from "./socket.js";
import { startStatus, takeJob, takeProgress } from "./status.js";
import { isDark, onTheme, toggleTheme } from "./theme.js";
import { startTimeline } from "./timeline.js";
import { startTools } from "./tools.js";
import { startTooltips } from "./tooltip.js";
import { masksChanged, moveView, resetView, startView } from "./view.js";
import { startZoom } from "./zoom.js";

const PLACE = "mivos.place."; // + project: where the person was
const SAVE_AFTER = 400; // ms

let saving = 0;

loadIcons();
dressIcons();
startTooltips();
startView(fetchNeighbours);
startOverview(moveView);
startCommands();
startTools();
startPointer();
startDisplay();
startZoom();
startObjects();
startEdits();
startImporting();
startPropagation();
startStatus();
startPlay();
startTimeline();
startExports();
startHelp();
startGuide();
startTop();
startKeys();
addEventListener("hashchange", route);
byId("curtain-retry").onclick = route;
route();

function startTop() {
  byId("undo").onclick = undo;
  byId("redo").onclick = redo;
  byId("home-button").onclick = () => (location.hash = "");
  byId("theme").onclick = toggleTheme;
  const nameTheme = () => (byId("theme").dataset.tip = isDark() ? "Light theme" : "Dark theme");
  onTheme(nameTheme);
  nameTheme();
  watch(["server", "pending"], showTop);
  watch(["frame", "object", "tool"], () => {
    clearTimeout(saving);
    saving = setTimeout(savePlace, SAVE_AFTER);
  });
  addEventListener("pagehide", savePlace);
  watch(["server"], () => !jobOf("propagate") && outbox.resume()); // what had to wait for a job
}

function showTop() {
  if (!page.server) return;
  const { name, path, frames, width, height, fps, undo: last, redo: next, round } = page.server;
  setText(byId("project-name"), name);
  byId("project-name").title = path;
  setText(byId("project-facts"), `${number(frames)} frames · ${width} × ${height} · ${Number(fps.toFixed(2))} fps`);
  byId("project-facts").title =
    `${plural(frames, "frame")} at ${width} × ${height}, ${Number(fps.toFixed(3))} per second`;
  const busy = Boolean(jobOf("propagate") ?? jobOf("delete") ?? round);
  const set = (id, word, what, key, more) => {
    const button = byId(id);
    button.disabled = busy || (!what && !more);
    if (busy)
      button.dataset.tip = round?.paused
        ? "First continue, keep or discard the propagation"
        : "Not while this is running";
    else button.dataset.tip = what ? `${word}: ${what}` : `Nothing to ${word.toLowerCase()}`;
    button.dataset.key = key;
    button.setAttribute("aria-label", what ? `${word}: ${what}` : word);
  };
  set("undo", "Undo", last, "Ctrl+Z", page.pending > 0);
  set("redo", "Redo", next, "Ctrl+Shift+Z", false);
}

/** The address says which project; without one the list is shown, or the only project. */
async function route() {
  const wanted = addressed();
  if (wanted && wanted === page.project && page.server) return;
  leave();
  curtain(wanted ? "Opening the project" : "Loading");
  try {
    const home = api.home();
    if (wanted) home.catch(() => {}); // opening tells the same
    if (wanted) return await enter(wanted, home);
    const { only } = await home;
    if (addressed() !== wanted) return; // somebody went elsewhere meanwhile
    if (only) return void location.replace(`#/p/${only}`);
    document.title = "mivos";
    showHome(await home, (project) => (location.hash = `#/p/${project}`));
    curtain(null);
  } catch (error) {
    await refused(error, wanted);
  }
}

/** @returns {string|undefined} the project that the address names */
function addressed() {
  return location.hash.match(/^#\/p\/([\w-]+)$/)?.[1];
}

/** Opening failed: with a list to choose from it is shown again, else what is wrong stays on screen. */
async function refused(error, wanted) {
  if (error.status === 401)
    return curtain("This page belongs to an earlier start of mivos", "Open the address that it printed now.");
  const home = wanted && error.status !== 0 ? await api.home().catch(() => null) : null;
  if (home && home.only !== wanted) {
    tell(error, "Not opened");
    return location.replace("#");
  }
  curtain(error.message, error.hint ?? "");
  byId("curtain-retry").hidden = false;
}

async function enter(project, home) {
  const state = await api.open(project);
  if (addressed() !== project) return; // somebody went elsewhere meanwhile
  set({ project, server: null });
  forgetAll();
  takeState(state, true);
  restorePlace(project);
  document.title = `${state.name} – mivos`;
  outbox.load(project);
  connect({
    state: (message) => takeState(message),
    masks: masksPushed,
    progress: takeProgressOf,
    job: ({ job }) => jobChanged(job),
    message: ({ level, text, hint }) => toast({ text, hint, level: level === "info" ? "info" : level }),
    back: () => {
      masksChanged(null); // pushes were missed
      outbox.resume();
      toast({ text: "Connected again", level: "good", key: "connection", brief: true });
    },
  });
  home.then(({ only }) => (byId("home-button").disabled = only !== null)).catch(() => {});
  hideHome();
  byId("editor").hidden = false;
  resetView();
  curtain(null);
}

function takeProgressOf(message) {
  takeProgress(message);
  if (message.stage === "propagate") reached(message.frame);
}

function masksPushed({ frames }) {
  notePush(frames);
  if (frames && page.server?.round && jobOf("propagate")) {
    noteLive(frames);
    follow(frames);
  }
}

function jobChanged(job) {
  takeJob(job);
  if (job.state === "queued" || job.state === "running") return;
  if (job.kind === "propagate") propagationEnded(job);
  if (job.kind === "export") exportEnded(job);
}

function leave() {
  savePlace();
  disconnect();
  banner(null);
  byId("editor").hidden = true;
  hideHome();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  set({
    project: null,
    server: null,
    online: true,
    expired: false,
    window: null,
    playing: false,
    picking: false,
    pausing: false,
    peek: false,
    crosshair: null,
    copied: null,
    progress: null,
    hidden: new Set(),
    targets: new Set(),
  });
}

/** Covers everything with a text, or shows the page (null). `hint`: this is the end of it, nothing is going on. */
function curtain(text, hint = null) {
  byId("curtain").hidden = text === null;
  byId("curtain").querySelector(".spinner").hidden = hint !== null;
  byId("curtain-retry").hidden = true;
  if (text !== null) byId("curtain-text").replaceChildren(hint === null ? text : el("strong", {}, text), hint ?? "");
}

function savePlace() {
  clearTimeout(saving);
  if (!page.project || !page.server) return;
  try {
    localStorage.setItem(
      PLACE + page.project,
      JSON.stringify({ frame: page.frame, object: page.object, tool: page.tool }),
    );
  } catch {
    // storage is full or forbidden: the next visit begins at the first frame
  }
}

function restorePlace(project) {
  let place = {};
  try {
    place = JSON.parse(localStorage.getItem(PLACE + project) ?? "{}") ?? {};
  } catch {
    // somebody else's text under our key
  }
  const { frames, objects } = page.server;
  const frame = Number.isInteger(place.frame) ? Math.min(Math.max(0, place.frame), Math.max(0, frames - 1)) : 0;
  const known = place.object === 0 || objects.some((one) => one.id === place.object);
  set({
    frame,
    object: known ? place.object : (objects[0]?.id ?? 1),
    tool: byId(`tool-${place.tool}`) ? place.tool : "scribble",
  });
}
