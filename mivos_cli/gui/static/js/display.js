/** How masks are shown: the buttons of the overlay modes, opacity, and the menu beside them. */

import { byId, el, setRange, setText } from "./dom.js";
import { menuCheck, startMenu } from "./menu.js";
import { MODES, page, set, watch } from "./page.js";

const NAMES = {
  tint: "Tint: objects in their colours",
  fade: "Fade: everything else darker",
  outline: "Outline: borders only",
  cutout: "Cut-out: nothing but objects",
  difference: "Difference: what the last change added and removed",
  off: "Off: the video alone",
};

/** Builds the controls. */
export function startDisplay() {
  const box = byId("modes");
  for (const mode of MODES) {
    box.append(
      el("button", {
        class: "button quiet icon-only",
        icon: mode,
        test: `mode-${mode}`,
        id: `mode-${mode}`,
        tip: NAMES[mode],
        key: "M",
        "aria-label": NAMES[mode],
        "aria-pressed": "false",
        on: { click: () => set({ mode }) },
      }),
    );
  }
  byId("opacity").oninput = (event) => set({ opacity: Number(event.target.value) });
  startMenu("view-menu", "view-options", () => [
    menuCheck({
      text: "Line along borders",
      hint: "In tint and fade",
      test: "edge-line",
      checked: page.edge,
      change: (edge) => set({ edge }),
    }),
    menuCheck({
      text: "Strokes of edits",
      hint: "Not yet propagated ones",
      test: "show-strokes",
      key: "T",
      checked: page.strokes,
      change: (strokes) => set({ strokes }),
    }),
    menuCheck({
      text: "What to do next",
      hint: "The card at the lower right",
      test: "show-guide",
      checked: page.guide,
      change: (guide) => set({ guide }),
    }),
  ]);
  watch(["mode", "opacity", "peek"], () => {
    for (const mode of MODES) byId(`mode-${mode}`).setAttribute("aria-pressed", String(mode === page.mode));
    setRange(byId("opacity"), page.opacity);
    byId("opacity").disabled = !["tint", "fade", "outline"].includes(page.mode);
    setText(byId("opacity-value"), `${page.opacity} %`);
    byId("legend").hidden = page.mode !== "difference" || page.peek;
  });
}
