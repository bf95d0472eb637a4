/** The list of videos and sessions of a folder. */

import * as api from "./api.js";
import { byId, el, icon } from "./dom.js";
import { moment, number, plural } from "./format.js";
import { toggleTheme } from "./theme.js";

/**
 * Shows the list.
 * @param {Object} home as the server says
 * @param {(project: string) => void} open called when one is chosen
 */
export function showHome(home, open) {
  const box = byId("home");
  const { projects } = home;
  const device = home.device && home.device !== "auto" ? ` on ${home.device}` : "";
  const top = el(
    "header",
    { class: "home-top" },
    icon("logo"),
    el("span", { class: "name" }, "mivos"),
    el("div", { class: "space" }),
    el("button", {
      class: "button quiet icon-only",
      icon: "theme",
      tip: "Dark or light",
      "aria-label": "Dark or light",
      test: "home-theme",
      on: { click: toggleTheme },
    }),
  );
  const cards = el("ul", { class: "cards" }, ...projects.map((one) => el("li", {}, card(one, open))));
  const nothing = el(
    "div",
    { class: "nothing" },
    el("strong", {}, "No videos here"),
    "Put videos or folders of images into this folder and load the page again.",
  );
  box.replaceChildren(
    el(
      "div",
      { class: "home-inner" },
      top,
      el("h1", {}, "Videos"),
      el("p", { class: "where" }, `${plural(projects.length, "project")} in ${home.folder} · ${home.model}${device}`),
      projects.length ? cards : nothing,
    ),
  );
  box.hidden = false;
}

/** Hides the list. */
export function hideHome() {
  byId("home").hidden = true;
}

function card(project, open) {
  const { id, name, kind, frames, objects, rounds, width, height, modified } = project;
  const figure = el("figure", {}, icon("film"));
  const image = el("img", { src: api.thumbUrl(id), alt: "", loading: "lazy" });
  image.addEventListener("error", () => image.remove()); // the film icon stays
  figure.append(image);
  if (project.open) figure.append(el("span", { class: "open-mark" }, "Open"));
  const size = [frames ? plural(frames, "frame") : null, width ? `${number(width)} × ${number(height)}` : null]
    .filter(Boolean)
    .join(" · ");
  const work =
    kind === "session"
      ? `${plural(objects, "object")} · ${plural(rounds, "round")} · ${moment(modified * 1000)}`
      : "Not started";
  return el(
    "button",
    { class: "card", test: `project-${id}`, on: { click: () => open(id) } },
    figure,
    el(
      "div",
      { class: "facts" },
      el("strong", { title: project.path }, name.replace(/\.mivos$/, "")),
      el("span", {}, project.error ?? size),
      el("span", {}, work),
    ),
  );
}
