"""One item of a batch: its folder, what it was made with, and its three tasks.

::

    <out>/<name>/session/         as of `mivos segment`
    <out>/<name>/masks/ ...       one per format
    <out>/<name>/begun.json       an unfinished item: settings, inputs with digests, how often each stage was begun
    <out>/<name>/item.json        the same of a finished one, and its numbers; written last
    <out>/<name>/writer.lock      held while a task works on the item

Every task does what is missing, and may be killed at any moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import flow
from pipelines.engine import ModelChoice
from pipelines.execution.models import choice_from_json
from pipelines.execution.tasks import task_progress
from pipelines.stages.encode import FORMATS
from stores.errors import InputError, OutputExistsError, StorageFullError, UsageError
from stores.exchange.selection import DEFAULT
from stores.files import atomic_file, make_folder, open_regular, read_limited
from stores.locking import WriterLock
from stores.pictures import EXACT
from stores.session import Session

ITEM, BEGUN, SESSION = "item.json", "begun.json", "session"
OURS = ("writer.lock", "writer.json", "writer.tmp")  # files of the lock
MADE = (ITEM, BEGUN, SESSION, *(sink.target for sink in FORMATS.values()))
MAX_BYTES = 2**24
STAGES = ("decode", "segment", "encode")
NEUTRAL = ("device", "engine", "checkpoints")  # results agree up to rounding; checkpoints count as inputs


@dataclass(frozen=True)
class Order:
    """What is to be done with one video, in a form that JSON can carry.

    Attributes:
        folder: of the item; video, scribbles, masks: paths; import_frames: of masks of other tools.
        size: shorter side, None for the source's; frames: how they are kept; model: of `choice_to_json`.
        run: id of the command; force: drop what another run has left.
    """

    folder: str
    video: str
    scribbles: str | None
    masks: str | None
    size: int | None
    snap: bool
    formats: tuple[str, ...]
    model: dict[str, Any]
    run: str
    force: bool = False
    import_frames: str = DEFAULT
    frames: str = EXACT

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Order:
        return cls(**{**data, "formats": tuple(data["formats"])})

    @property
    def choice(self) -> ModelChoice:
        """The model as the Python API takes it."""
        return choice_from_json(self.model)

    @property
    def settings(self) -> dict[str, Any]:
        """What results depend on, beside the inputs."""
        model = {key: value for key, value in self.model.items() if key not in NEUTRAL}
        own: dict[str, Any] = {"size": self.size, "snap": self.snap, "formats": list(self.formats)}
        own |= {} if self.masks is None else {"import_frames": self.import_frames}
        own |= {} if self.frames == EXACT else {"frames": self.frames}
        return json.loads(json.dumps({**own, **model}))

    @property
    def inputs(self) -> dict[str, str]:
        """What is read: name -> path."""
        given = {"video": self.video, "scribbles": self.scribbles, "masks": self.masks}
        weights = {f"checkpoint {k}": path for k, path in enumerate(self.model.get("checkpoints", ()), start=1)}
        return {key: path for key, path in {**given, **weights}.items() if path is not None}


def finished(order: Order) -> dict[str, Any] | None:
    """The record of an item that is done with these settings and, by their times and sizes, these inputs."""
    folder = Path(order.folder)
    record = _read(folder / ITEM)
    if record is None or record["settings"] != order.settings or not _outputs_there(folder, record):
        return None
    known = record["inputs"]
    if not isinstance(known, dict) or known.keys() != order.inputs.keys():
        return None
    try:
        unchanged = all(known[key]["stat"] == _stat(Path(path)) for key, path in order.inputs.items())
    except (OSError, KeyError, TypeError):
        return None
    return record if unchanged else None


def decode(order: dict[str, Any]) -> dict[str, Any]:
    """Task: read the frames into the item's session; see `flow.decode`."""
    with _opened(Order.from_json(order), "decode") as work:
        if not work.through:
            flow.decode(
                Path(work.order.video), work.session, size=work.order.size, frames=work.order.frames,
                model=work.order.choice, progress=task_progress(),
            )  # fmt: skip
        return work.result()


