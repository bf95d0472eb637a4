"""Scribble files in the DAVIS interactive format; `rasterise` draws their strokes.

A file is one DAVIS object ``{"sequence": str, "scribbles": [[stroke, ...], ...]}`` with one list per frame of
the video, or a JSON array of such objects, one per round. A stroke is ``{"path": [[x, y], ...],
"object_id": int, "start_time": number, "end_time": number}``: x and y are fractions of width and height from
the top left corner, object 0 is the background, the times are optional. ``"round": int`` (default 0) may
order the strokes of one DAVIS object into rounds. Unknown fields are ignored, as other readers do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from stores.errors import ScribbleError
from stores.files import atomic_file
from stores.json_files import read_json
from stores.strokes import Place, Stroke, check_stroke, rasterise, show

__all__ = ["Interaction", "ScribbleFile", "Stroke", "rasterise", "read_scribbles", "write_scribbles"]

MAX_FILE_BYTES = 64 * 2**20
MAX_FRAMES = 1_000_000
MAX_STROKES = 100_000  # of a file


@dataclass(frozen=True)
class Interaction:
    """What was drawn on one frame in one round; later strokes cover earlier ones."""

    frame: int
    strokes: tuple[Stroke, ...]

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects drawn here in ascending order, without the background."""
        return tuple(sorted({s.object_id for s in self.strokes} - {0}))


@dataclass(frozen=True)
class ScribbleFile:
    """A whole scribble file; `interactions` are in the order of work."""

    sequence: str
    num_frames: int
    interactions: tuple[Interaction, ...]

    @property
    def object_ids(self) -> tuple[int, ...]:
        """All objects drawn in the file in ascending order, without the background."""
        return tuple(sorted({i for interaction in self.interactions for i in interaction.object_ids}))


def read_scribbles(path: str | Path, *, num_frames: int | None = None) -> ScribbleFile:
    """Read and check a scribble file.

    Interactions are ordered by (position in the array of rounds, "round" of the stroke, frame).

    Args:
        path: the JSON file, at most 64 MB, `MAX_FRAMES` frames and `MAX_STROKES` strokes.
        num_frames: length of the video it belongs to, if known.

    Raises:
        ScribbleError: anything is wrong; one line that names file, field and frame.
    """
    file = Path(path)
    data = read_json(file, ScribbleError, limit=MAX_FILE_BYTES)
    rounds = data if isinstance(data, list) else [data]
    top = Place(str(file), "")
    if not rounds:
        raise top.error("is an empty list, so no strokes at all")

    sequence, length, count = "", 0, 0
    drawn: dict[tuple[int, int, int], list[Stroke]] = {}
    for number, entry in enumerate(rounds):
        place = top.at(f"[{number}]") if isinstance(data, list) else top
        name, frames = _davis_object(entry, place)
        if number == 0:
            sequence, length = name, len(frames)
        if name != sequence:
            raise place.at(".sequence").error(f"is {show(name)}, but the first round is of {show(sequence)}")
        if len(frames) != length:
            raise place.at(".scribbles").error(f"has {len(frames)} frames, but the first round has {length}")
        if len(frames) > MAX_FRAMES:
            raise place.at(".scribbles").error(
                f"has {len(frames)} frames, {MAX_FRAMES} are the most",
                "cut the video into parts, each with its own file",
            )
        for frame, round_number, stroke in _strokes(frames, place.at(".scribbles")):
            count += 1
            if count > MAX_STROKES:
                raise top.error(f"holds more than {MAX_STROKES} strokes", "split it into several files")
            drawn.setdefault((number, round_number, frame), []).append(stroke)

    if num_frames is not None and length != num_frames:
        hint = "give one list per frame of the video, empty where nothing is drawn"
        raise top.at("scribbles").error(f"has {length} frames, but the video has {num_frames}", hint)
    if not drawn:
        raise top.error("has no strokes at all", "draw at least one stroke on one frame")
    interactions = (Interaction(key[2], tuple(drawn[key])) for key in sorted(drawn))
    return ScribbleFile(sequence, length, tuple(interactions))


