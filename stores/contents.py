"""Frames and results in a session: reading and writing arrays, one frame at a time.

`SessionContents` is the part of `stores.session.Session` that does not care about commits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from stores import arrays
from stores.errors import StoreError, UsageError
from stores.history import RoundRecord
from stores.repository import store_errors
from stores.source import Frame, SourceInfo

MAX_OBJECTS = 255  # labels are uint8
PROBS = ("probs", "computed")
PENDING = ("pending", "pending_done")
MEMORY = ("memory", "memory_done")


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
                stored.resize((frame.index + self.checkpoint_frames, *shape))
            tree.put("frames", frame.index, frame.image)
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
            tree.array("frames").resize((count, state["height"], state["width"], 3))
            shape = (count, state["height"], state["width"])
            tree.create_images("masks", shape, np.uint8, ("frame", "y", "x"))
            tree.create_planes(*PROBS, tree.prob_dtype(), count, shape[1:])
        state["decoded"] = True
        self.commit(f"decoded {count} frames", kind="decoded", frames=count)

    def frame(self, index: int) -> np.ndarray:
        """Frame `index` at working size, uint8 [H, W, 3] RGB."""
        tree = self._at(index)
        with store_errors(self.path, f"read frame {index}"):
            return tree.get("frames", index)

    def pts(self, index: int) -> int:
        """Presentation time of frame `index` in units of `source.time_base`."""
        tree = self._at(index)
        with store_errors(self.path, "read the time stamps"):
            return int(tree.vector("pts").values[index])

    # ---- results

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The ids people gave the objects, in the order of the object planes and labels 1..K."""
        state = self._reading().state
        return tuple(state.get("object_ids", ())) or tuple(range(1, state["num_objects"] + 1))

    def add_object_ids(self, ids: Iterable[int]) -> None:
        """Let there be objects with these ids; new ones come after the present ones, in ascending order."""
        new = sorted(set(ids) - set(self.object_ids))
        if new:
            object_ids = [*self.object_ids, *new]
            self.add_objects(len(object_ids))
            self._writing().state["object_ids"] = object_ids

    def add_objects(self, count: int) -> None:
        """Let there be `count` objects; the new ones are empty everywhere.

        Raises:
            UsageError: more than 255.
            ValueError: fewer than now.
        """
        tree = self._writing()
        if count > MAX_OBJECTS:
            raise UsageError(f"a session holds at most {MAX_OBJECTS} objects, not {count}")
        if count < tree.state["num_objects"]:
            raise ValueError(f"there are {tree.state['num_objects']} objects, {count} would lose some")
        if count == tree.state["num_objects"]:
            return
        with store_errors(self.path, "add objects"):
            for name, _ in (PROBS, PENDING, MEMORY):
                if tree.has(name):
                    planes = tree.array(name)
                    planes.resize((planes.shape[0], count, *planes.shape[2:]))
        tree.state["num_objects"] = count

    def write_probs(self, index: int, probs: np.ndarray) -> None:
        """Store the result of a frame: probabilities and the label map, marked with the round in progress.

        Args:
            index: the frame.
            probs: float [K+1, H, W] in 0..1, background first. See `roundtrip` for what is kept.
        """
        quantised = self._quantise(probs)
        tree = self._write_planes(PROBS, index, quantised, self._round)
        with store_errors(self.path, f"store the mask of frame {index}"):
            tree.put("masks", index, arrays.label(quantised))

    def probs(self, index: int) -> np.ndarray | None:
        """float32 [K+1, H, W], background = 1 - sum of objects; None if the frame was not computed."""
        planes = self._read_planes(PROBS, index)
        return None if planes is None else arrays.restore(planes)

    def mask(self, index: int) -> np.ndarray | None:
        """Label map uint8 [H, W], the argmax of `probs`; None if the frame was not computed."""
        tree = self._at(index)
        with store_errors(self.path, f"read the mask of frame {index}"):
            if not tree.has("masks") or not tree.vector("computed").values[index]:
                return None
            return tree.get("masks", index)

    def computed(self) -> np.ndarray:
        """int32 [T], the round (1..) that last wrote each frame, 0 = not computed."""
        tree = self._reading()
        with store_errors(self.path, "read which frames are computed"):
            if not tree.has("computed"):
                return np.zeros(self.num_frames, np.int32)
            return tree.vector("computed").values.copy()

    def roundtrip(self, probs: np.ndarray) -> np.ndarray:
        """What `probs` would return after `write_probs(probs)`; nothing is written.

        Results that go on to be used must pass through this, or a resumed round would differ from an
        uninterrupted one.
        """
        return arrays.restore(self._quantise(probs))

    # ---- results of a stage that the next stage still needs

    def write_pending(self, index: int, probs: np.ndarray) -> None:
        """Like `write_probs`, for a propagated but not yet fused result; `mask` and `probs` do not see it."""
        self._write_planes(PENDING, index, self._quantise(probs), 1)

    def pending(self, index: int) -> np.ndarray | None:
        """float32 [K+1, H, W], or None."""
        planes = self._read_planes(PENDING, index)
        return None if planes is None else arrays.restore(planes)

    def pending_frames(self) -> list[int]:
        """Frames that have a pending result."""
        return self._done(PENDING)

    def clear_pending(self) -> None:
        """Forget all pending results."""
        with store_errors(self.path, "clear pending results"):
            self._writing(in_round=True).delete_planes(*PENDING)

    def write_memory(self, index: int, objects: np.ndarray) -> None:
        """Keep the exact masks of a memory frame: float32 [K, h, w], any size but the same for all frames."""
        if len(objects) != self.num_objects:
            raise ValueError(f"memory masks of {len(objects)} objects, there are {self.num_objects}")
        self._write_planes(MEMORY, index, objects.astype(np.float32, copy=False), 1)

    def memory(self, index: int) -> np.ndarray | None:
        """float32 [K, h, w] exactly as written, or None."""
        return self._read_planes(MEMORY, index)

    def memory_frames(self) -> list[int]:
        """Frames that have a kept memory mask."""
        return self._done(MEMORY)

    def clear_memory(self) -> None:
        """Forget all kept memory masks."""
        with store_errors(self.path, "clear memory frames"):
            self._writing(in_round=True).delete_planes(*MEMORY)

    # ---- shared

    def _at(self, index: int) -> arrays.Tree:
        tree = self._reading()
        if not 0 <= index < tree.state["num_frames"]:
            raise IndexError(f"frame {index} of {tree.state['num_frames']}")
        return tree

    def _quantise(self, probs: np.ndarray) -> np.ndarray:
        shape = (self.num_objects + 1, self.height, self.width)
        if probs.shape != shape:
            raise ValueError(f"probabilities of shape {probs.shape}, expected {shape}")
        return arrays.quantise(probs, self.prob_bits)

    def _write_planes(self, names: tuple[str, str], index: int, planes: np.ndarray, mark: int | None) -> arrays.Tree:
        tree = self._writing(in_round=True)
        self._at(index)
        name, done = names
        with store_errors(self.path, f"store {name} of frame {index}"):
            if not tree.has(name):
                tree.create_planes(name, done, planes.dtype, tree.state["num_frames"], planes.shape[1:])
            tree.put(name, index, planes)
            tree.vector(done)[index] = mark or 0
        return tree

    def _read_planes(self, names: tuple[str, str], index: int) -> np.ndarray | None:
        tree = self._at(index)
        name, done = names
        with store_errors(self.path, f"read {name} of frame {index}"):
            if not tree.has(name) or not tree.vector(done).values[index]:
                return None
            return tree.get(name, index)

    def _done(self, names: tuple[str, str]) -> list[int]:
        tree = self._reading()
        with store_errors(self.path, f"list {names[0]} frames"):
            return np.flatnonzero(tree.vector(names[1]).values).tolist() if tree.has(names[1]) else []
