"""The objects of one frame while it is worked on, and the tools that need no network: brush, lasso, paste.

A person's word is final: what these tools give to an object is taken from all others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pipelines.editing.actions import Action
from pipelines.stages.tensors import Padding


@dataclass(frozen=True, eq=False)
class Layers:
    """Objects of a frame.

    Attributes:
        ids: of the objects; planes: float32 [K, h, w] in 0..1 with the border, in the order of `ids`.
    """

    ids: tuple[int, ...]
    planes: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) with the border."""
        return self.planes.shape[1], self.planes.shape[2]

    def among(self, ids: Iterable[int]) -> Layers:
        """The same with exactly these objects, in this order; ones that were missing are empty."""
        wanted = tuple(ids)
        planes = np.zeros((len(wanted), *self.size), np.float32)
        for position, object_id in enumerate(wanted):
            if object_id in self.ids:
                planes[position] = self.planes[self.ids.index(object_id)]
        return Layers(wanted, planes)

    def including(self, ids: Iterable[int]) -> Layers:
        """The same with at least these objects."""
        return self.among((*self.ids, *sorted(set(ids) - set(self.ids))))

    def labels(self) -> np.ndarray:
        """uint8 [h, w]: the id of the most probable object, 0 where background is."""
        if not self.ids:
            return np.zeros(self.size, np.uint8)
        background = np.clip(1 - self.planes.sum(0, keepdims=True), 0, 1)
        best = np.concatenate([background, self.planes]).argmax(0)
        return np.array((0, *self.ids), np.uint8)[best]

    def soft(self) -> np.ndarray:
        """float32 [K + 1, h, w] with the background first."""
        return np.concatenate([np.clip(1 - self.planes.sum(0, keepdims=True), 0, 1), self.planes])


def pixels(path: np.ndarray, size: tuple[int, int], padding: Padding) -> np.ndarray:
    """Points in fractions [N, 2] -> int32 [N, 1, 2] pixels of the frame with its border, as OpenCV draws them.

    Args:
        size: (H, W) of the frame without the border.
    """
    scaled = path * (size[1] - 1, size[0] - 1) + (padding.left, padding.top)
    return np.round(scaled).astype(np.int32)[:, None]


def window_box(window: tuple[float, float, float, float] | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A window as pixels x0, y0, x1, y1 (exclusive) of the frame without its border; all of it for None."""
    height, width = size
    if window is None:
        return 0, 0, width, height
    x0, y0 = int(window[0] * width), int(window[1] * height)
    return (
        x0,
        y0,
        min(width, max(x0 + 2, round(window[2] * width))),
        min(height, max(y0 + 2, round(window[3] * height))),
    )


def paint(action: Action, layers: Layers, size: tuple[int, int], padding: Padding) -> Layers:
    """Brush and lasso: the marked pixels become the object's (positive), or cease to be (object 0: anybody's)."""
    assert action.path is not None
    marked = np.zeros(layers.size, np.uint8)
    points = pixels(action.path, size, padding)
    if action.kind == "lasso":
        cv2.fillPoly(marked, [points], 1)
    else:
        thickness = max(1, round(2 * action.radius * size[0]))
        cv2.polylines(marked, [points], False, 1, thickness)  # type: ignore[call-overload]
        for x, y in (points[0, 0], points[-1, 0]):  # a single point has no line
            cv2.circle(marked, (int(x), int(y)), thickness // 2, 1, -1)
    x0, y0, x1, y1 = window_box(action.window, size)
    inside = np.zeros_like(marked)
    inside[padding.top + y0 : padding.top + y1, padding.left + x0 : padding.left + x1] = 1
    if action.window is not None:
        marked &= inside
    layers = layers.including({action.object_id} - {0})
    planes, spot = layers.planes.copy(), marked > 0
    if action.positive or action.object_id == 0:
        planes[:, spot] = 0
    if action.object_id:
        planes[layers.ids.index(action.object_id), spot] = float(action.positive)
    return replace(layers, planes=planes)


def pasted(labels: np.ndarray, objects: Collection[int] | None, layers: Layers, padding: Padding) -> Layers:
    """Objects of a label map replace what they were; the others lose what the map gives away.

    Args:
        labels: uint8 [H, W] object ids at the frame's size; objects: ids to take over, None for all in the map.
    """
    padded = cv2.copyMakeBorder(
        labels, padding.top, padding.bottom, padding.left, padding.right, cv2.BORDER_CONSTANT, value=0
    )
    wanted = set(np.unique(labels).tolist()) - {0} if objects is None else set(objects)
    layers = layers.including(wanted)
    planes = layers.planes.copy()
    planes[:, np.isin(padded, list(wanted))] = 0
    for object_id in wanted:
        planes[layers.ids.index(object_id)] = padded == object_id
    return replace(layers, planes=planes)
