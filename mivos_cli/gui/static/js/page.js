/**
 * What the page knows: the server's last state of the open project, and what is local to this tab.
 *
 * Parts of the page read `page`, change it with `set` and learn of changes with `watch`. Listeners run once per
 * turn however many things changed.
 */

/** Overlay modes in the order of their buttons. */
export const MODES = ["tint", "fade", "outline", "cutout", "difference", "off"];

/** Things that outlive the tab, and what they are at first. */
const KEPT = {
  mode: "tint",
  opacity: 50, // percent
  edge: true, // a line along the border of objects
  strokes: true, // show the strokes of drafts
  follow: true, // look at frames as they are propagated
  direction: "both",
  brush: 24, // diameter in pixels of the working size
  refine: false,
  guide: true, // show what to do next
};
const KEY = "mivos.settings";

/** @type {Object<string, any>} read it anywhere, change it with `set` only */
export const page = {
  ...KEPT,
  ...saved(),
  project: null, // id of the open project
  server: null, // its state as the server says
  confidence: new Uint8Array(0), // per frame 0..100, 255: unknown
  online: true,
  expired: false, // the server does not know this page's token
  frame: 0,
  object: 1, // the chosen one; 0 is the background
  tool: "scribble",
  window: null, // [x0, y0, x1, y1] in fractions: the local window
  hidden: new Set(), // objects whose overlay is off
  targets: new Set(), // objects that the cut-out keeps; none: all
  peek: false, // X is held: show the mask from before
  crosshair: null, // [x, y] in fractions, moved by keys
  playing: false,
  pausing: false, // a pause was asked for and the frame being worked on is not done yet
  picking: false, // a frame to propagate to is being chosen on the timeline
  copied: null, // frame whose mask was copied
  pending: 0, // actions on their way to the server
  live: 0, // grows when `liveFrames` does
  progress: null, // last progress message of a running job, plus `eta` in seconds or null
};

const watchers = [];
const changed = new Set();

/**
 * Changes some of `page`. Values that are equal are no change; for sets hand over a new Set.
 * @param {Partial<typeof page>} changes
 */
export function set(changes) {
  for (const [key, value] of Object.entries(changes)) {
    if (!(key in page)) throw new Error(`page has no ${key}`);
    if (page[key] === value) continue;
    page[key] = value;
    if (!changed.size) queueMicrotask(tell);
    changed.add(key);
  }
  if (Object.keys(changes).some((key) => key in KEPT)) keep();
}

/**
 * Calls `listener` after any of `keys` has changed, and once now.
 * @param {string[]} keys
 * @param {(changed: Set<string>) => void} listener
 */
export function watch(keys, listener) {
  watchers.push([keys, listener]);
  listener(new Set(keys));
}

/**
 * Takes a state from the server. Older ones than the one at hand are left out: answers may overtake each other.
 * @param {Object} state
 * @param {boolean} [fresh] take it whatever its revision: the server may have been started anew
 */
export function takeState(state, fresh = false) {
  if (state.id !== page.project || (!fresh && page.server && state.revision < page.server.revision)) return;
  if (!state.round) liveFrames.clear(); // the state says it all
  const changes = { server: state };
  if (state.confidence !== page.server?.confidence) {
    changes.confidence = Uint8Array.from(atob(state.confidence ?? ""), (letter) => letter.charCodeAt(0));
  }
  if (page.object !== 0 && !state.objects.some((one) => one.id === page.object)) {
    changes.object = state.objects[0]?.id ?? 1;
  }
  if (page.frame >= state.frames) changes.frame = Math.max(0, state.frames - 1);
  set(changes);
}

/** @param {number} id @returns {{id: number, name: string, colour: string}|undefined} */
export const objectOf = (id) => page.server?.objects.find((one) => one.id === id);

/** @param {number} [frame] @returns {{frame: number, actions: number, objects: number[]}|undefined} */
export const draftOf = (frame = page.frame) => page.server?.drafts.find((draft) => draft.frame === frame);

/** Frames that the running propagation has written since the last state of the server that lists them. */
export const liveFrames = new Set();

/** The running propagation has written these frames. @param {number[]} frames */
export function noteLive(frames) {
  for (const frame of frames) liveFrames.add(frame);
  set({ live: page.live + 1 });
}

/** @param {number} frame @returns {boolean} whether a propagation has reached it */
export function isComputed(frame) {
  return (
    liveFrames.has(frame) ||
    page.server?.round?.frame === frame ||
    Boolean(page.server?.computed.some(([first, last]) => first <= frame && frame <= last))
  );
}

/** @param {string} kind @returns {Object|undefined} the unfinished job of that kind */
export const jobOf = (kind) => page.server?.jobs?.find((job) => job.kind === kind && job.state !== "paused");

function tell() {
  const now = new Set(changed);
  changed.clear();
  for (const [keys, listener] of watchers) if (keys.some((key) => now.has(key))) listener(now);
}

function saved() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return Object.fromEntries(
      Object.keys(KEPT)
        .filter((key) => typeof found[key] === typeof KEPT[key])
        .map((key) => [key, found[key]]),
    );
  } catch {
    return {}; // somebody else's text under our key
  }
}

function keep() {
  try {
    localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(Object.keys(KEPT).map((key) => [key, page[key]]))));
  } catch {
    // storage is full or forbidden: the settings last as long as the tab
  }
}
