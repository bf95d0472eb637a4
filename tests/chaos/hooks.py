"""What a command of the campaign does besides its work, by environment variables.

`CHAOS_SYNCS`: a file that gets a line of JSON for each sync of a session: which files were on the disk by then.
"""

from __future__ import annotations

import json
import os
from pathlib import Path


def install() -> None:
    """Put the hooks in that the environment asks for."""
    if target := os.environ.get("CHAOS_SYNCS"):
        _note_syncs(Path(target))


def _note_syncs(target: Path) -> None:
    from stores import durable, history, repository

    real = durable.sync_folder

    def noted(folder: Path) -> None:
        before = files(folder)  # what comes while it syncs may or may not be on the disk
        real(folder)
        refs = {name: (folder / name).read_text() for name in before if name.startswith("refs/")}
        line = json.dumps({"files": before, "refs": refs})
        with open(target, "a") as file:
            file.write(line + "\n")

    history.sync_folder = repository.sync_folder = noted  # type: ignore[assignment]


def files(folder: Path) -> dict[str, list[int]]:
    """Path below the folder -> inode, bytes, time of change."""
    found = {}
    for path in folder.rglob("*"):
        try:
            facts = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            found[str(path.relative_to(folder))] = [facts.st_ino, facts.st_size, facts.st_mtime_ns]
    return found
