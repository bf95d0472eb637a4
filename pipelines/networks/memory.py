"""Space-time memory: what past frames knew, read by similarity to the present one.

The bank hides whether keys belong to a frame (STCN form) or to an object (STM form), and that objects may have
appeared at different times. `long_term.py` has the one with a budget.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.networks.reading import (
    BLOCK_BYTES,
    MemoryRules,
    affinity,
    best_positions,
    log_kernel,
    read_weighted,
    top_k_weights,
)


class MemoryBank:
    """Keys and values of memory frames as rows: certain | permanent | long-term rows | temporary frame, in this order.

    Only `BudgetBank` has long-term rows. A frame may show more objects than earlier ones did; the new ones, numbered
    last, do not read those earlier frames. Bytes: 4 * (certain + permanent + 1 frames) * H * W * (G * Ck + K * Cv),
    G = 1 for shared keys, else K.
    """

    def __init__(self, rules: MemoryRules) -> None:
        self.rules = rules
        self._certain = 0
        self._permanent = 0  # added since the last `forget_pass`; may exceed what is kept
        self._long_rows = 0
        self._has_temporary = False
        self._in_pass = False
        # [G, R, ...]; known: [G, R], how many objects existed in the frame of a row, on the CPU
        self._keys = self._norms = self._values = torch.empty(0)
        self._known = torch.empty(0, dtype=torch.int16)
        self._cells = self._objects = self._value_dim = 0

    @property
    def frames(self) -> int:
        """Memory frames that a read now sees in full."""
        return self._certain + self._kept + int(self._has_temporary)

    def frames_of(self, k: int) -> int:
        """Memory frames that object `k`, counted from 0, now reads."""
        return int((self._known[self._group_of(k), : self._used] > k).sum()) // self._cells

    @property
    def nbytes(self) -> int:
        """Bytes held (capacity, not only what is filled)."""
        return sum(t.numel() * t.element_size() for t in self._tables())

    @property
    def _kept(self) -> int:
        limit = self._limit
        return self._permanent if limit is None else min(self._permanent, limit)

    @property
    def _limit(self) -> int | None:
        return self.rules.max_permanent

    @property
    def _used(self) -> int:
        """Rows that a read now sees."""
        return self._temporary_row + int(self._has_temporary) * self._cells

    @property
    def _temporary_row(self) -> int:
        return (self._certain + self._kept) * self._cells + self._long_rows

    def _tables(self) -> tuple[Tensor, ...]:
        """Everything that has a row for each position of a memory frame, [G, R, ...]."""
        return self._keys, self._norms, self._values, self._known

    def _group_of(self, k: int) -> int:
        return k // (self._objects // self._values.shape[0])

    def add_certain(self, key: Tensor, value: Tensor, known: int | None = None) -> None:
        """Adds an interacted frame. Only possible between passes (see `forget_pass` and `keep_pass`).

        Args:
            key: [G, Ck, H, W]; value: [K, Cv, H, W]; known: how many objects (1..known) existed when this frame was
                marked; later ones do not read from it. None: all K.
        """
        if self._in_pass:
            raise RuntimeError("certain memory is added between passes")
        if self._kept or self._long_rows:
            self._make_room()
        self._write(self._certain * self._cells, key, value, known)
        self._certain += 1

    def add_permanent(self, key: Tensor, value: Tensor) -> None:
        """Adds a frame of the running pass; the oldest makes room when there are `max_permanent`. Ends temporary."""
        limit = self._limit
        slot = self._permanent if limit is None else self._permanent % limit
        self._has_temporary, self._in_pass = False, True
        self._write((self._certain + slot) * self._cells, key, value, None)
        self._permanent += 1

    def set_temporary(self, key: Tensor, value: Tensor) -> None:
        """Puts the previous frame in memory, in place of an earlier temporary one."""
        self._write(self._temporary_row, key, value, None)
        self._has_temporary = self._in_pass = True

    def forget_pass(self, dropped: int = 0) -> None:
        """Drops permanent and temporary frames; a new pass starts from certain memory alone.

        Args:
            dropped: permanent frames that made room in an interrupted pass which is now taken up again; the kept ones,
                added next, then land in the slots they had.
        """
        self._permanent, self._has_temporary = dropped, False
        self._in_pass = dropped > 0

    def keep_pass(self) -> None:
        """Ends a pass as `forget_pass` does, but its permanent frames stay and are read in the next pass too.

        They still make room for later ones, so the bound of `max_permanent` holds over all passes together.
        """
        self._has_temporary = self._in_pass = False

    def read(self, query: Tensor) -> Tensor:
        """Memory read-out of one query frame for all objects.

        Args:
            query: [1, Ck, H, W].

        Returns:
            [K, Cv, H, W].
        """
        height, width = query.shape[-2:]
        rows = query[0].flatten(1).T  # (M, Ck)
        groups, per_group = self._values.shape[0], self._objects // self._values.shape[0]
        out = rows.new_empty(self._objects, self._value_dim, height, width)
        for group in range(groups):
            for first, last, seen in self._object_runs(group * per_group, per_group):
                objects = slice(first - group * per_group, last - group * per_group)
                read = self._read_rows(group, rows, objects, seen, width)
                out[first:last] = read.T.reshape(last - first, self._value_dim, height, width)
        return out

    def _object_runs(self, start: int, count: int) -> list[tuple[int, int, Tensor | None]]:
        """Runs of objects that read the same rows: (first, last, rows), rows None for all of them."""
        known = self._known[self._group_of(start), : self._used]
        if not len(known) or int(known.min()) >= start + count:
            return [(start, start + count, None)]
        counts = torch.bincount(known).nonzero()[:, 0].tolist()  # different ones, in order
        bounds = [start, *(k for k in counts if start < k < start + count), start + count]
        runs: list[tuple[int, int, Tensor | None]] = []
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            seen = (known > first).nonzero()[:, 0]
            runs.append((first, last, None if len(seen) == len(known) else seen))
        return runs

    def _read_rows(self, group: int, query: Tensor, objects: slice, seen: Tensor | None, width: int) -> Tensor:
        used = self._used
        keys, norms, values = self._keys[group, :used], self._norms[group, :used], self._values[group, :used]
        columns = slice(objects.start * self._value_dim, objects.stop * self._value_dim)
        if columns != slice(0, values.shape[1]):
            values = values[:, columns]
        if seen is not None:
            seen = seen.to(keys.device)
            keys, norms, values = keys[seen], norms[seen], values[seen]
        values = values.contiguous()
        out = query.new_empty(query.shape[0], values.shape[1])
        block = max(1, BLOCK_BYTES // (4 * max(1, keys.shape[0])))
        sigma = self.rules.kernel_sigma
        best = None if sigma is None else best_positions(keys, query, self.rules, norms, block)
        for at in range(0, query.shape[0], block):
            similarity = affinity(keys, query[at : at + block], self.rules, norms)
            if sigma is not None and best is not None:
                positions = torch.arange(at, at + similarity.shape[0], device=best.device, dtype=best.dtype)
                similarity += log_kernel(best, positions, width, sigma)
            weights, index = top_k_weights(similarity, self.rules.top_k)
            out[at : at + block] = read_weighted(weights, index, values)
            self._note_use(group, weights, index, seen)
        return out

    def _note_use(self, group: int, weights: Tensor, index: Tensor | None, seen: Tensor | None) -> None:
        """Called with the weights of each read; see `BudgetBank`."""

    def _write(self, row: int, key: Tensor, value: Tensor, known: int | None) -> None:
        groups, key_dim = key.shape[:2]
        objects, value_dim = value.shape[:2]
        cells = key.shape[-2] * key.shape[-1]
        if not self._cells:
            self._cells, self._objects, self._value_dim = cells, objects, value_dim
            self._allocate(key, groups, key_dim, objects // groups * value_dim)
        if objects > self._objects:
            self._add_objects(groups, objects)
        self._reserve(row + cells)
        rows = slice(row, row + cells)
        self._keys[:, rows] = key.flatten(2).transpose(1, 2)
        self._norms[:, rows] = self._keys[:, rows].square().sum(2)
        self._values[:, rows] = value.reshape(groups, -1, cells).transpose(1, 2)
        self._known[:, rows] = objects if known is None else known

    def _allocate(self, like: Tensor, groups: int, key_dim: int, value_dim: int) -> None:
        self._keys = like.new_empty(groups, 0, key_dim)
        self._norms = like.new_empty(groups, 0)
        self._values = like.new_empty(groups, 0, value_dim)
        self._known = torch.empty(groups, 0, dtype=torch.int16)

    def _add_objects(self, groups: int, objects: int) -> None:
        # what earlier rows hold for new objects is never read, see `_object_runs`
        more_groups = groups - self._keys.shape[0]
        if more_groups:
            self._set_tables(F.pad(t, (0, 0) * (t.ndim - 1) + (0, more_groups)) for t in self._tables())
        else:
            self._values = F.pad(self._values, (0, (objects - self._objects) * self._value_dim))
        self._objects = objects

    def _make_room(self) -> None:
        """Moves the rows of the pass by one frame, so that a certain frame fits before them."""
        first, last, step = self._certain * self._cells, self._used, self._cells
        self._reserve(last + step)
        for rows in self._tables():
            rows[:, first + step : last + step] = rows[:, first:last].clone()

    def _reserve(self, rows: int) -> None:
        have = self._keys.shape[1]
        if rows <= have:
            return
        # grows by half so that long passes copy rarely; a bounded bank stops growing by itself
        more = max(rows, have + have // (2 * self._cells) * self._cells) - have
        self._set_tables(F.pad(t, (0, 0) * (t.ndim - 2) + (0, more)) for t in self._tables())

    def _set_tables(self, tables: Iterable[Tensor]) -> None:
        self._keys, self._norms, self._values, self._known = tables
