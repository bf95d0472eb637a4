/** What is going on: the job beside the transport, and the banner above the picture. */

import * as api from "./api.js";
import { byId, el, setText } from "./dom.js";
import { plural } from "./format.js";
import { attempt, banner, toast } from "./notices.js";
import { jobOf, page, set, watch } from "./page.js";
import { describeJob, discard, keep, pause, resume, stopPicking } from "./propagation.js";
import { retryNow } from "./socket.js";

const ORDER = ["propagate", "delete", "decode", "load", "export"]; // the first that runs is shown
const WINDOW = 30; // progress messages that the speed is taken from
const FIRST_GUESS = 1500; // ms before the time left is told

const speeds = new Map(); // job -> [[ms, done], ...]
let shownJob = "";

/** Starts both. */
export function startStatus() {
  watch(["server", "progress", "online", "pausing"], showJob);
  watch(["server", "online", "expired", "picking", "pending"], showBanner);
  watch(["online"], () => (document.documentElement.dataset.connection = page.online ? "online" : "offline"));
}

/**
 * A progress message came.
 * @param {{job: string, stage: string, done: number, total: number|null, frame: number|null}} message
 */
export function takeProgress(message) {
  const now = performance.now();
  const points = speeds.get(message.job) ?? [];
  // going back to fewer is another part of the same job, with a speed of its own
  if (points.length && message.done < points.at(-1)[1]) points.length = 0;
  points.push([now, message.done]);
  if (points.length > WINDOW) points.shift();
  speeds.set(message.job, points);
  const [from, at] = points[0];
  const known = message.total && now - from > FIRST_GUESS && message.done > at;
  const eta = known ? ((message.total - message.done) * (now - from)) / (message.done - at) / 1000 : null;
  set({ progress: new Map(page.progress ?? []).set(message.job, { ...message, eta }) });
}

/**
 * A job has another state.
 * @param {{id: string, kind: string, state: string, error: string|null, hint: string|null}} job
 */
export function takeJob(job) {
  if (job.state === "queued" || job.state === "running") return;
  speeds.delete(job.id);
  const progress = new Map(page.progress ?? []);
  progress.delete(job.id);
  set({ progress });
  if (job.state === "failed") toast({ text: job.error ?? `${job.kind} failed`, hint: job.hint, level: "error" });
  if (job.state === "cancelled" && job.kind !== "propagate")
    toast({ text: "Cancelled", key: "cancelled", brief: true });
}

/** Ends a job. @param {string} id */
export const cancelJob = (id) => attempt(() => api.cancel(page.project, id), "Not cancelled");

/** The running job that matters most. */
function current() {
  const jobs = page.server?.jobs ?? [];
  return ORDER.map((kind) => jobs.find((job) => job.kind === kind && job.state !== "paused")).find(Boolean);
}

function showJob() {
  const job = page.online ? current() : undefined; // without connection nobody knows
  const box = byId("job");
  if (shownJob !== (job?.id ?? "")) {
    shownJob = job?.id ?? "";
    box.replaceChildren(...(job ? parts(job) : []));
  }
  if (!job) return;
  const { what, count, left, part } = describeJob(job, page.progress?.get(job.id));
  const button = box.querySelector("button");
  if (button && job.kind === "propagate") {
    button.disabled = page.pausing;
    setText(button, page.pausing ? "Pausing" : "Pause");
  }
  setText(box.querySelector(".what"), count ? `${what} ${count}` : what);
  setText(box.querySelector(".left"), left);
  const bar = box.querySelector(".bar");
  bar.classList.toggle("unknown", part === null);
  bar.style.setProperty("--done", String(part ?? 0));
}

function parts(job) {
  const button = { propagate: ["pause", "Pause", pause], load: null }[job.kind];
  const [test, label, run] = button === undefined ? ["cancel-job", "Cancel", () => cancelJob(job.id)] : (button ?? []);
  return [
    el("span", { class: "what" }),
    el("span", { class: "left" }),
    el("div", { class: "bar" }, el("i")),
    label ? el("button", { class: "button small", test, on: { click: run } }, label) : null,
  ].filter(Boolean);
}

function showBanner() {
  banner(bannerOfNow());
}

function bannerOfNow() {
  const { server, pending } = page;
  if (!server) return null;
  const waits = pending ? ` ${plural(pending, "edit")} will be sent then.` : "";
  if (page.expired) {
    const text = "This page belongs to an earlier start of mivos";
    return {
      key: "expired",
      level: "warning",
      text,
      hint: `Open the address that it printed now.${waits}`,
      buttons: [],
    };
  }
  if (!page.online) {
    const text = "Connection lost. Trying to reconnect";
    const hint = `What you draw is kept in this browser.${waits}`;
    return {
      key: "offline",
      level: "warning",
      text,
      hint,
      buttons: [{ label: "Try now", test: "retry", run: retryNow }],
    };
  }
  if (page.picking) {
    const text = "Choose the frame to propagate to";
    const hint = "Press it on the timeline, or go there and press Enter.";
    return {
      key: "picking",
      icon: "to",
      text,
      hint,
      buttons: [{ label: "Cancel", test: "pick-cancel", run: stopPicking }],
    };
  }
  const { round } = server;
  if (round?.paused && !jobOf("propagate")) {
    const text = `Propagation from frame ${round.frame} is paused at ${round.done} of ${plural(round.total, "frame")}`;
    const hint = "Keep makes a round of what is done. Discard gives you back the edits.";
    const buttons = [
      { label: "Discard", test: "discard", class: "quiet", run: discard },
      { label: "Keep", test: "keep", run: keep },
      { label: "Continue", test: "continue", class: "primary", run: resume },
    ];
    return { key: "paused", icon: "pause", text, hint, buttons };
  }
  if (!server.decoded && !jobOf("decode")) {
    const text = "The video has not been read to its end";
    const run = () => attempt(() => api.open(page.project));
    return {
      key: "unread",
      level: "warning",
      text,
      hint: "Masks need all frames.",
      buttons: [{ label: "Go on reading", run }],
    };
  }
  return null;
}
