/** The card that says what to do next. It changes with the state and can be put away. */

import { byId, el } from "./dom.js";
import { STEPS } from "./help.js";
import { jobOf, page, set, watch } from "./page.js";

/** Starts the card. */
export function startGuide() {
  byId("guide-dismiss").onclick = () => set({ guide: false });
  byId("guide-steps").append(...STEPS.map(([name]) => el("li", { title: name })));
  watch(["server", "guide", "window", "picking", "pending", "object"], show);
}

let shown = "";

function show() {
  if (!page.server) return;
  byId("guide").hidden = !page.guide;
  const [step, title, text] = next();
  if (shown === title + text) return;
  shown = title + text;
  [...byId("guide-steps").children].forEach(
    (mark, index) => (mark.className = index < step ? "done" : index === step ? "now" : ""),
  );
  byId("guide-title").textContent = title;
  byId("guide-text").replaceChildren(...withKeys(text));
}

/** @returns {[number, string, string]} step, title, text; keys in the text stand between ` */
function next() {
  const { server, window, pending } = page;
  const rounds = server.rounds.filter((round) => !round.undone).length;
  const drafts = server.drafts.length + (pending ? 1 : 0);
  if (!server.decoded)
    return [0, "The video is being read", "This happens once. You can look at the frames that are here already."];
  if (jobOf("propagate"))
    return [2, "Propagating", "Frames appear as they are done. Looking at others does not disturb it; `P` pauses."];
  if (server.round?.paused)
    return [2, "Paused", "Continue, keep what is done, or discard it. To correct a mistake early, keep and draw."];
  if (window) return [1, "Working in a part", "Only the lighter part changes. `Esc` leaves it."];
  if (!drafts && !rounds) {
    if (page.object === 0)
      return [0, "Choose an object", "The background is chosen. `1` chooses the first object, `N` makes a new one."];
    const first = server.objects.length ? "Draw" : "The first stroke makes object 1. Draw";
    return [1, "Mark an object", `${first} a line along it with the left button. Go to a frame where it is seen well.`];
  }
  if (!rounds)
    return [
      2,
      "Does the mask fit?",
      "More strokes improve it; the right button takes away. `N` adds another object. Then `P` propagates.",
    ];
  if (drafts)
    return [
      3,
      "Propagate the correction",
      "`P` carries it to the frames around and blends it with the masks that are there.",
    ];
  return [
    3,
    "Look for mistakes",
    "`Space` plays, `G` goes to the least certain frame. Draw there to correct it. All good? Export.",
  ];
}

function withKeys(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("kbd", {}, part) : part));
}
