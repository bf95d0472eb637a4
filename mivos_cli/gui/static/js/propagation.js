/** Propagating: the split button and its menu, progress with the time left, pause and what comes after it. */

import * as api from "./api.js";
import { byId, el, icon, setIcon, setText } from "./dom.js";
import { duration, number, plural } from "./format.js";
import { goTo } from "./go.js";
import { menuCheck, startMenu } from "./menu.js";
import { attempt, confirm, toast } from "./notices.js";
import * as outbox from "./outbox.js";
import { draftOf, isComputed, jobOf, page, set, watch } from "./page.js";
import { isSettled } from "./view.js";

const FOLLOW_EVERY = 250; // ms between frames that are followed: showing them costs the server time, too
const DIRECTIONS = {
  both: ["Both directions", "To both ends of the video"],
  forward: ["Forward", "To the last frame"],
  backward: ["Backward", "To the first frame"],
  to: ["To a frame…", "Choose it on the timeline"],
  none: ["This frame only", "Keep its mask, change no other"],
};

let source = 0; // the frame that a propagation without edits starts from
let home = null; // the frame where the person was when the propagation began
let followed = 0; // when a frame was last followed
let following = false;
let newest = 0; // the frame that was propagated last

/** Builds button and menu. */
export function startPropagation() {
  byId("propagate").onclick = togglePropagation;
  startMenu("propagate-menu", "propagate-menu-button", menu);
  addEventListener("mivos-went", () => (following = false)); // the person looks elsewhere
  watch(["server", "direction", "frame", "picking", "pausing"], show);
}

/** Starts, pauses or continues, whichever makes sense now. */
export function togglePropagation() {
  if (jobOf("propagate")) return pause();
  if (page.server.round?.paused) return resume();
  propagate(page.direction);
}

/** @param {"both"|"forward"|"backward"|"to"|"none"} direction @param {number} [to] the frame for "to" */
export function propagate(direction, to) {
  const { drafts } = page.server;
  const edits = drafts.length > 0 || page.pending > 0;
  if (!edits && !isComputed(page.picking ? source : page.frame))
    return toast({ text: "Nothing to propagate yet", hint: "Draw on a frame first.", key: "propagate" });
  if (direction === "none" && !draftOf() && page.pending === 0)
    return toast({ text: "This frame has no edits", key: "propagate" });
  if (!page.picking) source = page.frame;
  if (direction === "to" && to === undefined) return set({ picking: true, playing: false });
  set({ picking: false, playing: false });
  // without edits the mask of the frame where the person is goes further, as after "Forward" alone
  const what = direction === "none" || !edits ? { direction, frames: [source] } : { direction };
  if (direction === "to") what.to = to;
  begin(async () => {
    await outbox.settled();
    await api.propagate(page.project, what);
  }, "Not propagated");
}

/** Stops after the frame that is being worked on. */
export async function pause() {
  if (page.pausing) return;
  set({ pausing: true });
  await attempt(() => api.round(page.project, "pause"), "Not paused");
  set({ pausing: false });
}

/** Goes on where it was paused. */
export const resume = () => begin(() => api.round(page.project, "continue"), "Not continued");

/** Makes a round of what is done. */
export const keep = () => attempt(() => api.round(page.project, "keep"), "Not kept");

/** Drops what is done; the edits come back. */
export async function discard() {
  const { done } = page.server.round;
  const text = `${plural(done, "frame")} already propagated would be lost. Your edits stay.`;
  if (done < 10 || (await confirm({ title: "Discard the propagation?", text, yes: "Discard" }))) {
    await attempt(() => api.round(page.project, "discard"), "Not discarded");
  }
}

/** The frame to propagate to was chosen. @param {number} frame */
export function takePick(frame) {
  propagate("to", frame);
}

/** No frame is chosen after all. */
export const stopPicking = () => set({ picking: false });

function begin(work, what) {
  home = page.frame;
  following = page.follow;
  return attempt(work, what);
}

/** The propagation has reached a frame; its mask is told of separately. @param {number|null} frame */
export const reached = (frame) => (newest = frame ?? newest);

