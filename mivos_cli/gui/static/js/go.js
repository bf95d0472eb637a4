/** From frame to frame. */

import { clamp } from "./dom.js";
import { toast } from "./notices.js";
import { page, set } from "./page.js";

/**
 * Shows a frame.
 * @param {number} frame
 * @param {{playing?: boolean}} [how] `playing`: called by the player, which anything else stops
 */
export function goTo(frame, { playing = false } = {}) {
  if (!page.server) return;
  const wanted = clamp(Math.round(frame), 0, Math.max(0, available() - 1));
  set(playing ? { frame: wanted } : { frame: wanted, playing: false });
  if (!playing) dispatchEvent(new Event("mivos-went")); // somebody chose a frame: following would take it away
}

/** Frames that can be shown: the first ones while the video is still being read. */
export const available = () => (page.server.decoded ? page.server.frames : page.server.decoded_frames);

/** @param {number} frames how many frames on; negative: back */
export const stepBy = (frames) => goTo(page.frame + frames);

/** Frames that somebody worked on, in order. @returns {number[]} */
export function markedFrames() {
  const { drafts, rounds, round } = page.server;
  const all = [
    round?.frame,
    ...drafts.map((one) => one.frame),
    ...rounds.filter((one) => !one.undone).map((one) => one.frame),
  ];
  return [...new Set(all)].filter((frame) => frame != null).sort((a, b) => a - b);
}

/** @param {1|-1} way to the next or the previous frame somebody worked on */
export function toMarked(way) {
  const frames = markedFrames();
  const found = way > 0 ? frames.find((frame) => frame > page.frame) : frames.findLast((frame) => frame < page.frame);
  if (found !== undefined) return goTo(found);
  toast({
    text: frames.length ? `No marked frame ${way > 0 ? "after" : "before"} this one` : "No frame is marked yet",
    key: "go",
    brief: true,
  });
}

/** To the frame that is most in need of a correction. */
export function toSuggested() {
  const { suggestion } = page.server;
  if (suggestion != null) return goTo(suggestion);
  toast({ text: "No suggestion yet", hint: "There is one after the first propagation.", key: "go", brief: true });
}
