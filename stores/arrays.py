"""The arrays of a session as zarr v3 arrays with one frame per chunk, and how probabilities are quantised.

::

    frames   uint8  [T, H, W, 3]     RGB at working size, or [T, bytes] JPEGs, see `stores.pictures`
    pts      int64  [T]              presentation timestamps in the source's time base
    masks    uint8  [T, H, W]        labels, 0 = background
    probs    uint8 or uint16 [T, K, H, W]    objects only; one frame and one object per chunk; H, W with the border
    computed int32  [T]              round that last wrote the frame, 0 = not computed
    pending, pending_done            like probs, computed: propagated, not yet fused
    memory, memory_done              float32 [T, K, H, W]: exact masks of memory frames inside a round
    interactions, interactions_done  like probs, [R, K, H, W]: what each round began with
    confidence int32 [T]             1 + percent, see `stores.confidence`; 0 = unknown

A chunk of zeros is not written, therefore only `computed` tells "no object" from "not computed". A chunk that
gets lost would read as zeros too, so every image array has a vector of checksums, `<name>_check`.
"""

from __future__ import annotations

import json
import threading
from typing import Any, Literal

import google_crc32c
import icechunk
import numpy as np
import zarr
from zarr.codecs import ZstdCodec

# Level 3 halves the speed for 12 % less space on RGB frames. The checksum turns a flipped bit on the disk
# into an error instead of a wrong mask.
CODEC = ZstdCodec(level=1, checksum=True)
VECTOR_CHUNK = 65_536
PLANES = ("frame", "object", "y", "x")


def quantise(probs: np.ndarray, bits: int) -> np.ndarray:
    """Objects' probabilities as integers.

    Args:
        probs: float32 [K+1, H, W] in 0..1, background first.
        bits: 8 or 16.

    Returns:
        uint8 or uint16 [K, H, W].

    Raises:
        ValueError: a value is not finite.
    """
    if not np.isfinite(probs.sum()):
        raise ValueError("probabilities contain values that are not finite")
    scaled = np.clip(probs[1:], 0.0, 1.0).astype(np.float32, copy=False)
    scaled *= (1 << bits) - 1
    scaled += 0.5
    return scaled.astype(_dtype(bits))


def restore(objects: np.ndarray) -> np.ndarray:
    """Inverse of `quantise`: float32 [K+1, H, W] with background = 1 - sum of objects, at least 0."""
    levels = np.iinfo(objects.dtype).max
    probs = np.empty((len(objects) + 1, *objects.shape[1:]), np.float32)
    np.divide(objects, np.float32(levels), out=probs[1:])
    np.divide(_background(objects), np.float32(levels), out=probs[0])
    return probs


def label(objects: np.ndarray) -> np.ndarray:
    """Argmax of `restore(objects)` over its first axis, computed on the integers: uint8 [H, W]."""
    best = _background(objects)
    labels = np.zeros(objects.shape[1:], np.uint8)
    for number, plane in enumerate(objects, start=1):
        labels[plane > best] = number
        np.maximum(best, plane, out=best)
    return labels


def _background(objects: np.ndarray) -> np.ndarray:
    levels = np.iinfo(objects.dtype).max
    return np.maximum(levels - objects.sum(axis=0, dtype=np.int32), 0)


def checksum(blocks: np.ndarray) -> int:
    """CRC-32C over the blocks along the first axis; 0 if all are zero, and the same if zero blocks follow."""
    total = 0
    for number, block in enumerate(blocks, start=1):
        if block.any():
            # CRCs are linear: combined by xor, two swapped blocks would go unnoticed.
            total += (2 * number + 1) * google_crc32c.value(block.tobytes())
    return total % 2**32


def sealed(attributes: dict[str, Any]) -> dict[str, Any]:
    """JSON attributes with their checksum added."""
    return {**attributes, "crc32c": google_crc32c.value(json.dumps(attributes, sort_keys=True).encode())}


def unsealed(attributes: dict[str, Any]) -> dict[str, Any]:
    """Inverse of `sealed`; ValueError if the checksum does not fit."""
    plain = {name: value for name, value in attributes.items() if name != "crc32c"}
    if sealed(plain) != attributes:
        raise ValueError("attributes do not fit their checksum")
    return plain


def _dtype(bits: int) -> np.dtype:
    return np.dtype(np.uint8 if bits == 8 else np.uint16)