def segment(order: dict[str, Any]) -> dict[str, Any]:
    """Task: all rounds; see `flow.run_rounds`."""
    with _opened(Order.from_json(order), "segment") as work:
        if not work.through:
            scribbles, masks = (path and Path(path) for path in (work.order.scribbles, work.order.masks))
            flow.run_rounds(
                work.session, scribbles=scribbles or None, masks=masks or None, snap=work.order.snap,
                import_frames=work.order.import_frames, model=work.order.choice, progress=task_progress(),
            )  # fmt: skip
        return work.result()


def encode(order: dict[str, Any]) -> dict[str, Any]:
    """Task: write the results, then the item's record."""
    with _opened(Order.from_json(order), "encode") as work:
        if not work.over:
            # the folder is ours, so what is there came from a run that was killed before its record
            formats = work.order.formats
            _, outputs = flow.encode(work.session, work.folder, formats=formats, force=True, progress=task_progress())
            work.finish(outputs)
        return work.result()


@contextmanager
def _opened(order: Order, stage: str) -> Iterator[_Work]:
    """The item, locked by this task.

    Raises:
        SessionLockedError: another process works on it. OutputExistsError: the folder is of something else.
        UsageError: it was made with other settings or inputs. StorageFullError: it cannot be written to.
    """
    folder = Path(order.folder)
    make_folder(folder)
    lock = WriterLock(folder)
    try:
        lock.acquire()
    except OSError as error:
        raise StorageFullError(f"{folder}: cannot be written: {error.strerror or error}") from error
    try:
        yield _Work(order, stage)
    finally:
        lock.release()


