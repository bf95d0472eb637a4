/** What a person can do to masks and objects; buttons, keys and the pointer call these. */

import * as api from "./api.js";
import { clamp } from "./dom.js";
import { uuid } from "./format.js";
import { goTo } from "./go.js";
import { linger } from "./ink.js";
import { attempt, confirm, tell, toast } from "./notices.js";
import * as outbox from "./outbox.js";
import { jobOf, MODES, objectOf, page, set } from "./page.js";
import { frameOnScreen, masksChanged, moveView } from "./view.js";

const LARGEST_BRUSH = 200; // pixels of the working size
const PUSH_TIME = 250; // ms that the server's push of a mask may take before the page asks by itself

let drawing = "scribble"; // the tool to come back to when the window has been drawn
let history = Promise.resolve(); // undo and redo one after the other, however fast the keys
let pushed = new Map(); // frame -> number of pushes

// ---- tools and view

/** @param {string} tool */
export function setTool(tool) {
  if (tool !== "window" && tool !== "pan") drawing = tool;
  set({ tool, crosshair: null });
}

/** Sets the brush. @param {number} size in pixels @param {number} [step] at least so many pixels of change */
export function setBrush(size, step = 0) {
  const rounded = Math.round(size);
  const wanted = rounded === page.brush ? page.brush + Math.sign(step) : rounded;
  set({ brush: clamp(wanted, 1, LARGEST_BRUSH) });
}

/** The next way to show masks. */
export const nextMode = () => set({ mode: MODES[(MODES.indexOf(page.mode) + 1) % MODES.length] });

/** Works inside a part of the frame from now on. @param {number[]} box [x0, y0, x1, y1] in fractions */
export function enterWindow(box) {
  set({ window: box, tool: drawing });
  moveView((view) => view.fitBox(box));
}

/** Back to the whole frame. */
export function leaveWindow() {
  set({ window: null });
  moveView((view) => view.fit());
}

// ---- drawing

/** Whether a stroke may begin now; says why if not. */
export function mayDraw() {
  if (frameOnScreen() !== page.frame) return false; // it would land on a frame that is not seen
  const job = jobOf("propagate") ?? jobOf("delete");
  let text = "";
  if (!page.server.decoded) text = "The video is still being read";
  else if (job) text = job.kind === "propagate" ? "Pause the propagation to draw" : "An object is being deleted";
  if (text) toast({ text, key: "busy", level: "warning", brief: true });
  else set({ playing: false });
  return !text;
}

/**
 * The sign of a stroke for the background, whichever button drew it: a scribble is the background, the other kinds
 * take away from all objects.
 * @param {string} kind
 */
export const backgroundSign = (kind) => kind === "scribble";

/** Sends what was drawn; the first stroke of all makes its object. @param {Object} action without an id */
export async function draw(action) {
  const made = { id: uuid(), ...action };
  if (made.object !== 0 && !objectOf(made.object)) {
    linger(made); // it has no place in the outbox before it has an object
    try {
      made.object = await makeObject();
    } catch (error) {
      // Without connection it goes out under the number it has: the server makes objects that it does not know.
      if (error.status !== 0) {
        tell(error, "Not drawn");
        return masksChanged([made.frame]);
      }
    }
  }
  send(made);
}

/** Moves the crosshair of the click tool. @param {string} key an arrow key @param {number} distance as a fraction */
export function moveCrosshair(key, distance) {
  if (page.tool !== "click") setTool("click");
  const [x, y] = page.crosshair ?? [0.5, 0.5];
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  const tall = page.server.width / page.server.height; // equal steps on screen both ways
  set({ crosshair: [clamp(x + dx * distance, 0, 1), clamp(y + dy * distance * tall, 0, 1)] });
}

/** Clicks where the crosshair is. @param {boolean} positive */
export function clickThere(positive) {
  if (!page.crosshair || !mayDraw()) return;
  const { frame, object, crosshair, window, refine } = page;
  const sign = object === 0 ? backgroundSign("click") : positive;
  draw({
    frame,
    kind: "click",
    object,
    positive: sign,
    path: [crosshair],
    window,
    refine: refine && Boolean(page.server.can_refine),
  });
}

function send(action) {
  const seen = pushed.get(action.frame) ?? 0;
  pending.set(action.id, seen);
  outbox.post(action);
}
const pending = new Map(); // id of an action -> pushes of its frame when it was sent

