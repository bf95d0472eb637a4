"""Small real clips with scribbles, a manifest of them, and looks at what a batch has made."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from stores.errors import MivosError
from stores.session import Session
from tests.mivos_cli.conftest import CYCLIST, GROUND, TAXI, Strokes, make_video, scribble_json

FIRST_ROUND: tuple[int, Strokes] = (0, [CYCLIST, TAXI, GROUND])
OPTIONS = ("--size", "64", "--engine", "torch", "--device", "cpu", "--format", "png")


def add_clip(folder: Path, bikes: Path, name: str, frames: int, *more: tuple[int, Strokes]) -> dict[str, str]:
    """A clip with one round, and `more`; its row of a manifest."""
    make_video(bikes, folder / f"{name}.mp4", frames=frames)
    (folder / f"{name}.json").write_text(json.dumps(scribble_json(FIRST_ROUND, *more, frames=frames)))
    return {"video": f"{name}.mp4", "scribbles": f"{name}.json"}


def write_manifest(path: Path, rows: list[dict[str, str]]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def record(out: Path, name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((out / name / "item.json").read_text())
    return data


def masks(out: Path, name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / name / "masks").glob("*.png"))}


def rounds(out: Path, name: str) -> int:
    """Rounds in a session's history."""
    with Session.open(out / name / "session") as session:
        return sum(entry.kind == "round" for entry in session.history())


def propagating(out: Path, name: str) -> bool:
    """Whether the item's session has a round with its first checkpoint."""
    try:
        with Session.open(out / name / "session") as session:
            return session.unfinished() is not None
    except MivosError:
        return False


def worker_of(out: Path, name: str) -> int | None:
    """The process that works on an item."""
    try:
        return int(json.loads((out / name / "writer.json").read_text())["pid"])
    except (OSError, ValueError):
        return None
