"""Actions: one thing a person did on a frame, in the JSON form that the page sends and the session keeps.

::

    scribble  a line; the interaction network finds the object from it
    click     a point; the same, as a small disk
    brush     a thick line that is the object (positive) or is not (negative)
    lasso     a closed outline, filled
    clear     the frame becomes empty
    reset     the frame becomes what the rounds made it
    paste     a label map from a file or another frame
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from stores.errors import UsageError
from stores.strokes import MAX_OBJECT_ID, show

KINDS = ("scribble", "click", "brush", "lasso", "clear", "reset", "paste")
FOUND = frozenset({"scribble", "click"})  # kinds that the interaction network turns into a mask
MAX_POINTS = 100_000
MIN_WINDOW = 0.01  # of the frame's side


@dataclass(frozen=True, eq=False)
class Action:
    """See the module's text.

    Attributes:
        id: chosen by whoever made it; a repeated one is not done twice.
        frame: index; kind: one of `KINDS`; object_id: 1..255, or 0 for background (all objects are negative).
        positive: False takes away from the object.
        path: float64 [N, 2], (x, y) as fractions of width and height; None for kinds without one.
        radius: of the brush, as a fraction of the height.
        window: x0, y0, x1, y1 as fractions: the network sees only this part, and only this part changes.
        refine: of a click: the network is adapted until all clicks hold (f-BRS).
        png: of paste, a label PNG; objects: ids that it sets, None for those in it.
    """

    id: str
    frame: int
    kind: str
    object_id: int = 0
    positive: bool = True
    path: np.ndarray | None = None
    radius: float = 0.0
    window: tuple[float, float, float, float] | None = None
    refine: bool = False
    png: bytes = b""
    objects: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON types; `from_json` is the inverse."""
        data: dict[str, Any] = {"id": self.id, "frame": self.frame, "kind": self.kind, "object": self.object_id}
        data |= {"positive": self.positive, "window": self.window}
        if self.path is not None:
            data["path"] = self.path.tolist()
        if self.kind == "brush":
            data["radius"] = self.radius
        if self.kind == "click":
            data["refine"] = self.refine
        if self.kind == "paste":
            data |= {"png": base64.b64encode(self.png).decode(), "objects": self.objects}
        return data

    @classmethod
    def from_json(cls, data: Any, *, num_frames: int) -> Action:
        """Checks and reads what a page sent.

        Raises:
            UsageError: one line that names the field.
        """
        if not isinstance(data, dict):
            raise UsageError(f"an action must be an object, not {show(data)}")
        kind, frame = data.get("kind"), _whole(data, "frame", 0, num_frames - 1)
        if kind not in KINDS:
            raise UsageError(f"action.kind is {show(kind)}, not one of {', '.join(KINDS)}")
        name = data.get("id")
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]{1,64}", name):
            raise UsageError("action.id must be 1 to 64 letters, digits, - or _")
        lowest = 1 if kind in ("click", "lasso", "brush") and data.get("positive", True) is True else 0
        bare = kind in ("clear", "reset", "paste")
        return cls(
            id=name,
            frame=frame,
            kind=kind,
            object_id=0 if bare else _whole(data, "object", lowest, MAX_OBJECT_ID),
            positive=_flag(data, "positive", True),
            path=None if bare else _path(data.get("path"), at_least=3 if kind == "lasso" else 1),
            radius=_fraction(data.get("radius"), "radius") if kind == "brush" else 0.0,
            window=None if bare else _window(data.get("window")),
            refine=_flag(data, "refine", False),
            png=_png(data.get("png")) if kind == "paste" else b"",
            objects=_objects(data.get("objects")) if kind == "paste" else None,
        )

    def describe(self) -> str:
        """For the history: "stroke on frame 12"."""
        words = {"scribble": "stroke", "brush": "brush" if self.positive else "eraser", "paste": "pasted mask"}
        return f"{words.get(self.kind, self.kind)} on frame {self.frame}"


def _whole(data: dict[str, Any], name: str, low: int, high: int) -> int:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"action.{name} must be an integer, not {show(value)}")
    if not low <= value <= high:
        raise UsageError(f"action.{name} is {value}, outside {low}..{high}")
    return value


def _flag(data: dict[str, Any], name: str, default: bool) -> bool:
    value = data.get(name, default)
    if not isinstance(value, bool):
        raise UsageError(f"action.{name} must be true or false, not {show(value)}")
    return value


def _fraction(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(f"action.{name} must be a fraction 0..1, not {show(value)}")
    return float(value)


def _path(value: Any, *, at_least: int) -> np.ndarray:
    problem = UsageError(f"action.path must be {at_least} or more points [x, y] of fractions 0..1")
    if not isinstance(value, list) or not at_least <= len(value) <= MAX_POINTS:
        raise problem
    # numpy would also take true, and "1" for 1
    if not all(isinstance(point, list) and all(type(number) in (int, float) for number in point) for point in value):
        raise problem
    try:
        path = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise problem from None
    if path.ndim != 2 or path.shape[1] != 2 or not ((path >= 0) & (path <= 1)).all():
        raise problem
    return path


def _window(value: Any) -> tuple[float, float, float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise UsageError("action.window must be four fractions: left, top, right, bottom")
    x0, y0, x1, y1 = (_fraction(number, "window") for number in value)
    if x1 - x0 < MIN_WINDOW or y1 - y0 < MIN_WINDOW:
        raise UsageError("action.window is smaller than a hundredth of the frame", hint="draw a larger window")
    return x0, y0, x1, y1


def _objects(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) > MAX_OBJECT_ID:
        raise UsageError("action.objects must be a list of object ids")
    return tuple(_whole({"objects": item}, "objects", 0, MAX_OBJECT_ID) for item in value)


def _png(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise UsageError("action.png must be a PNG in base64") from None
