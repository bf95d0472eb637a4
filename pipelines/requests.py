"""What a person asks for: interactions read from scribble files or masks, in the order of work."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stores.errors import MaskError
from stores.exchange import Annotations
from stores.exchange.selection import select
from stores.masks import iter_mask_inputs
from stores.scribbles import Stroke, read_scribbles

log = logging.getLogger("mivos")


@dataclass(frozen=True)
class Request:
    """One interaction: strokes on a frame, or a given label map.

    Attributes:
        kind: "scribbles", "masks" or "edits" (drawn in the page); ids: object ids in it, without 0.
        strokes: of scribbles; labels: uint8 [H, W] of masks, with the file's own ids; soft: float32 [K + 1, H, W] of
            masks that are finished already, for objects 1..K.
        span: first and last frame that the round may change, None for all; actions: what edits were made of, for the
            log; names: what the file calls its objects.
    """

    kind: str
    frame: int
    ids: tuple[int, ...]
    strokes: tuple[Stroke, ...] = ()
    labels: np.ndarray | None = field(default=None, compare=False)
    soft: np.ndarray | None = field(default=None, compare=False)
    span: tuple[int, int] | None = None
    actions: tuple[dict[str, Any], ...] = ()
    names: dict[int, str] = field(default_factory=dict, compare=False)

    @property
    def strokes_json(self) -> list[dict[str, Any]]:
        """The strokes as they stand in a scribble file, or the actions."""
        return [stroke.to_json() for stroke in self.strokes] or list(self.actions)

    @property
    def digest(self) -> str:
        """Identifies the interaction, so that a repeated command does not do it twice; hexadecimal."""
        content = hashlib.sha256(json.dumps([self.kind, self.frame, self.strokes_json]).encode())
        for array in (self.labels, self.soft):
            if array is not None:
                content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()[:24]


def scribble_requests(path: Path, num_frames: int) -> Iterator[Request]:
    """Interactions of a scribble file, each frame of each round one.

    Raises:
        ScribbleError: the file cannot be used.
    """
    for item in read_scribbles(path, num_frames=num_frames).interactions:
        yield Request("scribbles", item.frame, tuple(sorted(item.object_ids)), strokes=item.strokes)


def mask_requests(
    path: Path, num_frames: int, names: Sequence[str] | None, size: tuple[int, int], snap: bool = False
) -> Iterator[Request]:
    """Interactions of a mask PNG (frame 0) or a folder of them.

    Args:
        names: frame names of an image folder, None for a video; size: (H, W) the masks must have.

    Raises:
        MaskError: a file cannot be used.
    """
    for frame, image in iter_mask_inputs(path, num_frames=num_frames, names=names, size=size, snap=snap):
        yield Request("masks", frame, tuple(image.ids), labels=image.labels)


def annotation_requests(annotations: Annotations, frames: Sequence[int]) -> Iterator[Request]:
    """Interactions of masks from another tool.

    Args:
        frames: those to take, in order.

    Raises:
        MaskError: a region cannot be decoded, or no frame shows an object.
    """
    seen = False
    for frame in frames:
        labels = annotations.labels(frame)
        ids = tuple(int(number) for number in np.unique(labels) if number)
        seen = seen or bool(ids)
        if seen:  # before the first object there is nothing to follow
            names = {number: annotations.names[number] for number in ids if number in annotations.names}
            yield Request("masks", frame, ids, labels=labels, names=names)
    if not seen:
        raise MaskError(f"{annotations.path}: shows no object on any frame that is taken", hint="--import-frames all")


def choose_frames(annotations: Annotations, rule: str) -> list[int]:
    """The frames that become rounds (see `stores.exchange.selection`); what is left out is logged.

    Raises:
        UsageError: `rule` is neither "all" nor "keyframes" nor a number.
    """
    frames = select(annotations, rule)
    left = len(annotations.frames) - len(frames)
    shown = ", ".join(map(str, frames[:12])) + (", ..." if len(frames) > 12 else "")
    what = f"{annotations.path}: {annotations.kind} with masks on {len(annotations.frames)} frames: taken are {shown}"
    if left:
        log.warning("%s; %d are left out (--import-frames all takes them)", what, left)
    else:
        log.info("%s", what)
    if any(len(regions) > len({region.thing for region in regions}) for regions in annotations.frames.values()):
        log.warning("%s: several masks of one label on a frame are one object", annotations.path)
    names = (f"{number} {annotations.names.get(number, '')}".strip() for number in sorted(annotations.ids.values()))
    log.info("objects: %s", ", ".join(names))
    return frames
