"""What an annotation file says, whatever its format: regions on frames, and which object each belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stores.errors import MaskError
from stores.strokes import show

MAX_ID = 254  # 255 means void in mask images
MAX_REGIONS = 1_000_000
PREFIX = re.compile(r"[0-9a-f]{8}-")  # Label Studio puts one before names of uploaded files
NUMBERED = re.compile(r"object (\d{1,3})", re.IGNORECASE)

Paint = Callable[[int, int], np.ndarray]  # (height, width) -> bool [height, width]; ValueError: "has ..."


class Place(NamedTuple):
    """A spot in an annotation file, as messages name it: ``FILE: ITEM: ...``."""

    file: Path
    item: str = ""

    def at(self, item: str) -> Place:
        """The spot one step inside this one."""
        return Place(self.file, f"{self.item}{item}" if self.item else item.removeprefix("."))

    def error(self, problem: str, hint: str | None = None) -> MaskError:
        """Return (not raise) the error about this spot."""
        return MaskError(f"{self.file}: {self.item}{': ' * bool(self.item)}{problem}", hint=hint)

    def get(self, data: Any, name: str, kinds: type | tuple[type, ...], words: str) -> Any:
        """Field `name` of a JSON object, of one of these types (bool is no int)."""
        if not isinstance(data, dict):
            raise self.error(f"must be an object, not {show(data)}")
        if name not in data:
            raise self.at(f".{name}").error("is missing")
        value = data[name]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise self.at(f".{name}").error(f"must be {words}, not {show(value)}")
        return value


@dataclass(frozen=True)
class Timeline:
    """The frames that annotations belong to.

    Attributes:
        count: of frames; names: stems of an image folder's files, None for a video; title: the video's own stem.
        sizes: (height, width) that masks may have, the source's first.
    """

    count: int
    names: Sequence[str] | None
    title: str
    sizes: tuple[tuple[int, int], ...]

    @cached_property
    def _by_name(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names or ())}

    def number(self, value: int, place: Place) -> int:
        """A frame number; MaskError if the video has no such frame."""
        if 0 <= value < self.count:
            return value
        raise place.error(f"frame {value} is out of range, the video has frames 0..{self.count - 1}")

    def named(self, path: str, place: Place) -> int:
        """The frame of an image file: by name in a folder, by the number at the end of its name in a video."""
        stem = Path(path.replace("\\", "/").split("?d=")[-1]).stem
        if self.names is not None:
            for name in (stem, PREFIX.sub("", stem, count=1)):
                if name in self._by_name:
                    return self._by_name[name]
            span = f"{self.names[0]}..{self.names[-1]}"
            raise place.error(f"there is no frame named {show(stem)} (the frames are {span})")
        digits = re.search(r"[0-9]{1,9}$", stem)
        if digits is None:
            raise place.error(f"the name {show(stem)} ends in no frame number", "name images like frame_000012.png")
        return self.number(int(digits[0]), place)

    def check(self, height: Any, width: Any, place: Place) -> tuple[int, int]:
        """(height, width) if masks may have it."""
        if (height, width) in self.sizes and type(height) is type(width) is int:
            return height, width
        expected = f"{self.sizes[0][1]}x{self.sizes[0][0]}"
        raise place.error(
            f"is for pictures of {show(width)}x{show(height)} (width x height), but the frames are {expected}",
            "masks are never resized: export them at the size of the frames",
        )


class Region(NamedTuple):
    """One shape on one frame; `thing` tells objects apart until they have ids."""

    thing: Hashable
    paint: Paint
    place: Place
    keyframe: bool = True
    depth: int = 0  # larger ones cover smaller ones


@dataclass
class Annotations:
    """Everything a file says.

    Attributes:
        path, kind: the file and its format, for messages.
        size: (height, width) of the masks.
        frames: frame -> its regions, later ones of the same depth cover earlier ones; an empty list says that no
            object is there.
        ids: thing -> object id; names: object id -> name, where the file has one.
    """

    path: Path
    kind: str
    size: tuple[int, int]
    frames: dict[int, list[Region]] = field(default_factory=dict)
    ids: dict[Hashable, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    def add(self, frame: int, region: Region) -> None:
        """Take a region in."""
        regions = self.frames.setdefault(frame, [])
        regions.append(region)
        if len(regions) > MAX_REGIONS:
            raise region.place.error(f"more than {MAX_REGIONS} regions on frame {frame}")

    def number(self, things: Iterable[tuple[Hashable, Any, str]]) -> None:
        """Give objects their ids: those of the file if all are different and in 1..254, else 1, 2, ... in order.

        Args:
            things: (thing, wanted id or None, name).
        """
        known = {thing: (wanted, name) for thing, wanted, name in things}
        used = dict.fromkeys(region.thing for regions in self.frames.values() for region in regions)
        order = [thing for thing in known if thing in used]
        if len(order) > MAX_ID:
            raise MaskError(f"{self.path}: has {len(order)} objects, at most {MAX_ID} are possible")
        wanted = [known[thing][0] for thing in order]
        kept = all(type(number) is int and 1 <= number <= MAX_ID for number in wanted)
        if not kept or len(set(wanted)) < len(wanted):
            wanted = list(range(1, len(order) + 1))
        self.ids = dict(zip(order, wanted, strict=True))
        self.names = {number: known[thing][1] for thing, number in self.ids.items() if known[thing][1]}

    def labels(self, frame: int) -> np.ndarray:
        """uint8 [H, W] of a frame, 0 = background.

        Raises:
            MaskError: a region cannot be decoded.
        """
        labels = np.zeros(self.size, np.uint8)
        for region in sorted(self.frames.get(frame, []), key=lambda region: region.depth):
            try:
                labels[region.paint(*self.size)] = self.ids[region.thing]
            except ValueError as error:
                raise region.place.error(f"has {error}") from error
        return labels


def id_in_label(label: str) -> int | None:
    """The id in a label that mivos wrote, "object 3"."""
    match = NUMBERED.fullmatch(label.strip())
    return int(match[1]) if match else None