/** Starts telling the outbox what to do with answers. */
export function startCommands() {
  outbox.listen({
    applied(action) {
      linger(action);
      const seen = pending.get(action.id) ?? -1;
      pending.delete(action.id);
      const { frame } = action;
      const late = () => (pushed.get(frame) ?? 0) <= seen && masksChanged([frame]);
      if ((pushed.get(frame) ?? 0) <= seen) setTimeout(late, PUSH_TIME);
    },
    refused(action, error) {
      tell(error, `Not done on frame ${action.frame}`);
      masksChanged([action.frame]);
    },
  });
}

/** Masks were pushed by the server. @param {number[]|null} list */
export function notePush(list) {
  for (const frame of list ?? [page.frame]) pushed.set(frame, (pushed.get(frame) ?? 0) + 1);
  masksChanged(list);
}

// ---- frames

/** Drops the edits of this frame. */
export function resetFrame() {
  if (mayDraw()) send({ id: uuid(), frame: page.frame, kind: "reset" });
}

/** Makes this frame empty. */
export function clearFrame() {
  if (mayDraw()) send({ id: uuid(), frame: page.frame, kind: "clear" });
}

/** Remembers this frame, to paste its mask elsewhere. */
export function copyMask() {
  set({ copied: page.frame });
  toast({ text: `Mask of frame ${page.frame} copied`, level: "good", key: "copy", brief: true });
}

/** Puts the copied mask on this frame. @param {boolean} onlyChosen only the chosen object */
export function pasteMask(onlyChosen) {
  if (page.copied === null)
    return toast({ text: "Nothing is copied yet", hint: "Ctrl+C copies the mask of a frame.", key: "copy" });
  if (!mayDraw()) return;
  const objects = onlyChosen && page.object !== 0 ? [page.object] : null;
  const what = { id: uuid(), frame: page.frame, from: page.copied, objects };
  return attempt(async () => {
    await outbox.settled();
    await api.paste(page.project, what);
  }, "Not pasted");
}

// ---- undo

/** Takes the last thing back. */
export const undo = () => queue("undo");

/** Does again what was taken back. */
export const redo = () => queue("redo");

function queue(which) {
  history = history.then(() => attempt(() => stepHistory(which)));
  return history;
}

async function stepHistory(which) {
  // what has not been sent needs no server to be undone
  if (which === "undo" && !page.online) {
    const taken = outbox.takeBack();
    if (taken) return masksChanged([taken.frame]);
  }
  await outbox.settled();
  if (page.server[which] === null) {
    const seen = page.server.revision;
    // the answer to the last action may be ahead of the state that says it can be undone
    await new Promise((done) => setTimeout(done, 80));
    if (page.server.revision === seen) return toast({ text: `Nothing to ${which}`, key: "history", brief: true });
  }
  const { frame, what } = await api.step(page.project, which);
  if (frame != null) goTo(frame);
  toast({ text: `${which === "undo" ? "Undone" : "Done again"}: ${what}`, key: "history", brief: true });
}

// ---- objects

/** @param {number} id 0 is the background */
export function selectObject(id) {
  if (id === 0 || objectOf(id)) return set({ object: id });
  toast({ text: `There is no object ${id}`, hint: "N makes a new one.", key: "object", brief: true });
}

/** Makes an object and chooses it. @returns {Promise<number|undefined>} its number */
export function addObject() {
  return attempt(makeObject, "No new object");
}

async function makeObject() {
  const { id } = await api.addObject(page.project);
  await until(() => objectOf(id)); // it comes with the next state
  set({ object: id });
  return id;
}

/** @param {number} id @param {{name?: string, colour?: string}} look */
export const changeObject = (id, look) => attempt(() => api.changeObject(page.project, id, look), "Not changed");

/** Shows or hides an object's overlay, in this tab only. @param {number} id */
export function toggleEye(id) {
  if (id === 0) return;
  const hidden = new Set(page.hidden);
  if (!hidden.delete(id)) hidden.add(id);
  set({ hidden });
}

/** Keeps an object in the cut-out, or not. @param {number} id */
export function toggleTarget(id) {
  const targets = new Set(page.targets);
  if (!targets.delete(id)) targets.add(id);
  set({ targets });
}

/** Deletes an object after a question. @param {number} id */
export async function deleteObject(id) {
  const { name, used } = objectOf(id);
  const text = used ? "It is removed from the masks of all frames. Undo brings it back." : "Nothing was drawn for it.";
  if (used && !(await confirm({ title: `Delete “${name}”?`, text, yes: "Delete" }))) return;
  await attempt(async () => {
    await outbox.settled();
    await api.deleteObject(page.project, id);
  }, "Not deleted");
}

/** Waits for something that the next push brings, but not for ever. */
async function until(holds) {
  for (let i = 0; i < 100 && !holds(); i++) await new Promise((done) => setTimeout(done, 10));
}
