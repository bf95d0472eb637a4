"""Results in a session: probabilities, masks, and what a round keeps while it is under way.

Networks work on frames with a border (their sides are multiples of 16) and what they say about it enters later
results, so it is kept: arrays are of `result_size`. Readers get frames without it unless they ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from stores import arrays
from stores.confidence import UNKNOWN, expected_overlap
from stores.contents import PROBS, SessionContents
from stores.errors import StoreError, UsageError
from stores.repository import store_errors

MAX_OBJECTS = 255  # labels are uint8
PENDING = ("pending", "pending_done")
MEMORY = ("memory", "memory_done")
INTERACTIONS = ("interactions", "interactions_done")
CONFIDENCE = "confidence"


class SessionResults(SessionContents):
    """Arrays of results, as they are in the current snapshot or transaction."""

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
            for name, _ in (PROBS, PENDING, MEMORY, INTERACTIONS):
                if tree.has(name):
                    planes = tree.array(name)
                    planes.resize((planes.shape[0], count, *planes.shape[2:]))
        tree.state["num_objects"] = count

    def drop_object(self, object_id: int, progress: Callable[[int, int], None] | None = None) -> str:
        """Delete an object from all frames, as a commit of its own that `undo` takes back; returns the commit's id.

        Where it was, the most probable of the others or background is seen. An exception out of `progress` leaves
        everything as it was.

        Args:
            progress: called with (frames done, frames in all).

        Raises:
            UsageError: there is no such object. StoreError: a round is in progress.
        """
        if object_id not in self.object_ids:
            raise UsageError(f"{self.path} has no object {object_id}")
        if self._round is not None:
            raise StoreError(f"{self.path}: a round is in progress", hint="finish or discard it first")
        tree, plane = self._writing(), self.object_ids.index(object_id)
        try:
            with store_errors(self.path, f"delete object {object_id}"):
                frames = np.flatnonzero(tree.vector(PROBS[1]).values).tolist()
                for done, index in enumerate(frames, start=1):
                    rest = _shift(tree, PROBS[0], index, plane)
                    tree.put("masks", index, arrays.label(self._without_border(rest)))
                    if tree.has(CONFIDENCE):
                        tree.vector(CONFIDENCE)[index] = 1 + expected_overlap(rest)
                    if progress is not None:
                        progress(done, len(frames))
                if tree.has(INTERACTIONS[0]):
                    for number in np.flatnonzero(tree.vector(INTERACTIONS[1]).values).tolist():
                        _shift(tree, INTERACTIONS[0], number, plane)
                kept = [known for known in self.object_ids if known != object_id]
                for name in (PROBS[0], INTERACTIONS[0]):
                    if tree.has(name):
                        planes = tree.array(name)
                        planes.resize((planes.shape[0], len(kept), *planes.shape[2:]))
                if not kept:  # frames without objects have no result
                    tree.vector(PROBS[1]).values[:] = 0
                    tree.vector(PROBS[1]).changed = True
                log = tree.round_log()
                for record in log:
                    record["model"]["known"] = record["model"].get("known", len(kept) + 1)
                    record["model"]["known"] -= plane < record["model"]["known"]
                tree.replace_rounds(log)
                tree.state["num_objects"], tree.state["object_ids"] = len(kept), kept
            return self.commit(f"object {object_id} deleted", kind="deletion", object=object_id)
        except BaseException:
            self.rollback()
            raise

    def write_probs(self, index: int, probs: np.ndarray) -> None:
        """Store the result of a frame: probabilities and the label map, marked with the round in progress.

        Args:
            index: the frame.
            probs: float [K+1, H, W] in 0..1, background first, or of `result_size` with the border; without it the
                border is empty. See `roundtrip` for what is kept.
        """
        quantised = self._quantise(probs)
        tree = self._write_planes(PROBS, index, quantised, self._round)
        with store_errors(self.path, f"store the mask of frame {index}"):
            tree.put("masks", index, arrays.label(self._without_border(quantised)))
            if not tree.has(CONFIDENCE):
                tree.create_array(CONFIDENCE, (self.num_frames,), np.int32, ("frame",))
            tree.vector(CONFIDENCE)[index] = 1 + expected_overlap(quantised)

    def confidence(self) -> np.ndarray:
        """int32 [T], percent (see `stores.confidence`); -1 where nothing was computed or an older mivos did it."""
        tree = self._reading()
        with store_errors(self.path, "read how sure the masks are"):
            if not tree.has(CONFIDENCE):
                return np.full(self.num_frames, UNKNOWN, np.int32)
            return np.where(self.computed() > 0, tree.vector(CONFIDENCE).values - 1, UNKNOWN)

    def probs(self, index: int, *, border: bool = False) -> np.ndarray | None:
        """float32 [K+1, H, W], background = 1 - sum of objects; None if the frame was not computed.

        Args:
            border: of `result_size` instead of the frame's.
        """
        planes = self._read_planes(PROBS, index)
        if planes is None:
            return None
        return arrays.restore(planes if border else self._without_border(planes))

    def mask(self, index: int, *, border: bool = False) -> np.ndarray | None:
        """Label map uint8 [H, W], the argmax of `probs`; None if the frame was not computed.

        Args:
            border: of `result_size` instead of the frame's.
        """
        if border:
            planes = self._read_planes(PROBS, index)
            return None if planes is None else arrays.label(planes)
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
        """What `probs` would return, with the border, after `write_probs(probs)`; nothing is written.

        Results that go on to be used must pass through this, or a resumed round would differ from an
        uninterrupted one.
        """
        return arrays.restore(self._quantise(probs))

    # ---- results of a stage that the next stage still needs

    def write_pending(self, index: int, probs: np.ndarray) -> None:
        """Like `write_probs`, for a propagated but not yet fused result; `mask` and `probs` do not see it."""
        self._write_planes(PENDING, index, self._quantise(probs), 1)

    def pending(self, index: int) -> np.ndarray | None:
        """float32 [K+1, *result_size], or None."""
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

    # ---- interactions, kept for good

    def write_interaction(self, number: int, probs: np.ndarray) -> None:
        """Keep the mask that round `number` (1..) began with; later rounds may overwrite its frame's result."""
        planes = self._quantise(probs)
        tree = self._writing(in_round=True)
        name, done = INTERACTIONS
        with store_errors(self.path, f"store the interaction of round {number}"):
            if not tree.has(name):
                tree.create_planes(name, done, planes.dtype, number, self.result_size)
            stored = tree.array(name)
            if number > stored.shape[0]:
                stored.resize((number, *stored.shape[1:]))
            tree.put(name, number - 1, planes)
            tree.vector(done)[number - 1] = 1

    def interaction(self, number: int) -> np.ndarray | None:
        """float32 [K+1, *result_size] of round `number`, or None."""
        tree = self._reading()
        name, done = INTERACTIONS
        with store_errors(self.path, f"read the interaction of round {number}"):
            if not tree.has(name) or not 1 <= number <= len(tree.vector(done).values):
                return None
            return arrays.restore(tree.get(name, number - 1)) if tree.vector(done).values[number - 1] else None

    # ---- shared

    def _quantise(self, probs: np.ndarray) -> np.ndarray:
        """Integers [K, *result_size]."""
        count = self.num_objects + 1
        if probs.shape == (count, self.height, self.width):
            left, right, top, bottom = self.border
            probs = np.pad(probs, ((0, 0), (top, bottom), (left, right))) if any(self.border) else probs
        elif probs.shape != (count, *self.result_size):
            raise ValueError(f"probabilities of shape {probs.shape}, expected {(count, self.height, self.width)}")
        return arrays.quantise(probs, self.prob_bits)

    def _without_border(self, planes: np.ndarray) -> np.ndarray:
        left, _, top, _ = self.border
        return planes[..., top : top + self.height, left : left + self.width]

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


def _shift(tree: arrays.Tree, name: str, index: int, plane: int) -> np.ndarray:
    """Takes one plane out of a frame and moves the later ones up; returns the rest, [K - 1, H, W].

    The last plane of the frame becomes empty; the array is made smaller when all frames are done.
    """
    planes = tree.get(name, index)
    rest = np.delete(planes, plane, axis=0)
    tree.put(name, index, np.concatenate([rest, np.zeros_like(planes[:1])]))
    return rest