class FrameVector:
    """One number per frame, held in memory and written as a whole when the session commits."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self._size = len(values)
        self.changed = False

    @property
    def values(self) -> np.ndarray:
        """The numbers, [T]; a view."""
        return self._values[: self._size]

    def __setitem__(self, index: int, value: int) -> None:
        if index >= len(self._values):
            grown = np.zeros(max(2 * len(self._values), index + 64), self._values.dtype)
            grown[: self._size] = self.values
            self._values = grown
        self._size = max(self._size, index + 1)
        self._values[index] = value
        self.changed = True


class Tree:
    """The arrays and attributes of one snapshot, or of one transaction in progress.

    One thread writes; others may read meanwhile.

    Handles and vectors belong to the icechunk session they were opened in, so every new session gets a new
    tree and forgetting changes means forgetting the tree.
    """

    def __init__(self, session: icechunk.Session) -> None:
        mode: Literal["r", "r+"] = "r" if session.read_only else "r+"
        self._root = zarr.open_group(session.store, mode=mode)
        self._arrays: dict[str, zarr.Array] = {}
        self._vectors: dict[str, FrameVector] = {}
        self._lock = threading.RLock()  # a vector must not be loaded twice: marks made in one of them would be lost
        self._saved = unsealed(dict(self._root.attrs))
        self.state: dict[str, Any] = dict(self._saved)
        self._log = zarr.open_group(session.store, path="rounds", mode=mode)

    @property
    def changed(self) -> bool:
        """Whether memory holds something that `flush` would write."""
        return self.state != self._saved or any(vector.changed for vector in self._vectors.values())

    def round_log(self) -> list[dict[str, Any]]:
        """The rounds in JSON form, first round first."""
        return list(unsealed(dict(self._log.attrs))["log"])

    def append_round(self, record: dict[str, Any]) -> None:
        """Add one round to the log."""
        self.replace_rounds([*self.round_log(), record])

    def replace_rounds(self, log: list[dict[str, Any]]) -> None:
        """Write the whole log anew."""
        self._log.attrs.put(sealed({"log": log}))

    def has(self, name: str) -> bool:
        """Whether the array exists."""
        return name in self._arrays or name in self._root

    def array(self, name: str) -> zarr.Array:
        """The array `name`; KeyError when there is none."""
        if name not in self._arrays:
            found = self._root[name]
            assert isinstance(found, zarr.Array)
            self._arrays[name] = found
        return self._arrays[name]

    def vector(self, name: str) -> FrameVector:
        """The per-frame numbers `name`."""
        with self._lock:
            if name not in self._vectors:
                values = np.array(self.array(name)[:])
                self._compare(name, values[None], self.state["checks"].get(name, 0))
                self._vectors[name] = FrameVector(values)
            return self._vectors[name]

    def put(self, name: str, index: int, values: np.ndarray) -> None:
        """Write one frame of an image array; ValueError if the shape differs."""
        array = self.array(name)
        if array.shape[1:] != values.shape:
            raise ValueError(f"{name} has frames of {array.shape[1:]}, not {values.shape}")
        total = checksum(_blocks(array, values))
        with self._lock:
            if values.size:
                array[index] = values
            self.vector(f"{name}_check")[index] = total

    def get(self, name: str, index: int) -> np.ndarray:
        """Read one frame of an image array; ValueError if it is not what was written."""
        array, checks = self.array(name), self.vector(f"{name}_check")
        values = np.asarray(array[index])
        if checksum(_blocks(array, values)) != checks.values[index]:
            with self._lock:  # it may have been written meanwhile
                values = np.asarray(array[index])
                self._compare(name, _blocks(array, values), checks.values[index])
        return values

    @staticmethod
    def _compare(name: str, blocks: np.ndarray, expected: int) -> None:
        if checksum(blocks) != expected:
            raise ValueError(f"{name} does not fit its checksum")

    def create_array(self, name: str, shape: tuple[int, ...], dtype: Any, names: tuple[str, ...]) -> zarr.Array:
        """A new array, chunked by frame and, where there is an object axis, by object."""
        if len(shape) == 1:
            chunks: tuple[int, ...] = (VECTOR_CHUNK,)
        else:
            chunks = tuple(1 if axis in ("frame", "object") else n for n, axis in zip(shape, names, strict=True))
        self._arrays[name] = self._root.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            compressors=[CODEC],
            fill_value=0,
            dimension_names=names,
        )
        return self._arrays[name]

    def create_images(self, name: str, shape: tuple[int, ...], dtype: Any, names: tuple[str, ...]) -> None:
        """An image array and its checksums."""
        self.create_array(name, shape, dtype, names)
        self.create_array(f"{name}_check", shape[:1], np.uint32, ("frame",))

    def create_planes(self, name: str, done: str, dtype: Any, frames: int, size: tuple[int, int]) -> None:
        """A [T, K, *size] image array and its per-frame vector `done`."""
        self.create_images(name, (frames, self.state["num_objects"], *size), dtype, PLANES)
        self.create_array(done, (frames,), np.int32, ("frame",))

    def prob_dtype(self) -> np.dtype:
        """uint8 or uint16."""
        return _dtype(self.state["prob_bits"])

    def delete_planes(self, planes: str, done: str) -> None:
        """Remove what `create_planes` made, if it did."""
        for name in (planes, f"{planes}_check", done):
            self.state["checks"] = {key: value for key, value in self.state["checks"].items() if key != name}
            self._arrays.pop(name, None)
            self._vectors.pop(name, None)
            if name in self._root:
                del self._root[name]

    def flush(self) -> None:
        """Write vectors and attributes into the transaction."""
        for name, vector in self._vectors.items():
            if vector.changed:
                array = self.array(name)
                if array.shape != vector.values.shape:
                    array.resize(vector.values.shape)
                array[:] = vector.values
                self.state["checks"] = {**self.state["checks"], name: checksum(vector.values[None])}
                vector.changed = False
        if self.state != self._saved:
            self._root.attrs.put(sealed(self.state))
            self._saved = dict(self.state)


def _blocks(array: zarr.Array, values: np.ndarray) -> np.ndarray:
    """One frame of an array as [chunks, ...]."""
    return values if array.chunks[:2] == (1, 1) and array.ndim == 4 else values[None]
