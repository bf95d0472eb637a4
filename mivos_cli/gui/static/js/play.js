/** Playing at the clip's rate with masks: a clock says which frame is due, a few frames ahead are fetched. */

import { byId, el, setIcon, setText } from "./dom.js";
import { isReady, prefetch } from "./frames.js";
import { number, timecode } from "./format.js";
import { available, goTo, stepBy, toMarked, toSuggested } from "./go.js";
import { page, set, watch } from "./page.js";
import { frameOnScreen } from "./view.js";

const AHEAD = 16; // frames that are fetched in advance while playing
const PARALLEL = 3;
const NEIGHBOURS = [1, -1, 2]; // fetched while the picture stands still, in the direction of the last step

let start = 0; // when frame `origin` was due
let origin = 0;
let fetching = 0;
let next = 0; // frame to fetch next
let way = 1;
let last = 0;

/** Builds the transport. */
export function startPlay() {
  const button = (test, icon, tip, key, run) =>
    el("button", {
      class: "button quiet icon-only small",
      id: test,
      test,
      icon,
      tip,
      key,
      "aria-label": tip,
      on: { click: run },
    });
  byId("transport-buttons").append(
    button("first-frame", "first", "First frame", "Home", () => goTo(0)),
    button("previous-frame", "previous", "Previous frame", "ArrowLeft", () => stepBy(-1)),
    button("play", "play", "Play", "Space", togglePlay),
    button("next-frame", "next", "Next frame", "ArrowRight", () => stepBy(1)),
    button("last-frame", "last", "Last frame", "End", () => goTo(available() - 1)),
  );
  byId("marked-buttons").append(
    button("previous-marked", "marked-previous", "Previous marked frame", "J", () => toMarked(-1)),
    button("next-marked", "marked-next", "Next marked frame", "K", () => toMarked(1)),
    button("suggested-frame", "suggested", "Suggested frame: where a correction helps most", "G", toSuggested),
  );
  const field = byId("frame-number");
  field.onfocus = () => field.select();
  field.onblur = showNumber;
  field.onkeydown = (event) => {
    const steps = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (steps) {
      event.preventDefault();
      stepBy(steps);
      showNumber(true);
      field.select();
    }
    if (event.key === "Escape") field.blur();
    if (event.key !== "Enter") return;
    if (/^\s*\d+\s*$/.test(field.value)) goTo(Number(field.value));
    field.blur();
  };
  watch(["frame", "server"], () => showNumber());
  watch(["server"], () => page.server && (byId("suggested-frame").disabled = page.server.suggestion == null));
  watch(["playing"], onPlaying);
}

/** Plays, or stops. At the end it begins again. */
export function togglePlay() {
  if (page.playing) return set({ playing: false });
  if (page.frame >= available() - 1) set({ frame: 0 });
  set({ playing: true, picking: false, crosshair: null });
}

/** A frame has been drawn: the ones beside it are likely to be next. */
export function fetchNeighbours() {
  const { frame } = page;
  if (frame !== last) way = frame < last ? -1 : 1;
  last = frame;
  if (page.playing || page.server.round) return; // a running propagation needs the machine more
  const list = NEIGHBOURS.map((step) => frame + way * step).filter((one) => one >= 0 && one < available());
  fetchInTurn(list, frame);
}

async function fetchInTurn(list, frame) {
  for (const one of list) {
    if (page.frame !== frame || page.playing) return;
    if (!isReady(one)) await prefetch(one);
  }
}

function onPlaying() {
  setIcon(byId("play"), page.playing ? "pause" : "play");
  byId("play").dataset.tip = page.playing ? "Stop" : "Play";
  byId("play").setAttribute("aria-label", page.playing ? "Stop" : "Play");
  if (!page.playing) return;
  origin = next = page.frame;
  start = performance.now();
  requestAnimationFrame(tick);
}

function tick(now) {
  if (!page.playing || !page.server) return;
  const end = available() - 1;
  const { fps } = page.server;
  const due = Math.min(end, origin + Math.floor(((now - start) * fps) / 1000));
  // the newest frame that is due and here; what came too late is left out
  let ready = due;
  while (ready > page.frame && !isReady(ready)) ready--;
  if (ready > page.frame) {
    if (frameOnScreen() === page.frame) goTo(ready, { playing: true });
  } else if (due > page.frame + 2) {
    // nothing has come for a while: the clock waits, so that the video slows down instead of jumping
    origin = page.frame;
    start = now - 1000 / fps;
  }
  fetchAhead(end);
  if (page.frame >= end) return set({ playing: false });
  requestAnimationFrame(tick);
}

function fetchAhead(end) {
  next = Math.max(next, page.frame + 1);
  while (fetching < PARALLEL && next <= Math.min(end, page.frame + AHEAD)) {
    const frame = next++;
    if (isReady(frame)) continue;
    fetching++;
    prefetch(frame).finally(() => fetching--);
  }
}

function showNumber(force = false) {
  if (!page.server) return;
  const { frame, server } = page;
  const field = byId("frame-number");
  if (force === true || document.activeElement !== field) field.value = String(frame);
  setText(byId("frame-total"), `/ ${number(Math.max(0, server.frames - 1))}`);
  setText(byId("timecode"), timecode(frame, server.fps, server.frames));
}
