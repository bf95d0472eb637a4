"""Exports of a session: each in a folder of its own, made beside the others and moved into place when it is whole.

::

    SESSION/exports/20260131-142530/masks/        as `mivos encode` writes it
    SESSION/exports/20260131-142530/masks.zip     the same as one file, to be downloaded
    SESSION/exports/20260131-142530/overlay.mp4
    SESSION/exports/20260131-142530/export.json   when, and which formats

The names that a request gives are looked up in the listing; no path is built from them.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from mivos_cli.gui.errors import ApiError
from stores.files import make_folder

FOLDER, STAGING, CARD = "exports", ".partial-", "export.json"
STORED = frozenset({".png", ".webm", ".mov", ".mp4"})  # compressed already


class Exporter(Protocol):
    """What can write the committed masks of a session; see `Project.export`."""

    def __call__(self, out: Path, formats: Sequence[str], progress: Callable[[Any], None] | None) -> dict[str, str]: ...


class Exports:
    """The exports of one session; any thread, one export at a time.

    Args:
        session: its folder. What a killed process left half made is removed.
    """

    def __init__(self, session: Path) -> None:
        self.folder = session / FOLDER
        for left in self.folder.glob(f"{STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)

    def make(
        self, export: Exporter, formats: Sequence[str], progress: Callable[[Any], None], check: Callable[[], None]
    ) -> str:
        """Writes an export and returns its id.

        Args:
            progress: gets what `export` reports; check: may raise to give up, between two files of a zip.

        Raises:
            as `pipelines.flow.encode`; nothing is left behind then.
        """
        created = datetime.now(UTC)
        staging = self.folder / f"{STAGING}{created:%Y%m%d-%H%M%S-%f}"
        make_folder(staging)
        try:
            outputs = export(staging, formats, progress)
            for path in map(Path, outputs.values()):
                if path.is_dir():
                    _zip(path, check)
            card = {"created": created.isoformat(timespec="seconds"), "formats": list(outputs)}
            (staging / CARD).write_text(json.dumps(card), encoding="utf-8")
            name = self._free_name(created.strftime("%Y%m%d-%H%M%S"))
            os.replace(staging, self.folder / name)
            return name
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            with suppress(OSError):
                self.folder.rmdir()
            raise

    def list(self) -> list[dict[str, Any]]:
        """The exports, newest first, in JSON types."""
        found = []
        for folder in sorted(self.folder.glob("[0-9]*"), reverse=True):
            with suppress(OSError, ValueError, KeyError):
                card = json.loads((folder / CARD).read_text(encoding="utf-8"))
                files = [
                    {"name": file.name, "bytes": file.stat().st_size}
                    for file in sorted(folder.iterdir())
                    if file.name != CARD and file.is_file() and not file.is_symlink()
                ]
                found.append({"id": folder.name, **card, "folder": str(folder), "files": files})
        return found

    def file(self, export: str, name: str) -> Path:
        """The path of a file; ApiError 404 if there is none of these names."""
        files = {file["name"] for file in self._get(export)["files"]}
        if name not in files:
            raise ApiError(404, f"export {export} has no file of that name")
        return self.folder / export / name

    def delete(self, export: str) -> None:
        """Removes an export; ApiError 404 if there is none of that name."""
        folder = self.folder / self._get(export)["id"]
        doomed = self.folder / f"{STAGING}{folder.name}"  # out of the list at once
        os.replace(folder, doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _get(self, export: str) -> dict[str, Any]:
        for one in self.list():
            if one["id"] == export:
                return one
        raise ApiError(404, "there is no such export")

    def _free_name(self, wanted: str) -> str:
        name, number = wanted, 1
        while (self.folder / name).exists():
            number += 1
            name = f"{wanted}-{number}"
        return name


def _zip(folder: Path, check: Callable[[], None]) -> None:
    """FOLDER.zip beside a folder, with the folder's name inside."""
    with zipfile.ZipFile(folder.with_name(f"{folder.name}.zip"), "w") as archive:
        for path in sorted(folder.rglob("*")):
            check()
            if path.is_file():
                how = zipfile.ZIP_STORED if path.suffix.lower() in STORED else zipfile.ZIP_DEFLATED
                archive.write(path, path.relative_to(folder.parent), compress_type=how)
