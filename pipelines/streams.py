"""Segmentation without a session: for evaluation and other programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pipelines.engine import Model, networks
from pipelines.stages.follow import follow
from pipelines.stages.interact import interact_strokes
from pipelines.stages.tensors import Padding
from stores.scribbles import Stroke


class _EndOfStream(Exception):
    """A stream of frames has no more."""


def propagate_masks(
    frames: Iterable[np.ndarray], first_mask: np.ndarray, *, model: Model = "nano"
) -> Iterator[np.ndarray]:
    """Semi-supervised segmentation of a stream: the first frame's mask is given.

    Args:
        frames: uint8 [H, W, 3] RGB; first_mask: uint8 [H, W], 0 and the objects' ids.

    Yields:
        uint8 [H, W] for every frame, the first one included.
    """
    stream = iter(frames)

    def read(index: int) -> np.ndarray:
        try:
            return next(stream)  # each frame is asked for once, in order
        except StopIteration:
            raise _EndOfStream from None

    # the length is unknown: follow as if there were no end, and stop where the stream ends
    height, width = first_mask.shape
    try:
        for item in follow(networks(model), read, (height, width), 2**31, {0: first_mask}):
            yield item.labels()
    except _EndOfStream:
        return


def interact_frame(
    image: np.ndarray, strokes: Sequence[Stroke], previous: np.ndarray | None, num_objects: int, *,
    model: Model = "nano",
) -> np.ndarray:  # fmt: skip
    """Soft masks float32 [K + 1, H, W] of one image from strokes; see `interact_strokes`."""
    probs = interact_strokes(networks(model), image, strokes, previous, num_objects)
    return Padding.of(*image.shape[:2]).remove(probs)
