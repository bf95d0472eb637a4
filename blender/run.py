"""The videos of one run: worker threads that each watch a renderer process, records, and the manifest."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blender.assets import BUILTIN, Assets
from blender.environment import Renderer
from blender.process import STALL, DiedLoadingError, run_job
from blender.scene import Scene
from stores.durable import sync_folder
from stores.errors import RenderError
from stores.files import atomic_file, make_folder
from stores.item_locks import item_lock, record_lock
from stores.mask_colours import davis_palette

DEATHS = 4  # files that may kill the renderer, per video
FAILURES = 3  # videos that may fail one after the other before the run is given up
USUAL = 64 * 768 * 512  # samples of a frame for which `STALL` is ample
LOCKS = "work/locks"
FOLDERS = {"images": ("JPEGImages", ".jpg"), "masks": ("Annotations", ".png")}


@dataclass
class _Notes:
    """What the renderer said about the files of one video."""

    skip: dict[str, str] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    used: list[dict[str, Any]] = field(default_factory=list)


class Run:
    """What the worker threads share.

    Args:
        out: the data set's folder.
        samples: per pixel.
        assets: the files that scenes name.
        renderer: what to start.
        progress: is called with (frames done, frames wanted).
        warn: is called with lines for the user.
    """

    def __init__(
        self,
        out: Path,
        samples: int,
        assets: Assets,
        renderer: Renderer,
        progress: Callable[[int, int], None],
        warn: Callable[[str], None],
    ) -> None:
        self._out, self._samples, self._assets, self._renderer = out, samples, assets, renderer
        self._progress, self._warn = progress, warn
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._done = self._total = 0
        self.frames = 0  # rendered by this run
        self.replaced: list[dict[str, str]] = []

    def render(self, scenes: Sequence[Scene], workers: int, threads: int) -> int:
        """Render the scenes that have no record yet, `workers` at a time; returns how many those were.

        Raises:
            RenderError: videos failed. The others were rendered, unless three failed one after the other.
            StorageFullError: there is no room.
        """
        waiting = [scene for scene in scenes if self._record(scene.id) is None]
        self._total = sum(scene.frames for scene in scenes)
        self._done = self._total - sum(scene.frames - self._frames_there(scene) for scene in waiting)
        self._progress(self._done, self._total)
        self._write_manifest()
        failures: list[RenderError] = []
        in_a_row = 0
        with ThreadPoolExecutor(workers) as pool:
            pending: set[Future[None]] = {pool.submit(self._video, scene, threads) for scene in waiting}
            try:
                while pending:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in finished:
                        error = future.exception()
                        if error is None:
                            in_a_row = 0
                            continue
                        if not isinstance(error, RenderError):
                            raise error
                        failures.append(error)
                        in_a_row += 1
                        self._warn(str(error))
                        if in_a_row == FAILURES:
                            raise self._failed(failures, waiting)
                    self._write_manifest()
            finally:
                self._stop.set()
                for future in pending:
                    future.cancel()
        if failures:
            raise self._failed(failures, waiting)
        return len(waiting)

    def _failed(self, failures: Sequence[RenderError], waiting: Sequence[Scene]) -> RenderError:
        if len(waiting) == 1:
            return failures[0]
        message = f"{len(failures)} of {len(waiting)} videos failed; the first: {failures[0]}"
        return RenderError(message, hint=failures[0].hint)

    def _folder(self, scene: Scene, kind: str) -> Path:
        """Where a video's files are: under its name once all are there, else in `work`."""
        final = self._out / FOLDERS[kind][0] / scene.id
        return final if final.is_dir() else self._out / "work" / scene.id / FOLDERS[kind][0]

    def _frames_there(self, scene: Scene) -> int:
        return sum(1 for _ in self._folder(scene, "images").glob("*.jpg"))

    def _record(self, video: str) -> dict[str, Any] | None:
        path = self._out / "records" / f"{video}.json"
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None  # not done; rendering it again finds its frames
        return record if isinstance(record, dict) and record.get("id") == video else None

    def _video(self, scene: Scene, threads: int) -> None:
        """Render one video in this thread; leaves it as it is when the run is stopped."""
        if self._stop.is_set():
            return
        with item_lock(self._out / LOCKS / f"{scene.id}.lock", f"video {self._out.name}/{scene.id}"):
            if self._record(scene.id) is None:  # else another process has rendered it meanwhile
                self._render_video(scene, threads)

    def _render_video(self, scene: Scene, threads: int) -> None:
        began, notes = time.monotonic(), _Notes()
        stall = STALL * max(1.0, self._samples * scene.size[0] * scene.size[1] / USUAL)
        work, log = self._out / "work" / scene.id, self._out / "logs" / f"{scene.id}.log"
        folders = {kind: self._folder(scene, kind) for kind in FOLDERS}
        for folder in (work, *folders.values()):
            make_folder(folder)
        finished = False
        while not finished:
            job = self._write_job(scene, work, folders, threads, notes.skip)
            notes.used.clear()
            try:
                finished = run_job(
                    self._renderer, job, log, lambda event: self._take(event, scene, notes), self._stop, stall
                )
                if not finished:
                    return
            except DiedLoadingError as error:
                notes.skip[error.name] = error.why
                if len(notes.skip) > DEATHS:
                    hint = f"the last was {error.name}; what it printed is in {log}"
                    raise RenderError(f"{scene.id}: the renderer died of {DEATHS} files", hint=hint) from error
        self._move_in(scene, folders)
        record = self._make_record(scene, notes, time.monotonic() - began)
        with atomic_file(self._out / "records" / f"{scene.id}.json") as file:
            file.write((json.dumps(record) + "\n").encode())
        with self._mutex:
            self.replaced += record["replaced"]
        shutil.rmtree(work, ignore_errors=True)

    def _move_in(self, scene: Scene, folders: Mapping[str, Path]) -> None:
        """Give the folders of a complete video their places; masks first, so that no picture is without."""
        for kind in ("masks", "images"):
            name, suffix = FOLDERS[kind]
            for i in range(scene.frames):
                path = folders[kind] / f"{i:05d}{suffix}"
                if not path.is_file():
                    raise RenderError(f"{path}: the renderer did not write it")
            make_folder(self._out / name)
            sync_folder(folders[kind])
            folders[kind].rename(self._out / name / scene.id)

    def _write_job(
        self, scene: Scene, work: Path, folders: Mapping[str, Path], threads: int, skip: Mapping[str, str]
    ) -> Path:
        objects = scene.objects
        names = {
            "meshes": [item.model for item in objects],
            "textures": [item.texture for item in objects],
            "skies": [scene.sky.image],
        }
        for kind, spares in scene.spares.items():
            # Embedded ones cannot fail, and pictures would be painted for nothing.
            names[kind] += [name for name in spares if not name.startswith(BUILTIN)]
        job = {
            "scene": str((self._out / "scenes" / f"{scene.id}.json").resolve()),
            "images": str(folders["images"].resolve()),
            "masks": str(folders["masks"].resolve()),
            "work": str(work.resolve()),
            "files": {kind: {name: self._assets.file(kind, name) for name in names[kind]} for kind in names},
            "skip": dict(skip),
            "samples": self._samples,
            "threads": threads,
            "palette": davis_palette().ravel().tolist(),
        }
        path = work / f"{scene.id}.json"
        with atomic_file(path) as file:
            file.write(json.dumps(job).encode())
        return path

    def _take(self, event: Mapping[str, Any], scene: Scene, notes: _Notes) -> None:
        """An event of the renderer."""
        kind = event["event"]
        if kind == "frame":
            with self._mutex:
                self._done += 1
                self.frames += 1
                self._progress(self._done, self._total)
        elif kind == "bad" and event["name"] not in notes.bad:
            notes.bad[event["name"]] = event["why"]
            with self._mutex:
                self._warn(f"{scene.id}: {event['name']} {event['why']}; another one is taken")
        elif kind == "using":
            notes.used.append(dict(event))

    def _make_record(self, scene: Scene, notes: _Notes, seconds: float) -> dict[str, Any]:
        used = {(event["kind"], event["object"]): event["name"] for event in notes.used}
        replaced = [
            {"kind": event["kind"], "file": event["wanted"], "by": event["name"], "why": notes.bad[event["wanted"]]}
            for event in notes.used
            if event["wanted"] != event["name"]
        ]
        return {
            "id": scene.id,
            "seed": scene.seed,
            "index": scene.index,
            "frames": scene.frames,
            "size": list(scene.size),
            "samples": self._samples,
            "objects": [
                {
                    "id": item.id,
                    "model": used["meshes", item.id],
                    "texture": used["textures", item.id],
                    "tries": item.tries,
                    "separation": item.separation,
                }
                for item in scene.objects
            ],
            "lights": len(scene.lights),
            "sky": used["skies", 0],
            "replaced": replaced,
            "unusable": notes.bad,
            "collisions_accepted": sum(item.collides for item in scene.objects),
            "renderer": self._renderer.name,
            "seconds": round(seconds, 2),
        }

    def _write_manifest(self) -> None:
        """Put all records together, those of other runs included."""
        with record_lock(self._out / LOCKS / "manifest.lock"):
            lines = []
            for path in sorted((self._out / "records").glob("*.json")):
                record = self._record(path.stem)
                if record is not None:
                    lines.append(json.dumps(record) + "\n")
            with atomic_file(self._out / "manifest.jsonl") as file:
                file.write("".join(lines).encode())
