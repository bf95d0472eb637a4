/** The server's pushes over a WebSocket that comes back by itself. */

import * as api from "./api.js";
import { page, set, takeState } from "./page.js";

const FIRST_WAIT = 400; // ms; doubles up to LONGEST_WAIT
const LONGEST_WAIT = 5000;
const SILENT = 1200; // ms of a broken connection before the page speaks of it

let socket = null;
let wait = FIRST_WAIT;
let timer = 0;
let quiet = 0;
let listeners = {};
let generation = 0;

/**
 * Keeps a connection to a project until `disconnect`.
 * @param {Object<string, (message: Object) => void>} handlers by type of message; `back` after each reconnection,
 *   `lost` when the page should say so, with {retry: ms until the next attempt}
 */
export function connect(handlers) {
  disconnect();
  listeners = handlers;
  dial(++generation, true);
}

/** Ends the connection for good. */
export function disconnect() {
  generation++;
  clearTimeout(timer);
  clearTimeout(quiet);
  wait = FIRST_WAIT;
  quiet = 0;
  socket?.close();
  socket = null;
}

/** Tries at once instead of waiting. */
export function retryNow() {
  if (page.online && socket?.readyState === WebSocket.OPEN) return;
  clearTimeout(timer);
  wait = FIRST_WAIT;
  dial(generation, false);
}

async function dial(mine, first) {
  clearTimeout(timer);
  try {
    // opening first: a server that was started anew does not have the project open, and it tells a stale token
    if (!first) takeState(await api.open(page.project), true);
  } catch (error) {
    if (mine !== generation) return;
    if (error.status === 401) return set({ expired: true, online: false });
    return later(mine);
  }
  if (mine !== generation) return;
  socket?.close();
  const made = new WebSocket(api.socketUrl(page.project));
  socket = made;
  made.onopen = () => {
    if (mine !== generation || socket !== made) return made.close();
    wait = FIRST_WAIT;
    clearTimeout(quiet);
    quiet = 0;
    set({ online: true, expired: false });
    if (!first) listeners.back?.({});
  };
  made.onmessage = (event) => {
    if (socket !== made) return;
    const message = JSON.parse(event.data);
    listeners[message.type]?.(message);
  };
  made.onclose = () => {
    if (mine === generation && socket === made) later(mine);
  };
}

function later(mine) {
  const pause = wait * (0.8 + 0.4 * Math.random()); // tabs must not all knock at the same moment
  wait = Math.min(LONGEST_WAIT, wait * 2);
  quiet ||= setTimeout(() => {
    if (mine === generation) set({ online: false });
  }, SILENT);
  listeners.lost?.({ retry: pause });
  timer = setTimeout(() => dial(mine, false), pause);
}

addEventListener("online", retryNow);
// the person may have opened the new address in another tab, which gives this one its cookie, too
addEventListener("focus", () => page.expired && retryNow());
