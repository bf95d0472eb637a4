/**
 * What was drawn, on its way to the server, in order and without loss.
 *
 * An action is written to localStorage before anything else happens with it and removed once the server has answered.
 * Each has an entry of its own, so tabs do not overwrite each other's; when two send the same one the server notices
 * the id. After a reload, or a day without network, what is left is sent.
 */

import * as api from "./api.js";
import { page, set } from "./page.js";

const PREFIX = "mivos.outbox";
const RETRY = 1000; // milliseconds

let project = null;
let entries = []; // {key, action}, oldest first
let sending = null; // the entry the server has now
let running = false;
let stuck = false; // waiting for the connection or for a job to end
let count = 0;
let listeners = { applied: () => {}, refused: () => {} };

/**
 * Says who is told: `applied(action)` once the server has computed it, `refused(action, error)` if it will not.
 * @param {{applied: (action: Object) => void, refused: (action: Object, error: Error) => void}} handlers
 */
export function listen(handlers) {
  listeners = handlers;
}

/** Starts with what earlier tabs left for this project. @param {string} id */
export function load(id) {
  project = id;
  const start = `${PREFIX}.${id}.`;
  entries = Object.keys(localStorage)
    .filter((key) => key.startsWith(start))
    .sort()
    .flatMap((key) => {
      try {
        return [{ key, action: JSON.parse(localStorage.getItem(key)) }];
      } catch {
        return [];
      }
    });
  sending = null;
  changed();
  resume();
}

/** Adds an action and sends it as soon as possible. @param {Object} action */
export function post(action) {
  const moment = String(Date.now()).padStart(14, "0");
  const entry = { key: `${PREFIX}.${project}.${moment}.${String(count++).padStart(6, "0")}.${action.id}`, action };
  try {
    localStorage.setItem(entry.key, JSON.stringify(action));
  } catch {
    // storage is full or forbidden: this one lives as long as the tab
  }
  entries.push(entry);
  changed();
  resume();
}

/** @param {number} frame @returns {Object[]} actions of a frame that the server has not answered */
export const waiting = (frame) => entries.filter((entry) => entry.action.frame === frame).map((entry) => entry.action);

/** Takes back the newest action that has not been sent. @returns {Object|null} it */
export function takeBack() {
  const last = entries.at(-1);
  if (!last || last === sending) return null;
  forget(last);
  return last.action;
}

/** Waits until nothing is on its way. Rejects at once without a connection. */
export async function settled() {
  while (entries.length) {
    if (stuck || !page.online) throw new api.ApiError(0, "Not connected: the last strokes are still here");
    await new Promise((done) => setTimeout(done, 15));
  }
}

/** Goes on sending: after a reconnection, or when the server has become free. */
export function resume() {
  stuck = false;
  if (!running) pump();
}

async function pump() {
  running = true;
  while (entries.length && !stuck) {
    const [mine, entry] = [project, entries[0]];
    sending = entry;
    try {
      await api.act(mine, entry.action);
      if (mine === project) {
        forget(entry);
        listeners.applied(entry.action);
      } else localStorage.removeItem(entry.key);
    } catch (error) {
      if (mine !== project) continue;
      const busy = error.status === 409; // a job runs, maybe one not heard of yet, or the project is being closed
      if (error.status === 0 || error.status === 401 || busy) stuck = true;
      if (busy && !page.server?.jobs?.length) setTimeout(resume, RETRY); // nothing else may tell when it is over
      if (!stuck) {
        forget(entry);
        listeners.refused(entry.action, error);
      }
    } finally {
      if (sending === entry) sending = null;
    }
  }
  running = false;
}

function forget(entry) {
  entries = entries.filter((other) => other !== entry);
  localStorage.removeItem(entry.key);
  changed();
}

function changed() {
  set({ pending: entries.length });
}
