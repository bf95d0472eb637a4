"""Frames being worked on: what their objects are, and what an action makes of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

from pipelines.editing.actions import FOUND, Action
from pipelines.editing.finding import Finder
from pipelines.editing.layers import Layers, paint, pasted
from pipelines.engine import ModelChoice, networks
from pipelines.stages.tensors import Padding
from stores import arrays
from stores.drafts import Drafts, Entry
from stores.errors import MaskError
from stores.masks import read_mask, write_mask
from stores.session import Session

KEPT_RESULTS = 4  # results of the latest actions in memory: 1.7 MB per object each at 480p


class Canvas:
    """Reads the session and its drafts; changes neither."""

    def __init__(self, session: Session, drafts: Drafts, model: ModelChoice) -> None:
        self.session, self.drafts, self.model = session, drafts, model
        self._finder: tuple[int, Finder] | None = None
        self._results: dict[int, Layers] = {}  # serial of an entry -> what it made

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of frames."""
        return self.session.height, self.session.width

    @property
    def padding(self) -> Padding:
        """The border that results have around a frame."""
        return Padding.of(*self.size)

    def object_ids(self) -> tuple[int, ...]:
        """All objects there are: in the session, and new ones that were named or drawn."""
        known = self.session.object_ids
        return (*known, *sorted(i for i, look in self.drafts.looks.items() if not look.deleted and i not in known))

    def empty(self) -> Layers:
        """A frame without objects."""
        left, right, top, bottom = self.padding.sides
        return Layers((), np.zeros((0, top + self.size[0] + bottom, left + self.size[1] + right), np.float32))

    def current(self, frame: int) -> Layers:
        """The objects of a frame as they are shown."""
        entries, live = self.drafts.of(frame), self.object_ids()
        layers = self._result(entries[-1]) if entries else self.committed(frame)
        return layers.among([i for i in layers.ids if i in live])

    def committed(self, frame: int) -> Layers:
        """The objects of a frame as the rounds made them."""
        probs = self.session.probs(frame, border=True)
        if probs is None:
            return self.empty()
        if probs.shape[1:] == self.size:  # an old session keeps no border
            left, right, top, bottom = self.padding.sides
            probs = np.pad(probs, ((0, 0), (top, bottom), (left, right)))
        return Layers(self.session.object_ids, probs[1:])

    def apply(self, action: Action) -> Layers:
        """The objects of a frame after an action."""
        before = self.current(action.frame)
        if action.kind in FOUND:
            group, base = self._group(action)
            return self.finder(action.frame).find([*group, action], base, before)
        if action.kind in ("brush", "lasso"):
            return paint(action, before, self.size, self.padding)
        if action.kind == "paste":
            return pasted(self.read_png(action.png), action.objects, before.including(self.object_ids()), self.padding)
        if action.kind == "clear":
            return self.empty().including(self.object_ids())
        return self.committed(action.frame).including(self.object_ids())

    def remember(self, entry: Entry, planes: np.ndarray) -> None:
        """Keeps the result of an action at hand for the next one."""
        kept = dict(list(self._results.items())[1 - KEPT_RESULTS :])
        self._results = {**kept, entry.serial: Layers(entry.ids, arrays.restore(planes)[1:])}

    def forget(self) -> None:
        """Results at hand may be outdated."""
        self._results = {}

    def finder(self, frame: int) -> Finder:
        """Finds objects on a frame; the last one is kept, with what it has computed of its frame."""
        if self._finder is None or self._finder[0] != frame:
            self._finder = (frame, Finder(networks(self.model), self.session.frame(frame)))
        return self._finder[1]

    def _result(self, entry: Entry) -> Layers:
        if entry.serial not in self._results:
            self.remember(entry, self.drafts.result(entry))
        return self._results[entry.serial]

    def _group(self, action: Action) -> tuple[list[Action], Layers]:
        """Earlier scribbles and clicks that count together with a new one, and the objects before all of them."""
        entries, group, live = list(self.drafts.of(action.frame)), list[Action](), {0, *self.object_ids()}
        while entries:
            last = Action.from_json(entries[-1].action, num_frames=self.session.num_frames)
            if last.kind not in FOUND or last.window != action.window:
                break
            if last.object_id in live:  # else it would bring a deleted object back
                group.insert(0, last)
            entries.pop()
        return group, self._result(entries[-1]) if entries else self.committed(action.frame)

    # ---- label maps as files

    def read_png(self, png: bytes, name: str = "the mask", snap: bool = False) -> np.ndarray:
        """uint8 [H, W] object ids of a label PNG that is of the working size or the source's.

        Raises:
            MaskError: it cannot be used; the message calls it `name`.
        """
        source = self.session.source
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mask.png"
            path.write_bytes(png)
            sizes = [self.size, (source.height, source.width)]
            given = (int.from_bytes(png[20:24]), int.from_bytes(png[16:20]))  # as the header says
            try:
                labels = read_mask(path, size=given if given in sizes else sizes[1], snap=snap).labels
            except MaskError as error:
                raise MaskError(str(error).replace(str(path), name), hint=error.hint) from error
        return cv2.resize(labels, self.size[::-1], interpolation=cv2.INTER_NEAREST)

    @staticmethod
    def png(labels: np.ndarray) -> bytes:
        """uint8 [H, W] object ids as a palette PNG."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mask.png"
            write_mask(path, labels)
            return path.read_bytes()
