"""Label Studio's JSON tasks to annotations.

A task is one image: `data` says which, `annotations` (else `predictions`) have `result`s with brush masks or polygons.
An object is a label. A task that mivos wrote says frame and ids itself: `data.frame`, `data.objects`. The newest
annotation counts that was not cancelled. Boxes are refused; choices, texts and the like are nothing to us.
Source: Label Studio's documentation, "Label Studio JSON format of annotated tasks", tags BrushLabels, PolygonLabels.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stores.exchange.annotations import Annotations, Paint, Place, Region, Timeline, id_in_label
from stores.exchange.brush import unpack_mask
from stores.exchange.outlines import fill_polygons
from stores.strokes import show

MASKS = {"brushlabels": "brush", "brush": "brush", "polygonlabels": "polygon", "polygon": "polygon"}
NO_MASKS = ("rectangle", "ellipse", "keypoint", "videorectangle", "bitmask", "vector")


def read_label_studio(path: Path, tasks: list[Any], video: Timeline) -> Annotations:
    """Annotations of a list of tasks.

    Raises:
        MaskError: a field is missing or wrong; one line that names file, task and field.
    """
    top = Place(path)
    found: Annotations | None = None
    things: dict[Hashable, tuple[int | None, str]] = {}
    for number, task in enumerate(tasks):
        place = top.at(f"[{number}]")
        data = place.get(task, "data", dict, "an object")
        chosen = _newest(task, place)
        if chosen is None:
            continue  # nobody worked on it
        results, spot = chosen
        regions = [_region(entry, spot.at(f".result[{i}]"), video) for i, entry in enumerate(results)]
        frame = _frame(data, video, place.at(".data"))
        ids = {str(name): key for key, name in _objects(data).items()}
        found = found or Annotations(path, "Label Studio", video.sizes[0])
        if frame in found.frames:
            raise place.error(f"frame {frame} has a second task")
        found.frames[frame] = []
        for region, size in (item for item in regions if item is not None):
            if any(found.frames.values()) and size != found.size:
                raise region.place.error("is of another size than the masks before")
            found.size = size
            label = str(region.thing)
            things.setdefault(label, (ids.get(label, id_in_label(label)), label))
            found.add(frame, region)
    if found is None:
        raise top.error("has no annotated task", "export the tasks as JSON, with their annotations")
    found.number((thing, *facts) for thing, facts in things.items())
    return found


def _newest(task: dict[str, Any], place: Place) -> tuple[list[Any], Place] | None:
    for key in ("annotations", "predictions"):
        entries = task.get(key) or []
        if not isinstance(entries, list):
            raise place.at(f".{key}").error(f"must be a list, not {show(entries)}")
        for number, entry in reversed(list(enumerate(entries))):
            here = place.at(f".{key}[{number}]")
            results = here.get(entry, "result", list, "a list")
            if not entry.get("was_cancelled"):
                return results, here
    return None


def _objects(data: dict[str, Any]) -> dict[int, str]:
    objects = data.get("objects")
    if not isinstance(objects, dict):
        return {}
    return {int(k): str(v) for k, v in objects.items() if k.isascii() and k.isdecimal() and len(k) <= 3}


def _frame(data: dict[str, Any], video: Timeline, place: Place) -> int:
    if type(data.get("frame")) is int:
        return video.number(data["frame"], place.at(".frame"))
    name = next((value for key in ("image", "img", "picture") if isinstance(value := data.get(key), str)), None)
    name = name or next((value for value in data.values() if isinstance(value, str) and "." in value), None)
    if name is None:
        raise place.error("names no image")
    return video.named(name, place)


def _region(entry: Any, place: Place, video: Timeline) -> tuple[Region, tuple[int, int]] | None:
    kind = place.get(entry, "type", str, "a string")
    if kind.removesuffix("labels") in NO_MASKS:
        raise place.error(
            f"is a {kind}, no mask", "mivos follows masks: annotate with the brush or polygons, not boxes"
        )
    if kind not in MASKS:
        return None
    value = place.get(entry, "value", dict, "an object")
    size = video.check(entry.get("original_height"), entry.get("original_width"), place)
    if entry.get("image_rotation", 0):
        raise place.error("is on a rotated image", "rotate the image back in Label Studio")
    labels = value.get(kind) or value.get("labels")
    label = str(labels[0]) if isinstance(labels, list) and labels else "object 1"
    if MASKS[kind] == "polygon":
        return Region(label, _polygon(value, place), place), size
    packed = place.get(value, "rle", list, "a list of bytes")
    return Region(label, partial(unpack_mask, packed), place), size


def _polygon(value: dict[str, Any], place: Place) -> Paint:
    points = place.get(value, "points", list, "a list of [x, y]")
    if not all(isinstance(p, list) and len(p) == 2 and {type(v) for v in p} <= {int, float} for p in points):
        raise place.at(".points").error(f"must be pairs [x, y] in percent, not {show(points)}")
    return partial(_paint_percent, points)


def _paint_percent(points: list[list[float]], height: int, width: int) -> np.ndarray:
    try:
        flat = [
            float(value) * side / 100 for point in points for value, side in zip(point, (width, height), strict=True)
        ]
    except OverflowError as error:
        raise ValueError("a polygon far outside the picture") from error
    return fill_polygons([flat], height, width)


def is_task(entry: Any) -> bool:
    """Whether a JSON value is a task of Label Studio."""
    if not isinstance(entry, dict) or not isinstance(entry.get("data"), dict):
        return False
    return "annotations" in entry or "predictions" in entry