class _Work:
    """An item's folder, while its lock is held."""

    def __init__(self, order: Order, stage: str) -> None:
        self.order, self.stage, self.started = order, stage, time.monotonic()
        self.folder = Path(order.folder)
        self.session = self.folder / SESSION
        record, begun = _read(self.folder / ITEM), _read(self.folder / BEGUN)
        runs = {known["run"] for known in (record, begun) if known is not None}
        if order.force and stage == STAGES[0] and order.run not in runs:
            self._refuse(*OURS, *MADE)
            self._clear()
            record = begun = None
        self.over = record is not None
        known = record or begun
        changed = self._changes(known) if known is not None else []
        if known is not None and changed:
            if self.over or self._rounds():
                raise UsageError(
                    f"{self.folder}: was {'finished' if self.over else 'begun'} with other inputs or options "
                    f"({', '.join(changed)})",
                    hint="--force makes it again; or give the row another name, or the batch another --output",
                )
            self._clear()  # no work is lost: what could not be read before was mended, for example
            known = None
        self.record = known or self._begin()
        if self.over and not _outputs_there(self.folder, self.record):
            self.over = False  # somebody has removed them; the session may still be there
            self.record["seconds"].pop("encode", None)
            self._write(BEGUN)
            (self.folder / ITEM).unlink()
        # a stage has its seconds when it is through
        through = stage != "encode" and stage in self.record["seconds"] and Session.exists(self.session)
        self.through = self.over or through
        if self.over:
            (self.folder / BEGUN).unlink(missing_ok=True)
        elif not self.through:
            for later in STAGES[STAGES.index(stage) + 1 :]:  # a session that is made anew needs them again
                self.record["seconds"].pop(later, None)
            self.record["starts"][stage] = self.record["starts"].get(stage, 0) + 1
            self._write(BEGUN)

    def result(self) -> dict[str, Any]:
        """What the task answers; "resumed": an earlier run had finished the item."""
        seconds = time.monotonic() - self.started
        if not self.through and self.stage != "encode":
            self.record["seconds"][self.stage] = round(self.record["seconds"].get(self.stage, 0.0) + seconds, 3)
            self._write(BEGUN)
        starts = self.record["starts"].get(self.stage, 0)
        return {"frames": self.record.get("frames"), "seconds": seconds, "attempts": starts, "resumed": self.over}

    def finish(self, outputs: dict[str, str]) -> None:
        """Writes the record of the finished item."""
        record = self.record
        with Session.open(self.session) as store:
            rounds = [{"frame": r.frame, "kind": r.kind, "digest": r.model.get("digest")} for r in store.rounds]
            record |= {"frames": store.num_frames, "objects": list(store.object_ids), "rounds": rounds}
        record["outputs"] = {key: os.path.relpath(path, self.folder) for key, path in outputs.items()}
        record["seconds"]["encode"] = round(time.monotonic() - self.started, 3)
        self._write(ITEM)
        (self.folder / BEGUN).unlink(missing_ok=True)

    def _begin(self) -> dict[str, Any]:
        self._refuse(*OURS)
        inputs = {key: _facts(Path(path)) for key, path in self.order.inputs.items()}
        return {"run": self.order.run, "settings": self.order.settings, "inputs": inputs, "starts": {}, "seconds": {}}

    def _refuse(self, *known: str) -> None:
        """OutputExistsError if the folder holds anything else: it may be somebody's work, a video even."""
        foreign = [path.name for path in self.folder.iterdir() if path.name not in known and path.name[0] != "."]
        if foreign:
            raise OutputExistsError(
                f"{self.folder}: holds {min(foreign)}, which is not from a batch",
                hint="give the row another name or the batch another --output",
            )

    def _changes(self, record: dict[str, Any]) -> list[str]:
        """Which settings and inputs are others; those with another time or size are compared by content."""
        settings, known = record["settings"], record["inputs"]
        now = self.order.settings
        changed = [key for key in sorted({*settings, *now}) if settings.get(key) != now.get(key)]
        changed += sorted(known.keys() ^ self.order.inputs.keys())
        for key, path in self.order.inputs.items():
            if key in known and known[key]["stat"] != _stat(Path(path)):
                facts = _facts(Path(path))
                changed += [key] if facts["sha256"] != known[key]["sha256"] else []
                known[key] = facts
        return changed

    def _rounds(self) -> bool:
        """Whether an unfinished item has masks."""
        if not Session.exists(self.session):
            return False
        with Session.open(self.session) as store:
            return bool(store.rounds) or store.unfinished() is not None

    def _clear(self) -> None:
        (self.folder / ITEM).unlink(missing_ok=True)  # first: without its record nothing here is finished
        for path in (self.folder / name for name in MADE):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _write(self, name: str) -> None:
        with atomic_file(self.folder / name) as file:
            file.write(json.dumps(self.record, indent=1).encode() + b"\n")


def _outputs_there(folder: Path, record: dict[str, Any]) -> bool:
    outputs = record.get("outputs")
    return isinstance(outputs, dict) and all((folder / str(path)).exists() for path in outputs.values())


def _read(path: Path) -> dict[str, Any] | None:
    with suppress(UsageError, ValueError, RecursionError):
        data = json.loads(read_limited(path, MAX_BYTES, UsageError))
        if isinstance(data, dict) and {"run", "settings", "inputs", "starts", "seconds"} <= data.keys():
            return data
    return None


def _facts(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name, file in _files(path):
        with open_regular(file, InputError) as content:
            digest.update(f"{name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode(errors="replace"))
    return {"path": str(path), "stat": _stat(path), "sha256": digest.hexdigest()}


def _stat(path: Path) -> str:
    """Sizes and times of a file, or of all files in a folder, digested."""
    digest = hashlib.sha256()
    for name, file in _files(path):
        info = file.stat()
        digest.update(f"{name}\0{info.st_size} {info.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()[:24]


def _files(path: Path) -> list[tuple[str, Path]]:
    """A file, or all files below a folder, sorted, with their names there."""
    if not path.is_dir():
        return [("", path)]
    return sorted((str(file.relative_to(path)), file) for file in path.rglob("*") if file.is_file())
