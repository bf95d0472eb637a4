/** Dark and light: the system's choice until somebody presses the button, which is then remembered. */

const KEY = "mivos.theme";
const CHOICES = ["system", "light", "dark"];

/** @returns {"system"|"light"|"dark"} */
export function themeChoice() {
  const saved = localStorage.getItem(KEY);
  return CHOICES.includes(saved) ? saved : "system";
}

/** @returns {boolean} whether the page is dark now */
export function isDark() {
  const choice = themeChoice();
  return choice === "system" ? matchMedia("(prefers-color-scheme: dark)").matches : choice === "dark";
}

/** Changes between dark and light. Choosing what the system has means following the system again. */
export function toggleTheme() {
  const wanted = isDark() ? "light" : "dark";
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  if (wanted === system) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, wanted);
  apply();
}

/**
 * Calls back after each change of theme, by the button, the system or another tab.
 * @param {() => void} listener
 */
export function onTheme(listener) {
  addEventListener("mivos-theme", listener);
}

/**
 * The colours of the style sheet for canvases, resolved for the theme of now.
 * @param {string[]} names without the leading dashes
 * @returns {Object<string, string>}
 */
export function colours(names) {
  // light-dark() is only resolved in a property that takes a colour, so a hidden element is asked
  const probe = document.createElement("i");
  document.documentElement.append(probe);
  const found = {};
  for (const name of names) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

function apply() {
  const choice = themeChoice();
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  dispatchEvent(new Event("mivos-theme"));
}

apply();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
addEventListener("storage", (event) => event.key === KEY && apply());
