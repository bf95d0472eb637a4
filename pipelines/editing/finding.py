"""Scribbles and clicks to objects: which objects are looked at again, what the network sees, and how results join.

Strokes of one kind of work add up, as in MiVOS: all that were drawn since the frame's mask was last settled go into
the network together with that mask. A window (local refinement) shows the network only a part, enlarged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from pipelines.editing.actions import Action
from pipelines.editing.layers import Layers, pixels, window_box
from pipelines.engine import Networks
from pipelines.stages.interact import Clicks, segment_object
from pipelines.stages.refine import click_plane
from pipelines.stages.tensors import Padding, image_tensor
from stores.strokes import Stroke, rasterise

WINDOW_SIDE, MAX_ENLARGEMENT = 480, 4.0  # a window is enlarged to this shorter side, but not more than this
RIM = 3  # pixels inside a window's sides that stay as they were: there the network lacks context
CONFLICT = 16  # pixels that two objects may claim before the other one is looked at again, too


@dataclass(frozen=True)
class _View:
    """What the network sees: the frame, or an enlarged part of it.

    Attributes:
        image: float32 [1, 3, h, w]; box: x0, y0, x1, y1 of the frame; size: (h', w') of the part, enlarged, without
        the padding.
    """

    image: torch.Tensor
    box: tuple[int, int, int, int]
    size: tuple[int, int]
    padding: Padding


class Finder:
    """Finds objects on one frame."""

    def __init__(self, networks: Networks, image: np.ndarray) -> None:
        """
        Args:
            image: uint8 [H, W, 3] RGB.
        """
        self.networks, self.image = networks, image
        self.frame_size = image.shape[:2]
        self.padding = Padding.of(*self.frame_size)
        self._views: dict[object, _View] = {}

    def find(self, actions: Sequence[Action], base: Layers, current: Layers) -> Layers:
        """What the frame is after `actions`, scribbles and clicks in one window, the last of them new.

        Args:
            base: before all of them; current: before the last one. With the border.
        """
        new = actions[-1]
        ids = {action.object_id for action in actions} - {0}
        base, current = base.including(ids).among(current.including(ids).ids), current.including(ids)
        view = self._view(new.window)
        shown = current.labels()
        touched = set(np.unique(shown[self._marked(new, current.size)]).tolist()) - {0}
        again = {new.object_id} if not new.positive else {new.object_id} | touched
        if new.object_id == 0:
            again = touched or {action.object_id for action in actions}
        found: dict[int, np.ndarray] = {}
        for object_id in sorted(again - {0}):
            found[object_id] = self._find(object_id, actions, base, view)
        claimed = sum((prob > 0.5 for prob in found.values()), np.zeros(current.size, bool))
        for object_id in set(current.ids) - set(found):  # others that lose a part have their say
            if np.count_nonzero(claimed & (shown == object_id)) > CONFLICT:
                found[object_id] = self._find(object_id, actions, base, view)
        return self._join(current, found, view)

    def _join(self, current: Layers, found: dict[int, np.ndarray], view: _View) -> Layers:
        """Each pixel goes to its most probable object, or to none: `aggregate_wbg(hard=True)` to the last digits."""
        probs = current.planes.copy()
        for object_id, prob in found.items():
            probs[current.ids.index(object_id)] = prob
        best = np.concatenate([np.prod(1 - probs, axis=0, keepdims=True), probs]).argmax(0)
        joined = (best == np.arange(1, len(probs) + 1)[:, None, None]).astype(np.float32)
        planes, (x0, y0, x1, y1) = current.planes.copy(), view.box
        height, width = self.frame_size
        # sides that are the frame's own have no rim
        x0, y0 = x0 + RIM * (x0 > 0), y0 + RIM * (y0 > 0)
        x1, y1 = x1 - RIM * (x1 < width), y1 - RIM * (y1 < height)
        rows, columns = slice(self.padding.top + y0, self.padding.top + y1), slice(
            self.padding.left + x0, self.padding.left + x1
        )  # fmt: skip
        if view.box == (0, 0, width, height):
            rows = columns = slice(None)
        planes[:, rows, columns] = joined[:, rows, columns]
        return replace(current, planes=planes)

    def _find(self, object_id: int, actions: Sequence[Action], base: Layers, view: _View) -> np.ndarray:
        """float32 [h, w] of the frame with its border: probabilities of one object; outside the window as it was."""
        x0, y0, x1, y1 = view.box
        before = base.planes[base.ids.index(object_id)]
        rows = slice(self.padding.top + y0, self.padding.top + y1)
        columns = slice(self.padding.left + x0, self.padding.left + x1)
        whole = view.box == (0, 0, self.frame_size[1], self.frame_size[0])
        mask = (base.labels() == object_id).astype(np.float32)
        positive, negative, clicks = self._planes(object_id, actions, view)
        if whole:
            previous = torch.from_numpy(mask)[None, None]
        else:
            part = cv2.resize(mask[rows, columns], view.size[::-1], interpolation=cv2.INTER_LINEAR)
            previous = view.padding.add(torch.from_numpy((part > 0.5).astype(np.float32))[None, None])
        strokes = [view.padding.add(torch.from_numpy(p.astype(np.float32))[None, None]) for p in (positive, negative)]
        planes = torch.cat([view.image, previous, *strokes], dim=1)
        prob = segment_object(self.networks, planes, clicks)
        if prob is None:
            return np.zeros_like(before)
        if whole:
            return prob[0].numpy()
        result = before.copy()
        seen = view.padding.remove(prob)[0].numpy()
        result[rows, columns] = cv2.resize(seen, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
        return result

    def _planes(
        self, object_id: int, actions: Sequence[Action], view: _View
    ) -> tuple[np.ndarray, np.ndarray, Clicks | None]:
        """Positive and negative marks of one object, uint8 [h', w'], and the points to hold if that was asked for."""
        sides: dict[bool, np.ndarray] = {side: np.zeros(view.size, np.uint8) for side in (True, False)}
        points: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for action in actions:
            if not action.positive and action.object_id not in (0, object_id):
                continue  # "not that other object" says nothing about this one
            side = action.positive and action.object_id == object_id
            path = self._inside(action, view)
            if action.kind == "click":
                spot = (float(path[0, 0] * (view.size[1] - 1)), float(path[0, 1] * (view.size[0] - 1)))
                drawn = click_plane([spot], *view.size)
                points[side].append((spot[0] + view.padding.left, spot[1] + view.padding.top))
            else:
                drawn = (rasterise([Stroke(path, 1)], *view.size) == 1).astype(np.uint8)
                drawn = cv2.dilate(drawn, np.ones((3, 3), np.uint8))
            sides[side] |= drawn
            sides[not side] &= ~drawn & 1  # the last word counts
        wanted = any(action.refine for action in actions if action.kind == "click")
        return sides[True], sides[False], (points[True], points[False]) if wanted else None

    def _inside(self, action: Action, view: _View) -> np.ndarray:
        """The path in fractions of the view; what lies outside is moved to its edge."""
        assert action.path is not None
        x0, y0, x1, y1 = view.box
        at = action.path * (self.frame_size[1] - 1, self.frame_size[0] - 1) - (x0, y0)
        return np.clip(at / (max(1, x1 - x0 - 1), max(1, y1 - y0 - 1)), 0, 1)

    def _marked(self, action: Action, size: tuple[int, int]) -> np.ndarray:
        """bool [h, w] with the border: the pixels under a stroke."""
        assert action.path is not None
        drawn = np.zeros(size, np.uint8)
        cv2.polylines(drawn, [pixels(action.path, self.frame_size, self.padding)], False, 1, 1)  # type: ignore[call-overload]
        return drawn > 0

    def _view(self, window: tuple[float, float, float, float] | None) -> _View:
        if window not in self._views:
            box = window_box(window, self.frame_size)
            part = self.image[box[1] : box[3], box[0] : box[2]]
            size = part.shape[:2]
            if window is not None:
                scale = float(np.clip(WINDOW_SIDE / min(size), 1.0, MAX_ENLARGEMENT))
                size = (round(size[0] * scale), round(size[1] * scale))
                part = cv2.resize(part, size[::-1], interpolation=cv2.INTER_CUBIC)
            tensor = image_tensor(np.ascontiguousarray(part))
            self._views[window] = _View(tensor, box, size, Padding.of(*size))
        return self._views[window]
