"""The folder of one run of `mivos gen-fusion`: what it was made with, and references that are whole or not there.

::

    <out>/run.json                             settings; another run with other settings is refused
    <out>/<video>/<ref>/<object>/<frame>.png   appears with all its files at once
    <out>/.work/                               what is being written, and locks; nothing a reader looks at

Each video is written by one process at a time. Whoever makes all of them also keeps others out; several processes may
share the folder when each says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stores.durable import sync_folder
from stores.errors import OutputExistsError, StorageFullError, UsageError
from stores.files import atomic_file, make_folder
from stores.item_locks import item_lock, record_lock
from stores.locking import WriterLock

SETTINGS, WORK = "run.json", ".work"


class FusionRun:
    """A run's folder, opened for writing. Use `opened`."""

    def __init__(self, out: Path) -> None:
        self.out, self._work = out, out / WORK

    @classmethod
    @contextmanager
    def opened(cls, out: Path, settings: dict[str, Any], *, shared: bool = False) -> Iterator[FusionRun]:
        """Make the folder or go on with it.

        Args:
            shared: let other processes write other videos meanwhile.

        Raises:
            UsageError: the folder holds a run of other settings. OutputExistsError: it holds something else.
            SessionLockedError: another process is writing to it. StorageFullError: it cannot be written to.
        """
        run = cls(Path(out))
        make_folder(run._work)
        if shared:
            with record_lock(run._work / "settings.lock"):
                run._check(settings)
            yield run
            return
        lock = WriterLock(run._work)
        try:
            lock.acquire()
        except OSError as error:
            raise StorageFullError(f"{out}: cannot be written: {error.strerror or error}") from error
        try:
            with record_lock(run._work / "settings.lock"):
                run._check(settings)
            yield run
        finally:
            lock.release()

    def _check(self, settings: dict[str, Any]) -> None:
        file = self.out / SETTINGS
        settings = json.loads(json.dumps(settings))
        if not file.exists():
            # hidden: ours, and what is left of a run.json whose writer was killed
            if any(not path.name.startswith(".") for path in self.out.iterdir()):
                raise OutputExistsError(
                    f"{self.out}: is not empty and holds no {SETTINGS} of gen-fusion", hint="choose another --out"
                )
            with atomic_file(file) as target:
                target.write(json.dumps(settings, indent=2).encode() + b"\n")
            return
        try:
            before = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError):
            before = None
        if not isinstance(before, dict):
            raise UsageError(f"{file}: cannot be read", hint="choose another --out, or remove this one")
        for key in dict.fromkeys((*before, *settings)):
            if before.get(key) != settings.get(key):
                raise UsageError(
                    f"{self.out}: was made with other settings ({key}: {before.get(key)}, now {settings.get(key)})",
                    hint="choose another --out, or give the same options again",
                )

    @contextmanager
    def video(self, name: str) -> Iterator[None]:
        """The right to write a video's references; what a killed run had not finished of it is removed.

        Raises:
            SessionLockedError: another process writes it.
        """
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
        with item_lock(self._work / f"{digest}.lock", f"{self.out / name}"):
            for path in self._work.iterdir():
                if path.is_dir() and re.fullmatch(re.escape(name) + r"-\d{5,}", path.name):
                    shutil.rmtree(path, ignore_errors=True)
            yield

    def reference(self, video: str, ref: int) -> Path:
        """Where the maps of a reference frame are, if `has`."""
        return self.out / video / f"{ref:05d}"

    def has(self, video: str, ref: int) -> bool:
        """Whether they are there; then they are all there."""
        return self.reference(video, ref).is_dir()

    @contextmanager
    def writing(self, video: str, ref: int) -> Iterator[Path]:
        """A folder to write one reference into; it becomes `reference` when the block ends well, else it is removed.

        Raises:
            StorageFullError: something cannot be written.
        """
        target, folder = self.reference(video, ref), self._work / f"{video}-{ref:05d}"
        try:
            folder.mkdir()
            yield folder
            target.parent.mkdir(exist_ok=True)
            sync_folder(folder)
            os.replace(folder, target)
        except BaseException as error:
            with suppress(OSError):
                shutil.rmtree(folder)
            if isinstance(error, OSError):
                raise StorageFullError(
                    f"{target}: cannot be written: {error.strerror or error}", hint="free some space and run again"
                ) from error
            raise
