/**
 * Every key, in the order of the help. This table is the only one: `keys.js` acts on it, `help.js` prints it.
 *
 * A key is written with its modifiers first: Ctrl (Cmd on a Mac), Alt, Shift, then the letter, sign or name as the
 * browser tells it. Lines without `command` are for mouse and pen and are only printed.
 */

/** @typedef {{keys: string[], text: string, command?: string, argument?: any}} Line */

const digits = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];

/** @type {{title: string, lines: Line[]}[]} */
export const KEYMAP = [
  {
    title: "Tools",
    lines: [
      { keys: ["S"], text: "Scribble", command: "tool", argument: "scribble" },
      { keys: ["C"], text: "Click", command: "tool", argument: "click" },
      { keys: ["B"], text: "Brush", command: "tool", argument: "brush" },
      { keys: ["E"], text: "Eraser", command: "tool", argument: "eraser" },
      { keys: ["L"], text: "Lasso", command: "tool", argument: "lasso" },
      { keys: ["W"], text: "Local window", command: "tool", argument: "window" },
      { keys: ["H"], text: "Move the picture", command: "tool", argument: "pan" },
      { keys: ["["], text: "Smaller brush", command: "brush", argument: -1 },
      { keys: ["]"], text: "Larger brush", command: "brush", argument: 1 },
      { keys: ["Alt+wheel"], text: "Size of the brush" },
      { keys: ["Left button"], text: "This is the object" },
      { keys: ["Right button"], text: "This is not" },
      { keys: ["Escape"], text: "Cancel, leave the window", command: "escape" },
    ],
  },
  {
    title: "Objects",
    lines: [
      { keys: digits, text: "Choose the object", command: "object" },
      { keys: ["0"], text: "Choose the background", command: "object" },
      { keys: ["N"], text: "New object", command: "addObject" },
      { keys: ["F2"], text: "Rename", command: "rename" },
      { keys: ["V"], text: "Show or hide", command: "toggleEye" },
    ],
  },
  {
    title: "Edits",
    lines: [
      { keys: ["Ctrl+Z"], text: "Undo", command: "undo" },
      { keys: ["Ctrl+Y", "Ctrl+Shift+Z"], text: "Redo", command: "redo" },
      { keys: ["Ctrl+C"], text: "Copy the mask", command: "copy" },
      { keys: ["Ctrl+V"], text: "Paste the mask", command: "paste" },
      { keys: ["Ctrl+Shift+V"], text: "Paste chosen object", command: "pasteObject" },
      { keys: ["R"], text: "Reset the frame", command: "reset" },
      { keys: ["Delete"], text: "Clear the frame", command: "clear" },
    ],
  },
  {
    title: "Frames",
    lines: [
      { keys: ["ArrowLeft"], text: "Previous frame", command: "step", argument: -1 },
      { keys: ["ArrowRight"], text: "Next frame", command: "step", argument: 1 },
      { keys: ["Shift+ArrowLeft"], text: "Ten frames back", command: "step", argument: -10 },
      { keys: ["Shift+ArrowRight"], text: "Ten frames on", command: "step", argument: 10 },
      { keys: ["Home"], text: "First frame", command: "first" },
      { keys: ["End"], text: "Last frame", command: "last" },
      { keys: ["J"], text: "Previous marked frame", command: "marked", argument: -1 },
      { keys: ["K"], text: "Next marked frame", command: "marked", argument: 1 },
      { keys: ["G"], text: "Suggested frame", command: "suggested" },
      { keys: ["Space"], text: "Play, stop", command: "space" },
    ],
  },
  {
    title: "Propagate",
    lines: [{ keys: ["P", "Enter"], text: "Start, pause, continue", command: "propagate" }],
  },
  {
    title: "Help",
    lines: [{ keys: ["?"], text: "This page", command: "help" }],
  },
  {
    title: "View",
    lines: [
      { keys: ["+", "="], text: "Zoom in", command: "zoom", argument: 1 },
      { keys: ["-"], text: "Zoom out", command: "zoom", argument: -1 },
      { keys: ["F"], text: "Whole frame", command: "fit" },
      { keys: ["Z"], text: "Actual pixels", command: "actual" },
      { keys: ["Wheel"], text: "Zoom at the pointer" },
      { keys: ["Space+drag"], text: "Move (or middle button)" },
      { keys: ["M"], text: "Next overlay", command: "mode" },
      { keys: ["X"], text: "Hold: the mask before", command: "peek" },
      { keys: ["T"], text: "Show strokes", command: "strokes" },
    ],
  },
  {
    title: "Click without a mouse",
    lines: [
      {
        keys: ["Alt+ArrowLeft", "Alt+ArrowRight", "Alt+ArrowUp", "Alt+ArrowDown"],
        text: "Move the crosshair",
        command: "crosshair",
        argument: 0.01,
      },
      {
        keys: ["Alt+Shift+ArrowLeft", "Alt+Shift+ArrowRight", "Alt+Shift+ArrowUp", "Alt+Shift+ArrowDown"],
        text: "Move it fast",
        command: "crosshair",
        argument: 0.05,
      },
      { keys: ["Enter"], text: "Click there", command: "clickThere", argument: true },
      { keys: ["Shift+Enter"], text: "Click: not this", command: "clickThere", argument: false },
    ],
  },
];

const NAMES = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc" };

/** @param {string} key of the table @returns {string} as it is printed */
export const keyLabel = (key) =>
  key
    .split(/\+(?=.)/)
    .map((part) => NAMES[part] ?? part)
    .join("+");
