"""Strokes: one pen movement each, checked and drawn into a label map."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stores.errors import ScribbleError

MAX_OBJECT_ID = 255
MAX_POINTS = 100_000  # of one stroke; a pen of 1,000 points a second draws for 100 seconds
BEZIER_SAMPLES = 1000


@dataclass(frozen=True)
class Stroke:
    """One pen movement.

    Attributes:
        path: float64 [N, 2], N >= 1: (x, y) as fractions 0..1 of width and height, origin top left.
        object_id: 1..255, or 0 for the background.
        start_time: when it began. People's files count milliseconds, the DAVIS robot Unix seconds.
        end_time: when it ended, in the same unit.
    """

    path: np.ndarray
    object_id: int
    start_time: float | None = None
    end_time: float | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stroke):
            return NotImplemented
        mine = (self.object_id, self.start_time, self.end_time)
        theirs = (other.object_id, other.start_time, other.end_time)
        return mine == theirs and np.array_equal(self.path, other.path)

    def __hash__(self) -> int:
        return hash((self.object_id, self.start_time, self.end_time, self.path.tobytes()))

    def to_json(self) -> dict[str, Any]:
        """Return the DAVIS form, without the times that are None."""
        times = {"start_time": self.start_time, "end_time": self.end_time}
        given = {name: value for name, value in times.items() if value is not None}
        return {"path": np.asarray(self.path).tolist(), "object_id": int(self.object_id), **given}


class Place(NamedTuple):
    """A spot in a scribble file, named in messages as in ``s.json: frame 3: scribbles[3][0].path ...``."""

    file: str
    field: str
    frame: int | None = None

    def at(self, step: str, frame: int | None = None) -> Place:
        """Return the spot one step inside this one."""
        field = f"{self.field}{step}" if self.field else step.removeprefix(".")
        return Place(self.file, field, self.frame if frame is None else frame)

    def error(self, problem: str, hint: str | None = None) -> ScribbleError:
        """Return (not raise) the error about this spot."""
        frame = "" if self.frame is None else f"frame {self.frame}: "
        return ScribbleError(f"{self.file}: {frame}{self.field}{' ' * bool(self.field)}{problem}", hint=hint)


def rasterise(
    strokes: Sequence[Stroke], height: int, width: int, *, bezier: bool = False, lines: bool = True
) -> np.ndarray:
    """Draw strokes one pixel wide, as the DAVIS interactive benchmark does.

    A point (x, y) falls on the pixel (x * (width - 1), y * (height - 1)), truncated; consecutive points are
    joined by Bresenham lines; later strokes overwrite earlier ones.

    Args:
        strokes: in drawing order.
        height: of the map, pixels.
        width: of the map, pixels.
        bezier: take all points of a stroke as control points of one Bezier curve of 1,000 samples.
        lines: False sets only the points themselves.

    Returns:
        int16 [height, width]: the object id, 0 for a background stroke, -1 where nothing was drawn.

    Raises:
        ScribbleError: an empty stroke, a coordinate outside 0..1 or an id outside 0..255.
    """
    drawn = np.full((height, width), -1, dtype=np.int16)
    scale = np.array([width - 1, height - 1], dtype=np.float64)
    for number, stroke in enumerate(strokes):
        check_stroke(stroke, Place(f"stroke {number}", ""))
        path = _bezier(stroke.path) if bezier else np.asarray(stroke.path, dtype=np.float64)
        points = (path * scale).astype(np.int64)
        if not lines or len(points) == 1:
            drawn[points[:, 1], points[:, 0]] = stroke.object_id
            continue
        # A line is never longer than the longer side: this bounds the memory of one step by some 20 MB.
        step = max(1, 2**17 // max(height, width))
        for first in range(0, len(points) - 1, step):
            pixels = _bresenham(points[first : first + step + 1])
            drawn[pixels[:, 1], pixels[:, 0]] = stroke.object_id
    return drawn


def _bresenham(points: np.ndarray) -> np.ndarray:
    """Join int64 points [N, 2], N >= 2, by lines; returns int64 [M, 2] with the ends of all segments.

    With the error term starting at 2 * minor - major and a minor step wherever it is >= 0, the minor offset
    after i major steps has the closed form floor((2 * minor * i + major) / (2 * major)), so all segments are
    done at once.
    """
    delta = np.diff(points, axis=0)
    steep = np.abs(delta[:, 0]) <= np.abs(delta[:, 1])
    major = np.abs(delta).max(axis=1)
    minor = np.abs(delta).min(axis=1)
    segment = np.repeat(np.arange(len(delta)), major + 1)
    starts = np.cumsum(major + 1) - (major + 1)
    along = np.arange(len(segment)) - starts[segment]
    length = major[segment]
    across = (2 * minor[segment] * along + length) // np.maximum(2 * length, 1)
    offset = np.where(steep[segment, None], np.stack([across, along], 1), np.stack([along, across], 1))
    return points[segment] + np.sign(delta)[segment] * offset


def _bezier(path: np.ndarray) -> np.ndarray:
    """Evaluate the Bezier curve of the control points float64 [N, 2] at 1,000 places, last point first."""
    control = np.asarray(path, dtype=np.float64)
    degree = len(control) - 1
    if degree == 0:
        return control
    index = np.arange(degree + 1)
    # Binomials of long strokes overflow, so the Bernstein polynomials are built from logarithms.
    log_binomial = np.concatenate([[0.0], np.cumsum(np.log((degree + 1 - index[1:]) / index[1:]))])
    t = np.linspace(0.0, 1.0, BEZIER_SAMPLES)[1:-1, None]
    inner = np.zeros((BEZIER_SAMPLES - 2, 2))
    for first in range(0, degree + 1, 4096):
        i = index[first : first + 4096]
        weights = np.exp(log_binomial[i] + (degree - i) * np.log(t) + i * np.log1p(-t))
        inner += weights @ control[i]
    return np.clip(np.concatenate([control[-1:], inner, control[:1]]), 0.0, 1.0)


def check_stroke(stroke: Stroke, place: Place) -> None:
    """Raise ScribbleError unless the stroke has points in 0..1 and an id in 0..255."""
    object_id: Any = stroke.object_id
    if isinstance(object_id, bool) or not isinstance(object_id, int | np.integer):
        raise place.at(".object_id").error(f"must be an integer, not {show(object_id)}")
    if not 0 <= object_id <= MAX_OBJECT_ID:
        raise place.at(".object_id").error(f"is {show(object_id)}, outside 0..{MAX_OBJECT_ID}")
    path = np.asarray(stroke.path)
    if path.size == 0:
        raise place.at(".path").error("is empty: the stroke has no points", "remove the stroke or give it points")
    if path.ndim != 2 or path.shape[1] != 2:
        raise place.at(".path").error(f"must be points of shape [N, 2], not {list(path.shape)}")
    if len(path) > MAX_POINTS:
        raise place.at(".path").error(
            f"has {len(path)} points, {MAX_POINTS} are the most", "split it into several strokes"
        )
    inside = (path >= 0) & (path <= 1)  # false for NaN
    if not inside.all():
        index, axis = np.argwhere(~inside)[0].tolist()
        value = float(path[index, axis])
        hint = "coordinates are fractions of the width (x) and height (y) of the frame"
        raise place.at(f".path[{index}][{axis}]").error(f"is {value:g}, {'xy'[axis]} must be in 0..1", hint)


def show(value: Any) -> str:
    """Return a short one-line picture of a JSON value."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        return "a huge number"