/** Masks of the propagation have come: looks at the newest if that is wanted. @param {number[]} frames */
export function follow(frames) {
  if (!following || !page.follow || !frames.length) return;
  const now = performance.now();
  if (now - followed < FOLLOW_EVERY || !isSettled()) return;
  followed = now;
  const distance = (frame) => Math.abs(frame - newest);
  set({ frame: frames.reduce((best, frame) => (distance(frame) < distance(best) ? frame : best)) });
}

/** A propagation ended. @param {{state: string}} job */
export function propagationEnded({ state }) {
  if (following && home !== null) {
    set({ frame: Math.min(home, page.server.frames - 1) });
  }
  following = false;
  if (state === "done")
    toast({
      text: "Propagated",
      hint: "Space plays. G goes to the least certain frame.",
      level: "good",
      key: "propagate",
    });
}

function menu() {
  const busy = Boolean(jobOf("propagate")) || page.server.round !== null;
  const none = busy || !(page.server.drafts.length || isComputed(page.frame));
  const reason = busy ? "The propagation under way comes first." : "There are no edits: draw on a frame first.";
  const items = Object.entries(DIRECTIONS).map(([direction, [name, hint]]) =>
    el(
      "button",
      {
        test: `direction-${direction}`,
        role: "menuitemradio",
        "aria-checked": String(direction === page.direction),
        disabled: none || (direction === "none" && !draftOf()),
        on: {
          click: () => {
            byId("propagate-menu").hidePopover();
            // "to a frame" and "this frame" are for once; the button keeps the three others
            if (direction !== "to" && direction !== "none") set({ direction });
            propagate(direction);
          },
        },
      },
      icon(direction),
      el("span", {}, name),
      tick(),
      el("small", {}, hint),
    ),
  );
  const followHint = "Show frames while they are propagated";
  return [
    ...(none ? [el("p", { class: "note" }, reason)] : []),
    ...items,
    el("hr"),
    menuCheck({
      text: "Follow",
      hint: followHint,
      test: "follow",
      checked: page.follow,
      change: (on) => set({ follow: on }),
    }),
  ];
}

function tick() {
  const mark = el("span", { class: "tick" });
  mark.append(icon("check"));
  return mark;
}

function show() {
  if (!page.server) return;
  const button = byId("propagate");
  const running = jobOf("propagate");
  const paused = page.server.round?.paused && !running;
  const label = running ? (page.pausing ? "Pausing" : "Pause") : paused ? "Continue" : "Propagate";
  setIcon(button, running ? "pause" : paused ? "play" : page.direction);
  setText(button.querySelector("span"), label);
  button.disabled = running ? page.pausing : !paused && !page.server.drafts.length && !isComputed(page.frame);
  const { drafts } = page.server;
  const where = { both: "in both directions", forward: "forward", backward: "backward" }[page.direction];
  if (running) button.dataset.tip = "Stop after this frame; nothing is lost";
  else if (paused) button.dataset.tip = "Go on where it was paused";
  else
    button.dataset.tip = drafts.length
      ? `Carry the edits of ${plural(drafts.length, "frame")} ${where}`
      : isComputed(page.frame)
        ? `Carry this frame's mask ${where}`
        : "Draw on a frame first";
  button.dataset.key = "P";
}

/**
 * How far a job is, in words.
 * @param {{kind: string, state: string}} job
 * @param {{done: number, total: number|null, eta: number|null}|undefined} progress
 * @returns {{what: string, count: string, left: string, part: number|null}}
 */
export function describeJob(job, progress) {
  const names = {
    propagate: "Propagating",
    decode: "Reading the video",
    delete: "Deleting the object",
    export: "Exporting",
    load: "Loading the networks",
  };
  const what = job.state === "queued" ? `${names[job.kind] ?? job.kind}: waiting` : (names[job.kind] ?? job.kind);
  if (!progress?.total) return { what, count: "", left: "", part: null };
  const { done, total, eta } = progress;
  return {
    what,
    count: `${number(done)} / ${number(total)}`,
    left: eta === null ? "" : `${duration(eta)} left`,
    part: done / total,
  };
}

/** Shows the frame from which the paused round comes. */
export const goToRound = () => goTo(page.server.round.frame);
