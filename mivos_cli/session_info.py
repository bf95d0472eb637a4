"""What `mivos info` shows of a session."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from stores.session import Session


def describe(session: Session) -> dict[str, Any]:
    """A session in JSON types."""
    rounds = []
    for record in session.rounds:
        # The strokes themselves can be long; how many there are is enough here.
        rounds.append({**record.to_json(), "strokes": len(record.strokes)})
    return {
        "session": str(session.path),
        "source": session.source.to_json(),
        "frames": session.num_frames,
        "decoded": session.decoded,
        "height": session.height,
        "width": session.width,
        "prob_bits": session.prob_bits,
        "objects": session.num_objects,
        "segmented_frames": int((session.computed() > 0).sum()),
        "rounds": rounds,
        "history": [asdict(entry) for entry in session.history()],
        "disk_bytes": _disk_bytes(session.path),
    }


def print_description(console: Console, data: dict[str, Any]) -> None:
    """Print what `describe` returned as tables."""
    source = data["source"]
    unfinished = "" if data["decoded"] else ", not all decoded yet"
    facts = Table.grid(padding=(0, 2))
    facts.add_row("source", f"{source['path']} ({source['width']}x{source['height']})")
    facts.add_row("frames", f"{data['frames']} at {data['width']}x{data['height']}{unfinished}")
    facts.add_row("objects", str(data["objects"]))
    facts.add_row("segmented", f"{data['segmented_frames']} frames")
    facts.add_row("disk", decimal(data["disk_bytes"]))
    console.print(facts)

    rounds = Table(title="rounds", title_justify="left")
    for column in ("round", "frame", "drawn", "objects", "model", "seconds", "when (UTC)"):
        rounds.add_column(column)
    for record in data["rounds"]:
        rounds.add_row(
            str(record["number"]),
            str(record["frame"]),
            record["kind"],
            ", ".join(map(str, record["objects"])),
            str(record["model"].get("name", "")),
            f"{sum(record['seconds'].values()):.1f}",
            _minute(record["created"]),
        )
    console.print(rounds)

    history = Table(title="history (> is where the session stands)", title_justify="left")
    for column in ("", "commit", "message", "when (UTC)"):
        history.add_column(column)
    for entry in data["history"]:
        marker = ">" if entry["state"] == "current" else ""
        message = f"{entry['message']} (undone)" if entry["state"] == "undone" else entry["message"]
        history.add_row(marker, entry["id"][:10], message, _minute(entry["written"]))
    console.print(history)


def _disk_bytes(folder: Path) -> int:
    """Size of all files in a folder, while others may be writing to it."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def _minute(moment: str) -> str:
    """An ISO 8601 time, short."""
    return moment[:16].replace("T", " ")
