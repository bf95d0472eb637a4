"""Frames in a session: reading and writing them one at a time, and what a session is about.

`SessionContents` and `stores.results.SessionResults` are the parts of `stores.session.Session` that do not care about
commits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path

import numpy as np

from stores import arrays
from stores.errors import StoreError
from stores.history import RoundRecord
from stores.pictures import coding_of, pack, stored_shape, unpack
from stores.repository import store_errors
from stores.source import Frame, SourceInfo

PROBS = ("probs", "computed")


class SessionContents(ABC):
    """Arrays and attributes of a session, as they are in the current snapshot or transaction."""

    checkpoint_frames = 100  # decoded frames per automatic commit
    path: Path

    @abstractmethod
    def _reading(self) -> arrays.Tree: ...

    @abstractmethod
    def _writing(self, *, in_round: bool = False) -> arrays.Tree:
        """The tree if it may be changed (with `in_round`: if a round was begun), else StoreError."""

    @property
    @abstractmethod
    def _round(self) -> int | None:
        """Number of the round in progress."""

    @abstractmethod
    def commit(self, message: str, **facts: object) -> str: ...

    @abstractmethod
    def rollback(self) -> None: ...

    @cached_property
    def source(self) -> SourceInfo:
        """What was decoded."""
        with store_errors(self.path, "read its source"):
            return SourceInfo.from_json(self._reading().state["source"])

    @property
    def height(self) -> int:
        """Pixels, at working size."""
        return int(self._reading().state["height"])

    @property
    def width(self) -> int:
        """Pixels, at working size."""
        return int(self._reading().state["width"])

    @property
    def prob_bits(self) -> int:
        """8 or 16."""
        return int(self._reading().state["prob_bits"])

    @property
    def border(self) -> tuple[int, int, int, int]:
        """Pixels around a frame that results cover, too: left, right, top, bottom."""
        left, right, top, bottom = self._reading().state.get("border", (0, 0, 0, 0))
        return left, right, top, bottom

    @property
    def result_size(self) -> tuple[int, int]:
        """(height, width) of a result with its border."""
        left, right, top, bottom = self.border
        return top + self.height + bottom, left + self.width + right

    @property
    def num_frames(self) -> int:
        """Frames stored so far; T once `decoded`."""
        return int(self._reading().state["num_frames"])

    @property
    def decoded(self) -> bool:
        """Whether all frames are in."""
        return bool(self._reading().state["decoded"])

    @property
    def num_objects(self) -> int:
        """K, background not counted."""
        return int(self._reading().state["num_objects"])

    @property
    def rounds(self) -> tuple[RoundRecord, ...]:
        """The rounds that the masks are the result of, first round first."""
        with store_errors(self.path, "read its rounds"):
            return tuple(RoundRecord.from_json(data) for data in self._reading().round_log())

    # ---- frames

    @property
    def frame_coding(self) -> str:
        """How frames are kept: "exact" or "jpeg", see `stores.pictures`."""
        return coding_of(self._reading().state)

    def write_frame(self, frame: Frame) -> None:
        """Append a decoded frame; every `checkpoint_frames` frames are committed.

        A decoder that was killed continues at `num_frames`.

        Raises:
            ValueError: not the next frame, or not uint8 [height, width, 3].
            StoreError: the session is read-only or all frames are in already.
        """
        tree = self._writing()
        state = tree.state
        if state["decoded"]:
            raise StoreError(f"{self.path}: the video is already decoded")
        if frame.index != state["num_frames"]:
            raise ValueError(f"frame {frame.index} given, frame {state['num_frames']} is next")
        shape = (state["height"], state["width"], 3)
        if frame.image.shape != shape or frame.image.dtype != np.uint8:
            raise ValueError(f"frame of {frame.image.dtype} {frame.image.shape}, not uint8 {shape}")
        with store_errors(self.path, f"store frame {frame.index}"):
            stored = tree.array("frames")
            if frame.index >= stored.shape[0]:
                stored.resize((frame.index + self.checkpoint_frames, *stored.shape[1:]))
            tree.put("frames", frame.index, pack(frame.image, self.frame_coding))
            tree.vector("pts")[frame.index] = frame.pts
            state["num_frames"] += 1
        if state["num_frames"] % self.checkpoint_frames == 0:
            self.commit(f"decoded up to frame {frame.index}", kind="decode")

    def finish_frames(self) -> None:
        """All frames are in: make room for results and commit. Harmless if that was done before.

        Raises:
            StoreError: there are no frames.
        """
        tree = self._writing()
        state = tree.state
        if state["decoded"]:
            return
        count = state["num_frames"]
        if count == 0:
            raise StoreError(f"{self.path}: no frames were stored", hint="decode a video into it first")
        with store_errors(self.path, "make room for the masks"):
            tree.array("frames").resize((count, *stored_shape(self.frame_coding, state["height"], state["width"])))
            shape = (count, state["height"], state["width"])
            tree.create_images("masks", shape, np.uint8, ("frame", "y", "x"))
            tree.create_planes(*PROBS, tree.prob_dtype(), count, self.result_size)
        state["decoded"] = True
        self.commit(f"decoded {count} frames", kind="decoded", frames=count)

    def frame(self, index: int) -> np.ndarray:
        """Frame `index` at working size, uint8 [H, W, 3] RGB; near to what was written if kept as JPEG."""
        tree = self._at(index)
        with store_errors(self.path, f"read frame {index}"):
            return unpack(tree.get("frames", index), self.frame_coding)

    def pts(self, index: int) -> int:
        """Presentation time of frame `index` in units of `source.time_base`."""
        tree = self._at(index)
        with store_errors(self.path, "read the time stamps"):
            return int(tree.vector("pts").values[index])

    # ---- shared

    def _at(self, index: int) -> arrays.Tree:
        tree = self._reading()
        if not 0 <= index < tree.state["num_frames"]:
            raise IndexError(f"frame {index} of {tree.state['num_frames']}")
        return tree