def write_scribbles(path: str | Path, scribbles: ScribbleFile) -> None:
    """Write a file that `read_scribbles` reads back equal: one DAVIS object, with "round" where it is needed.

    Raises:
        ScribbleError: `scribbles` holds something that a file must not.
        StorageFullError: the file cannot be written.
    """
    top = Place(str(path), "")
    frames: list[list[dict[str, Any]]] = [[] for _ in range(scribbles.num_frames)]
    round_number, previous = 0, -1
    for number, interaction in enumerate(scribbles.interactions):
        place = top.at(f"interactions[{number}]", interaction.frame)
        if not 0 <= interaction.frame < scribbles.num_frames:
            raise place.error(f"is on a frame outside 0..{scribbles.num_frames - 1}")
        if not interaction.strokes:
            raise place.error("has no strokes")
        # Inside a round frames are read in ascending order, so a step back must begin a new one.
        round_number += interaction.frame <= previous
        previous = interaction.frame
        for index, stroke in enumerate(interaction.strokes):
            check_stroke(stroke, place.at(f".strokes[{index}]"))
            extra = {"round": round_number} if round_number else {}
            frames[interaction.frame].append(stroke.to_json() | extra)
    if not scribbles.interactions:
        raise top.error("would have no strokes at all")
    with atomic_file(Path(path)) as file:
        file.write(json.dumps({"sequence": scribbles.sequence, "scribbles": frames}).encode() + b"\n")


def _davis_object(entry: Any, place: Place) -> tuple[str, list[Any]]:
    """Check the outer level of one DAVIS object; returns its sequence name and its list of frames."""
    if not isinstance(entry, dict):
        raise place.error(f'must be an object with "sequence" and "scribbles", not {show(entry)}')
    fields = (("sequence", str, "a string"), ("scribbles", list, "a list with one entry per frame"))
    for name, kind, words in fields:
        if name not in entry:
            raise place.at(f".{name}").error("is missing")
        if not isinstance(entry[name], kind):
            raise place.at(f".{name}").error(f"must be {words}, not {show(entry[name])}")
    return entry["sequence"], entry["scribbles"]


def _strokes(frames: list[Any], place: Place) -> Iterator[tuple[int, int, Stroke]]:
    """Check all strokes of one DAVIS object; yields (frame, round, stroke)."""
    for frame, entries in enumerate(frames):
        here = place.at(f"[{frame}]", frame)
        if not isinstance(entries, list):
            raise here.error(f"must be a list of strokes, not {show(entries)}")
        for number, entry in enumerate(entries):
            spot = here.at(f"[{number}]")
            if not isinstance(entry, dict):
                raise spot.error(f"must be a stroke object, not {show(entry)}")
            for name in ("path", "object_id"):
                if name not in entry:
                    raise spot.at(f".{name}").error("is missing")
            round_number = entry.get("round", 0)
            if type(round_number) is not int or round_number < 0:
                raise spot.at(".round").error(f"must be an integer >= 0, not {show(round_number)}")
            path = _parse_path(entry["path"], spot.at(".path"))
            start, end = (_parse_time(entry, name, spot) for name in ("start_time", "end_time"))
            stroke = Stroke(path, entry["object_id"], start, end)
            check_stroke(stroke, spot)
            yield frame, round_number, stroke


def _parse_path(value: Any, place: Place) -> np.ndarray:
    """Turn [[x, y], ...] into float64 [N, 2]; only the types are checked here."""
    if not isinstance(value, list):
        raise place.error(f"must be a list of [x, y] points, not {show(value)}")
    for index, point in enumerate(value):
        if not isinstance(point, list) or len(point) != 2:
            raise place.at(f"[{index}]").error(f"must be a pair [x, y], not {show(point)}")
    # bool is a subclass of int, hence the exact comparison of types.
    if not set(map(type, chain.from_iterable(value))) <= {int, float}:
        index = next(i for i, p in enumerate(value) if not set(map(type, p)) <= {int, float})
        raise place.at(f"[{index}]").error(f"must be two numbers, not {show(value[index])}")
    try:
        return np.array(value, dtype=np.float64).reshape(-1, 2)
    except OverflowError as error:
        raise place.error("has a number too large to be a coordinate in 0..1") from error


def _parse_time(entry: dict[str, Any], name: str, place: Place) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    try:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise place.at(f".{name}").error(f"must be a finite number, not {show(value)}")
