/** The server's HTTP interface, one function per call. Addresses are relative, so the page may live behind a prefix. */

/** A call that did not work. `status` 0: the server was not reached. */
export class ApiError extends Error {
  /** @param {number} status @param {string} message @param {string|null} [hint] */
  constructor(status, message, hint = null) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

const at = (project, rest = "") => `api/projects/${encodeURIComponent(project)}/${rest}`;

async function request(method, url, { json, body } = {}) {
  const headers = json === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(url, { method, headers, body: json === undefined ? body : JSON.stringify(json) });
  } catch {
    throw new ApiError(0, "The server cannot be reached");
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new ApiError(response.status, told.error ?? `The server answered ${response.status}`, told.hint ?? null);
  }
  return response;
}

async function data(method, url, options) {
  const response = await request(method, url, options);
  try {
    return response.status === 204 ? {} : await response.json();
  } catch {
    throw new ApiError(0, "The answer of the server was cut off");
  }
}

/** What the server serves: folder, projects. */
export const home = () => data("GET", "api/home");
/** Opens a project (again). @param {string} project @returns {Promise<Object>} its state */
export const open = (project) => data("POST", at(project, "open"));
/** @param {string} project */
export const close = (project) => data("POST", at(project, "close"));
/** @param {string} project @param {Object} action of the contract; repeating one is harmless */
export const act = (project, action) => data("POST", at(project, "actions"), { json: action });
/** @param {string} project @param {"undo"|"redo"} which @returns {Promise<{frame: number|null, what: string}>} */
export const step = (project, which) => data("POST", at(project, which));
/** @param {string} project @param {{name?: string, colour?: string}} [look] @returns {Promise<{id: number}>} */
export const addObject = (project, look = {}) => data("POST", at(project, "objects"), { json: look });
/** @param {string} project @param {number} id @param {{name?: string, colour?: string}} look */
export const changeObject = (project, id, look) => data("PATCH", at(project, `objects/${id}`), { json: look });
/** @param {string} project @param {number} id */
export const deleteObject = (project, id) => data("DELETE", at(project, `objects/${id}`));
/** @param {string} project @param {{id: string, frame: number, from: number, objects: number[]|null}} what */
export const paste = (project, what) => data("POST", at(project, "paste"), { json: what });
/** @param {string} project @param {{direction: string, to?: number, frames?: number[]}} what */
export const propagate = (project, what) => data("POST", at(project, "propagate"), { json: what });
/** @param {string} project @param {"pause"|"continue"|"keep"|"discard"} what to do with the round in progress */
export const round = (project, what) => data("POST", at(project, what));
/** @param {string} project @param {string} job */
export const cancel = (project, job) => data("POST", at(project, `jobs/${encodeURIComponent(job)}/cancel`));
/** @param {string} project @param {string[]} formats */
export const exportTo = (project, formats) => data("POST", at(project, "export"), { json: { formats } });
/** @param {string} project @returns {Promise<{exports: Object[]}>} */
export const exportsOf = (project) => data("GET", at(project, "exports"));
/** @param {string} project @param {string} id */
export const deleteExport = (project, id) => data("DELETE", at(project, `exports/${encodeURIComponent(id)}`));

/**
 * Takes a PNG as the mask of a frame.
 * @param {string} project
 * @param {{id: string, frame?: number, name?: string, snap?: boolean}} what a frame, or a file name that says it
 * @param {Blob} png
 * @returns {Promise<{frame: number}>}
 */
export function importMask(project, { id, frame, name, snap = false }, png) {
  const query = new URLSearchParams({ id, snap: snap ? "1" : "0" });
  if (frame === undefined) query.set("name", name);
  else query.set("frame", String(frame));
  return data("PUT", at(project, `import?${query}`), { body: png });
}

/** @param {string} project @param {number} frame @returns {Promise<{actions: Object[]}>} */
export const draft = (project, frame) => data("GET", at(project, `drafts/${frame}`));

/**
 * @param {string} project
 * @param {number} frame
 * @param {"shown"|"committed"|"before"} which
 * @returns {Promise<Uint8Array|null>} object ids row by row, or null where there is no mask
 */
export async function mask(project, frame, which) {
  const response = await request("GET", at(project, `masks/${frame}?which=${which}`));
  return response.status === 204 ? null : new Uint8Array(await response.arrayBuffer());
}

/** @param {string} project @param {number} frame @returns {Promise<Blob>} a JPEG of the working size */
export const frameImage = async (project, frame) => (await request("GET", frameUrl(project, frame))).blob();

/** Address of a frame's JPEG. @param {string} project @param {number} frame @param {number} [width] of a thumbnail */
export const frameUrl = (project, frame, width) => at(project, `frames/${frame}.jpg${width ? `?w=${width}` : ""}`);

/** @param {string} project @returns {string} address of a small picture of the video */
export const thumbUrl = (project) => at(project, "thumb.jpg");

/** @param {string} project @param {string} id @param {string} file @returns {string} address of a download */
export const exportUrl = (project, id, file) =>
  at(project, `exports/${encodeURIComponent(id)}/${encodeURIComponent(file)}`);

/** @param {string} project @returns {string} address of the WebSocket */
export function socketUrl(project) {
  const url = new URL(at(project, "ws"), document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}
