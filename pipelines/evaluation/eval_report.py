"""What `mivos eval` finds: scores of objects, frames and sequences, their means, and the files they are written to."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stores.files import atomic_file, make_folder


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object, means over the scored frames, 0..100."""

    object_id: int
    j: float
    f: float


@dataclass(frozen=True)
class FrameScore:
    """J of one frame, mean over the objects that the ground truth has shown so far, 0..100."""

    sequence: str
    frame: str
    j: float


@dataclass(frozen=True)
class SequenceScores:
    """One sequence; `j`, `f` and `jf` are means over its objects, 0..100."""

    objects: tuple[ObjectScore, ...]
    frames: tuple[FrameScore, ...]

    @property
    def j(self) -> float:
        return float(np.mean([item.j for item in self.objects]))

    @property
    def f(self) -> float:
        return float(np.mean([item.f for item in self.objects]))

    @property
    def jf(self) -> float:
        return (self.j + self.f) / 2

    @property
    def worst(self) -> FrameScore:
        """The frame with the lowest J, the first of them."""
        return min(self.frames, key=lambda frame: frame.j)


@dataclass(frozen=True)
class Row:
    """One sequence of an evaluation.

    Attributes:
        frames: frames of the sequence; written: masks in the output; seconds: wall time from the first frame read to
            the last mask written, None if nothing was computed; peak_memory_mb: 2**20 bytes, see `EvalReport.memory`;
            resumed: it was finished by an earlier run; scores: None without ground truth.
    """

    sequence: str
    frames: int
    written: int
    scores: SequenceScores | None = None
    seconds: float | None = None
    peak_memory_mb: float | None = None
    resumed: bool = False

    @property
    def frames_per_second(self) -> float | None:
        return None if self.seconds is None else self.frames / max(self.seconds, 1e-9)


Column = tuple[str, Callable[[Row], Any]]


@dataclass(frozen=True)
class EvalReport:
    """What an evaluation found and wrote.

    Attributes:
        protocol: what was done; scorer: package, version and the frames that it leaves out; settings: of the protocol
            and model; memory: what peak memory is of; outputs: name -> path; notes: one line each.
    """

    protocol: str
    scorer: str
    rows: tuple[Row, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    memory: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> dict[str, float | int] | None:
        """Means over all objects of all sequences, as the field's scorer takes them; None if nothing is scored."""
        objects = [item for row in self.rows if row.scores for item in row.scores.objects]
        if not objects:
            return None
        j, f = float(np.mean([item.j for item in objects])), float(np.mean([item.f for item in objects]))
        return {"objects": len(objects), "j": j, "f": f, "jf": (j + f) / 2}

    @property
    def frames_per_second(self) -> float | None:
        """Frames of all sequences by their seconds."""
        timed = [row for row in self.rows if row.seconds is not None]
        return sum(row.frames for row in timed) / max(sum(row.seconds or 0 for row in timed), 1e-9) if timed else None

    @property
    def peak_memory_mb(self) -> float | None:
        return max((row.peak_memory_mb for row in self.rows if row.peak_memory_mb is not None), default=None)

    def to_json(self) -> dict[str, Any]:
        """Everything, means included, as plain JSON values."""
        rows = [
            {
                **asdict(row),
                "frames_per_second": row.frames_per_second,
                "scores": row.scores
                and {
                    **{key: getattr(row.scores, key) for key in ("j", "f", "jf")},
                    "worst": {"frame": row.scores.worst.frame, "j": row.scores.worst.j},
                    "objects": [asdict(item) for item in row.scores.objects],
                    "frames": {frame.frame: frame.j for frame in row.scores.frames},
                },
            }
            for row in self.rows
        ]
        means = {"mean": self.mean, "frames_per_second": self.frames_per_second, "peak_memory_mb": self.peak_memory_mb}
        return {**asdict(self), **means, "rows": rows}

    def write(self, folder: Path) -> EvalReport:
        """Writes scores.json, sequences.csv and objects.csv; returns the report with their paths among its outputs.

        Raises:
            StorageFullError: a file cannot be written.
        """
        columns: tuple[Column, ...] = (
            ("sequence", lambda row: row.sequence),
            ("frames", lambda row: row.frames),
            ("objects", lambda row: row.scores and len(row.scores.objects)),
            ("J&F", lambda row: row.scores and row.scores.jf),
            ("J", lambda row: row.scores and row.scores.j),
            ("F", lambda row: row.scores and row.scores.f),
            ("frames/s", lambda row: row.frames_per_second),
            ("peak memory (MB)", lambda row: row.peak_memory_mb),
            ("worst frame", lambda row: row.scores and row.scores.worst.frame),
            ("worst J", lambda row: row.scores and row.scores.worst.j),
        )
        table = [[name for name, _ in columns], *([value(row) for _, value in columns] for row in self.rows)]
        objects: list[list[Any]] = [["sequence", "object", "J&F", "J", "F"]]
        for row in self.rows:
            for item in row.scores.objects if row.scores else ():
                objects.append([row.sequence, item.object_id, (item.j + item.f) / 2, item.j, item.f])
        make_folder(folder)
        paths = {name: str(folder / name) for name in ("scores.json", "sequences.csv", "objects.csv")}
        report = replace(self, outputs={**self.outputs, **paths})
        _write_text(folder / "scores.json", json.dumps(report.to_json(), indent=2))
        _write_text(folder / "sequences.csv", _csv(table))
        _write_text(folder / "objects.csv", _csv(objects))
        return report


def _csv(table: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for line in table:
        writer.writerow([f"{value:.3f}" if isinstance(value, float) else value for value in line])
    return text.getvalue()


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())
