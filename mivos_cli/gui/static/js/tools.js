/** The tools: the rail on the left and the options bar above the picture. */

import { leaveWindow, setBrush, setTool } from "./commands.js";
import { byId, el, setRange, setText } from "./dom.js";
import { objectOf, page, set, watch } from "./page.js";

/** id, key, name, what it is for, and what the buttons do; {object} is the chosen object's name. */
const TOOLS = [
  {
    id: "scribble",
    key: "S",
    name: "Scribble",
    tip: "Draw a line along the object; the network finds the rest",
    left: "is {object}",
    right: "is not {object}",
  },
  {
    id: "click",
    key: "C",
    name: "Click",
    tip: "Click on the object; the network finds the rest",
    left: "is {object}",
    right: "is not {object}",
  },
  {
    id: "brush",
    key: "B",
    name: "Brush",
    tip: "Paint the mask itself",
    left: "paint {object}",
    right: "erase {object}",
  },
  {
    id: "eraser",
    key: "E",
    name: "Eraser",
    tip: "Erase the mask itself",
    left: "erase {object}",
    right: "paint {object}",
  },
  { id: "lasso", key: "L", name: "Lasso", tip: "Fill an area", left: "fill with {object}", right: "cut from {object}" },
  null,
  {
    id: "window",
    key: "W",
    name: "Local window",
    tip: "Work zoomed in on a part; only that part changes",
    left: "drag a box around the part to work on",
  },
  { id: "pan", key: "H", name: "Move", tip: "Move the picture", left: "drag to move the picture" },
];

/** Tools that draw. */
export const DRAWING = new Set(["scribble", "click", "brush", "eraser", "lasso"]);

/** Builds rail and options. */
export function startTools() {
  const rail = byId("rail");
  for (const tool of TOOLS) {
    if (!tool) rail.append(el("hr"));
    else
      rail.append(
        el("button", {
          class: "button quiet icon-only",
          icon: tool.id,
          test: `tool-${tool.id}`,
          id: `tool-${tool.id}`,
          "aria-label": tool.name,
          "aria-pressed": "false",
          tip: `${tool.name}: ${lower(tool.tip)}`,
          key: tool.key,
          "data-side": "right",
          on: { click: () => setTool(tool.id) },
        }),
      );
  }
  rail.addEventListener("keydown", walk);
  byId("brush-size").oninput = (event) => setBrush(Number(event.target.value));
  byId("refine").onchange = (event) => set({ refine: event.target.checked });
  byId("finish-window").onclick = leaveWindow;
  watch(["tool", "object", "server", "window", "brush", "refine"], show);
}

function show() {
  const chosen = TOOLS.find((tool) => tool?.id === page.tool);
  for (const tool of TOOLS) {
    const button = tool && byId(`tool-${tool.id}`);
    const pressed = tool === chosen;
    button?.setAttribute("aria-pressed", String(pressed));
    if (button) button.tabIndex = pressed ? 0 : -1; // one stop of the Tab key, arrows inside
  }
  setText(byId("tool-name"), chosen.name);
  const name = page.object === 0 ? "background" : (objectOf(page.object)?.name ?? "object 1");
  const hint = (button, text) => el("span", {}, el("b", {}, `${button}:`), ` ${text.replace("{object}", name)}`);
  const hints = [];
  if (page.object === 0 && DRAWING.has(page.tool)) hints.push(hint("Left", "no object here"));
  else {
    hints.push(hint("Left", chosen.left));
    if (chosen.right) hints.push(hint("Right", chosen.right));
  }
  const said = hints.map((one) => one.textContent).join(" ");
  if (byId("tool-hints").dataset.said !== said) {
    byId("tool-hints").dataset.said = said;
    byId("tool-hints").replaceChildren(...hints);
  }
  byId("brush-option").hidden = page.tool !== "brush" && page.tool !== "eraser";
  byId("refine-option").hidden = page.tool !== "click" || !page.server?.can_refine;
  byId("finish-window").hidden = !page.window;
  setRange(byId("brush-size"), page.brush);
  setText(byId("brush-value"), `${page.brush} px`);
  byId("refine").checked = page.refine;
}

function walk(event) {
  const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!way) return;
  event.preventDefault();
  const all = [...byId("rail").querySelectorAll("button")];
  const next = all[(all.indexOf(document.activeElement) + way + all.length) % all.length];
  next.click();
  next.focus();
}

const lower = (text) => text[0].toLowerCase() + text.slice(1);
