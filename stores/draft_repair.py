"""Finding drafts that cannot be read any more, and putting them aside; see `stores.drafts` for the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import google_crc32c
import numpy as np

from stores.arrays import sealed, unsealed
from stores.drafts import FOLDER, LIST
from stores.files import atomic_file

DAMAGED = "damaged"
LISTS = ("entries", "undone")


def damaged_drafts(session: Path) -> list[tuple[str, str]]:
    """(file name, what is wrong) of each draft file that cannot be read; the list itself: all drafts.

    A writer may change drafts meanwhile, so only what is found twice counts.
    """
    first = _damaged(session / FOLDER)
    again = dict(_damaged(session / FOLDER)) if first else {}
    return [(name, what) for name, what in first if name in again]


def set_aside(session: Path) -> list[str]:
    """Move damaged drafts to SESSION/desk/damaged and take them off the list; returns their file names.

    Only for the holder of the writer lock. Killed in between, it can be done again.

    Raises:
        StorageFullError: the list cannot be written.
    """
    folder = session / FOLDER
    bad = [name for name, _ in damaged_drafts(session)]
    if not bad:
        return []
    aside = folder / DAMAGED
    aside.mkdir(exist_ok=True)
    if LIST in bad:  # nothing names the others any more
        moved = [path for path in folder.iterdir() if path.is_file() and path.name != LIST]
        for path in [*moved, folder / LIST]:  # the list last: without it, nobody would look for the others
            _move(path, aside)
        return [LIST]
    serials = {int(Path(name).stem) for name in bad}
    data = _read(folder)

    def kept(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [item for item in items if item["serial"] not in serials]

    for name in LISTS:
        data[name] = kept(data[name])
    data["rounds"] = {number: kept(items) for number, items in data["rounds"].items()}
    data["begun"] = [serial for serial in data["begun"] if serial not in serials]
    # Copied before the list forgets them: files without a list are swept away when drafts are opened.
    for serial in serials:
        for path in folder.glob(f"{serial}.*"):
            with atomic_file(aside / path.name) as file:
                file.write(path.read_bytes())
    with atomic_file(folder / LIST) as file:
        file.write(json.dumps(sealed(data)).encode())
    for serial in serials:
        for path in folder.glob(f"{serial}.*"):
            path.unlink()
    return bad


def _damaged(folder: Path) -> list[tuple[str, str]]:
    if not (folder / LIST).exists():
        return []
    try:
        data = _read(folder)
        items = [item for name in LISTS for item in data[name]]
        items += [item for entries in data["rounds"].values() for item in entries]
        serials = {int(item["serial"]): item for item in items}
        int(data["next_serial"]), list(data["begun"]), dict(data["looks"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [(LIST, f"the list of drafts cannot be read ({error})")]
    found = []
    for serial, item in sorted(serials.items()):
        for position, suffix in enumerate((".json", ".png")):
            path = folder / f"{serial}{suffix}"
            if (reason := _unreadable(path, item, position)) is not None:
                found.append((path.name, reason))
    return found


def _unreadable(path: Path, item: dict[str, Any], position: int) -> str | None:
    try:
        content = path.read_bytes()
        if item.get("sums") is not None:
            return None if google_crc32c.value(content) == item["sums"][position] else "does not fit its checksum"
        if path.suffix == ".json":
            json.loads(content)
        elif not content or cv2.imdecode(np.frombuffer(content, np.uint8), -1) is None:
            return "is no picture"
    except FileNotFoundError:
        return "is gone"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    return None


def _read(folder: Path) -> dict[str, Any]:
    data = json.loads((folder / LIST).read_bytes())
    return unsealed(data) if "crc32c" in data else data


def _move(path: Path, aside: Path) -> None:
    """Into a folder, beside what was put there before."""
    target, number = aside / path.name, 2
    while target.exists():
        target, number = aside / f"{path.stem}-{number}{path.suffix}", number + 1
    path.rename(target)
