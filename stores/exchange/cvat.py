"""CVAT's XML 1.1, for videos and for images, to annotations.

For videos: `track` elements with `mask` or `polygon` children, one per frame, `outside="1"` where the object is not
seen. CVAT draws frames with `keyframe="0"` itself, people draw the others. It has no tracks of masks: each mask is a
track of its own, so masks belong together by label; polygons by track.
For images: `image` elements with `mask` or `polygon` children, which belong together by label.
CVAT writes images that nobody annotated, too, so one without masks says nothing, unless <meta> has the mark of a mivos
export. An object's id is the `group_id` that all its shapes have, else the number in a label "object 3".

`rle` counts the pixels of the box left, top, width, height along its rows, background first. Boxes and other shapes
that are no masks are refused.
Source: CVAT's documentation, "XML annotation format"; how its importer reads tracks of masks.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stores.exchange.annotations import Annotations, Paint, Place, Region, Timeline, id_in_label
from stores.exchange.documents import parse_xml
from stores.exchange.outlines import fill_polygons
from stores.exchange.runs import from_run_lengths
from stores.strokes import show

SHAPES = ("mask", "polygon")
OTHERS = ("box", "ellipse", "polyline", "points", "cuboid", "skeleton")


def read_cvat(path: Path, data: bytes, video: Timeline) -> Annotations:
    """Annotations of a CVAT file.

    Raises:
        MaskError: it is not CVAT's XML, or an element is wrong; one line that names file, line and attribute.
    """
    return _Reader(path, video).read(data)


class _Reader:
    """Takes the elements as they come."""

    def __init__(self, path: Path, video: Timeline) -> None:
        self.top, self.video = Place(path), video
        self.found = Annotations(path, "CVAT", video.sizes[0])
        self.labels: dict[Hashable, str] = {}
        self.groups: dict[Hashable, set[int]] = {}
        self.tags: list[str] = []
        self.track: tuple[dict[str, str], int] | None = None
        self.image: tuple[int, dict[str, str]] | None = None
        self.size: dict[str, str] = {}
        self.sized = self.ours = False

    def read(self, data: bytes) -> Annotations:
        parse_xml(self.top.file, data, self.start, self.end)
        found = self.found
        if not self.sized and found.frames:
            raise self.top.error("does not say the size of the frames", "it needs <original_size> or <image width=...>")
        found.number((thing, self._id(thing), label) for thing, label in self.labels.items())
        return found

    def start(self, tag: str, attributes: dict[str, str], line: int) -> None:
        if not self.tags and tag != "annotations":
            raise self.top.error(f"is XML of <{tag}>, not CVAT's <annotations>", "export it from CVAT as 1.1")
        self.tags.append(tag)
        place = self.top.at(f"line {line}: <{tag}>")
        if tag == "track":
            self.track = (attributes, line)
        elif tag == "image":
            self._size(attributes.get("height", ""), attributes.get("width", ""), place)
            self.image = (self._image_frame(attributes, place), attributes)
            if self.ours:
                self.found.frames.setdefault(self.image[0], [])
        elif (self.track or self.image) and tag in SHAPES + OTHERS:
            self._shape(tag, attributes, place)

    def end(self, tag: str, text: str) -> None:
        self.tags.pop()
        if tag == "track":
            self.track = None
        elif tag == "image":
            self.image = None
        elif tag == "computed_by":
            self.ours = text == "mivos"
        elif self.tags[-1:] == ["original_size"]:
            self.size[tag] = text
        elif tag == "original_size":
            self._size(self.size.get("height", ""), self.size.get("width", ""), self.top.at("<original_size>"))

    def _size(self, height: str, width: str, place: Place) -> None:
        size = self.video.check(_whole(height, place, "height"), _whole(width, place, "width"), place)
        if self.sized and size != self.found.size:
            raise place.error("is of another size than before")
        self.found.size, self.sized = size, True

    def _image_frame(self, attributes: dict[str, str], place: Place) -> int:
        if self.video.names is None and attributes.get("id", "").isdecimal():
            return self.video.number(_whole(attributes["id"], place, "id"), place)
        return self.video.named(attributes.get("name", ""), place)

    def _shape(self, tag: str, attributes: dict[str, str], place: Place) -> None:
        if self.track is not None:
            frame = self.video.number(_whole(attributes.get("frame"), place, "frame"), place)
            owner, line = self.track
            if attributes.get("outside") == "1":
                return
            keyframe = attributes.get("keyframe") != "0"
        else:
            assert self.image is not None
            frame, owner, line, keyframe = self.image[0], attributes, 0, True
        if tag in OTHERS:
            raise place.error("is no mask", "mivos follows masks: annotate masks or polygons, not boxes")
        label = owner.get("label", "")
        group = _whole(owner.get("group_id", "0"), place, "group_id")
        thing: Hashable = ("track", line) if self.track is not None and tag == "polygon" else ("label", label)
        self.labels[thing] = label
        self.groups.setdefault(thing, set()).add(group)
        paint = self._mask(attributes, place) if tag == "mask" else self._polygon(attributes, place)
        order = attributes.get("z_order", "0")
        depth = -_whole(order[1:], place, "z_order") if order.startswith("-") else _whole(order, place, "z_order")
        self.found.add(frame, Region(thing, paint, place, keyframe, depth))

    def _id(self, thing: Hashable) -> int | None:
        groups = self.groups[thing]
        return max(groups) if len(groups) == 1 and groups != {0} else id_in_label(self.labels[thing])

    def _mask(self, attributes: dict[str, str], place: Place) -> Paint:
        box = [_whole(attributes.get(name), place, name) for name in ("left", "top", "width", "height")]
        return partial(_paint_box, attributes.get("rle", ""), *box)

    def _polygon(self, attributes: dict[str, str], place: Place) -> Paint:
        try:
            points = [float(v) for pair in attributes.get("points", "").split(";") for v in pair.split(",")]
        except ValueError as error:
            text = show(attributes.get("points", ""))
            raise place.error(f'points="x,y;x,y;..." is needed, not {text}') from error
        return partial(fill_polygons, [points])


def _paint_box(rle: str, left: int, top: int, width: int, height: int, rows: int, columns: int) -> np.ndarray:
    if width < 1 or height < 1 or left + width > columns or top + height > rows:
        raise ValueError(f"a box {left}, {top}, {width}, {height} that is not inside {columns}x{rows}")
    parts = rle.split(",")
    if len(parts) > 2 * width * height + 2 or any(len(part) > 12 for part in parts):
        raise ValueError("more or larger run lengths than its box has pixels")
    try:
        lengths = [int(part) for part in parts]
    except ValueError as error:
        raise ValueError(f"run lengths {show(rle)} that are not numbers") from error
    mask = np.zeros((rows, columns), bool)
    mask[top : top + height, left : left + width] = from_run_lengths(lengths, width * height).reshape(height, width)
    return mask


def _whole(value: Any, place: Place, name: str) -> int:
    """A number >= 0 of an attribute."""
    text = str(value or "").strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise place.error(f"{name} must be a whole number, not {show(value)}")
    return int(text)
