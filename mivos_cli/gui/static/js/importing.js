/** Masks from PNG files, chosen or dropped on the picture: one for this frame, several by their names. */

import * as api from "./api.js";
import { mayDraw } from "./commands.js";
import { byId, setText } from "./dom.js";
import { plural, uuid } from "./format.js";
import { goTo } from "./go.js";
import { isOpen, tell, toast } from "./notices.js";
import * as outbox from "./outbox.js";
import { page } from "./page.js";

const LARGEST = 64 * 2 ** 20; // bytes that the server takes

/** Lets the person choose files. */
export function chooseFiles() {
  byId("import-files").click();
}

/** Starts button and drag-and-drop. */
export function startImporting() {
  const input = byId("import-files");
  input.onchange = () => {
    importFiles([...input.files]);
    input.value = ""; // the same file may be chosen again
  };
  const target = byId("drop-target");
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files") && !byId("editor").hidden && !isOpen();
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // or the browser would leave the page and open the file
    if (!carriesFiles(event)) return;
    event.dataTransfer.dropEffect = "copy";
    target.hidden = false;
    const { length } = event.dataTransfer.items;
    setText(
      byId("drop-hint"),
      length > 1 ? `${length} files, to the frames in their names` : `For frame ${page.frame}`,
    );
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && (target.hidden = true));
  addEventListener("drop", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    target.hidden = true;
    if (carriesFiles(event)) importFiles([...event.dataTransfer.files]);
  });
}

/**
 * Takes files as masks, one after the other.
 * @param {File[]} files one: for this frame; several: their names say the frames
 * @param {boolean} [snap] take soft edges, too
 */
export async function importFiles(files, snap = false) {
  if (!files.length || !mayDraw()) return;
  const here = files.length === 1 ? page.frame : undefined;
  const [done, failed] = [[], []];
  for (const file of files) {
    try {
      if (file.size > LARGEST) throw new api.ApiError(400, "the file is larger than 64 MB");
      await outbox.settled();
      const id = uuid();
      const { frame } = await api.importMask(
        page.project,
        here === undefined ? { id, name: file.name, snap } : { id, frame: here, snap },
        file,
      );
      done.push(frame);
    } catch (error) {
      if (error.status === 0) return tell(error);
      failed.push({ file, error });
    }
  }
  if (done.length) {
    const where = done.length === 1 ? `frame ${done[0]}` : plural(done.length, "frame");
    toast({ text: `Masks imported: ${where}`, level: "good", key: "import" });
    if (!done.includes(page.frame)) goTo(done[0]);
  }
  if (failed.length) report(failed, snap);
}

function report(failed, snap) {
  const { file, error } = failed[0];
  const more = failed.length > 1 ? ` (and ${failed.length - 1} more)` : "";
  // the hint names the option of the command line; here it is a button
  const soft = !snap && /snap|alias/i.test(`${error.message} ${error.hint ?? ""}`);
  const action = soft
    ? {
        label: "Take soft edges",
        run: () =>
          importFiles(
            failed.map((one) => one.file),
            true,
          ),
      }
    : null;
  const text = error.message.includes(file.name) ? error.message : `${file.name}: ${error.message}`;
  toast({ text: text + more, hint: soft ? null : error.hint, level: "error", key: "import-error", action });
}
