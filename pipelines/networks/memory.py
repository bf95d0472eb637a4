"""Space-time memory: what past frames knew, read by similarity to the present one.

The bank hides whether keys belong to a frame (STCN form) or to an object (STM form), and that objects may have
appeared at different times.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.networks.reading import BLOCK_BYTES, MemoryRules, affinity, best_positions, log_kernel, read_top_k


class MemoryBank:
    """Keys and values of memory frames as rows: certain | permanent | temporary frames, in this order.

    A frame may show more objects than earlier ones did; the new ones, numbered last, do not read those earlier frames.
    Bytes: 4 * (certain + permanent + 1 frames) * H * W * (G * Ck + K * Cv), G = 1 for shared keys, else K.
    """

    def __init__(self, rules: MemoryRules) -> None:
        self.rules = rules
        self._certain = 0
        self._permanent = 0  # added since the last `forget_pass`; may exceed what is kept
        self._has_temporary = False
        self._in_pass = False
        self._known: dict[int, int] = {}
        self._keys = self._norms = self._values = torch.empty(0)
        self._cells = 0

    @property
    def frames(self) -> int:
        """Memory frames that a read now sees."""
        return self._certain + self._kept + int(self._has_temporary)

    def frames_of(self, k: int) -> int:
        """Memory frames that object `k`, counted from 0, now reads."""
        return len(self._slots_of(k))

    @property
    def nbytes(self) -> int:
        """Bytes held (capacity, not only what is filled)."""
        return sum(t.numel() * t.element_size() for t in (self._keys, self._norms, self._values))

    @property
    def _kept(self) -> int:
        limit = self.rules.max_permanent
        return self._permanent if limit is None else min(self._permanent, limit)

    def add_certain(self, key: Tensor, value: Tensor, known: int | None = None) -> None:
        """Adds an interacted frame. Only possible between passes (see `forget_pass` and `keep_pass`).

        Args:
            key: [G, Ck, H, W]; value: [K, Cv, H, W]; known: how many objects (1..known) existed when this frame was
                marked; later ones do not read from it. None: all K.
        """
        if self._in_pass:
            raise RuntimeError("certain memory is added between passes")
        if self._kept:
            self._make_room()
        self._write(self._certain, key, value, known)
        self._certain += 1

    def add_permanent(self, key: Tensor, value: Tensor) -> None:
        """Adds a frame of the running pass; the oldest makes room when there are `max_permanent`. Ends temporary."""
        limit = self.rules.max_permanent
        slot = self._permanent if limit is None else self._permanent % limit
        self._has_temporary, self._in_pass = False, True
        self._write(self._certain + slot, key, value, None)
        self._permanent += 1

    def set_temporary(self, key: Tensor, value: Tensor) -> None:
        """Puts the previous frame in memory, in place of an earlier temporary one."""
        self._write(self._certain + self._kept, key, value, None)
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
            for first, last, slots in self._object_runs(group * per_group, per_group):
                objects = slice(first - group * per_group, last - group * per_group)
                read = self._read_rows(group, rows, objects, slots, width)
                out[first:last] = read.T.reshape(last - first, self._value_dim, height, width)
        return out

    def _object_runs(self, start: int, count: int) -> list[tuple[int, int, list[int] | None]]:
        """Runs of objects that read the same slots: (first, last, slots), slots None for all of them."""
        runs: list[tuple[int, int, list[int] | None]] = []
        for k in range(start, start + count):
            known = self._slots_of(k)
            slots = None if len(known) == self.frames else known
            if runs and runs[-1][2] == slots:
                runs[-1] = (runs[-1][0], k + 1, slots)
            else:
                runs.append((k, k + 1, slots))
        return runs

    def _slots_of(self, k: int) -> list[int]:
        return [slot for slot in range(self.frames) if self._known[slot] > k]

    def _read_rows(self, group: int, query: Tensor, objects: slice, slots: list[int] | None, width: int) -> Tensor:
        used = self.frames * self._cells
        keys, norms, values = self._keys[group, :used], self._norms[group, :used], self._values[group, :used]
        columns = slice(objects.start * self._value_dim, objects.stop * self._value_dim)
        if columns != slice(0, values.shape[1]):
            values = values[:, columns]
        if slots is not None:
            rows = torch.cat([torch.arange(s * self._cells, (s + 1) * self._cells) for s in slots]).to(keys.device)
            keys, norms, values = keys[rows], norms[rows], values[rows]
        values = values.contiguous()
        out = query.new_empty(query.shape[0], values.shape[1])
        block = max(1, BLOCK_BYTES // (4 * keys.shape[0]))
        sigma = self.rules.kernel_sigma
        best = None if sigma is None else best_positions(keys, query, self.rules, norms, block)
        for at in range(0, query.shape[0], block):
            similarity = affinity(keys, query[at : at + block], self.rules, norms)
            if sigma is not None and best is not None:
                positions = torch.arange(at, at + similarity.shape[0], device=best.device, dtype=best.dtype)
                similarity += log_kernel(best, positions, width, sigma)
            out[at : at + block] = read_top_k(similarity, values, self.rules.top_k)
        return out

    def _write(self, slot: int, key: Tensor, value: Tensor, known: int | None) -> None:
        groups, key_dim = key.shape[:2]
        objects, value_dim = value.shape[:2]
        cells = key.shape[-2] * key.shape[-1]
        if not self._cells:
            self._cells, self._objects, self._value_dim = cells, objects, value_dim
            self._keys = key.new_empty(groups, 0, key_dim)
            self._norms = key.new_empty(groups, 0)
            self._values = value.new_empty(groups, 0, objects // groups * value_dim)
        if objects > self._objects:
            self._add_objects(groups, objects)
        self._reserve(slot + 1)
        rows = slice(slot * cells, (slot + 1) * cells)
        self._keys[:, rows] = key.flatten(2).transpose(1, 2)
        self._norms[:, rows] = self._keys[:, rows].square().sum(2)
        self._values[:, rows] = value.reshape(groups, -1, cells).transpose(1, 2)
        self._known[slot] = objects if known is None else known

    def _add_objects(self, groups: int, objects: int) -> None:
        # what earlier slots hold for new objects is never read, see `_slots_of`
        more_groups = groups - self._keys.shape[0]
        if more_groups:
            self._keys = F.pad(self._keys, (0, 0, 0, 0, 0, more_groups))
            self._norms = F.pad(self._norms, (0, 0, 0, more_groups))
            self._values = F.pad(self._values, (0, 0, 0, 0, 0, more_groups))
        else:
            self._values = F.pad(self._values, (0, (objects - self._objects) * self._value_dim))
        self._objects = objects

    def _make_room(self) -> None:
        """Moves the permanent frames by one slot, so that a certain frame fits before them."""
        first, last = self._certain, self._certain + self._kept
        self._reserve(last + 1)
        for rows in (self._keys, self._norms, self._values):
            moved = rows[:, first * self._cells : last * self._cells].clone()
            rows[:, (first + 1) * self._cells : (last + 1) * self._cells] = moved
        for slot in range(last, first, -1):
            self._known[slot] = self._known[slot - 1]

    def _reserve(self, slots: int) -> None:
        have = self._keys.shape[1] // self._cells
        if slots <= have:
            return
        # grows by half so that long passes copy rarely; a bounded bank stops growing by itself
        more = (max(slots, have + have // 2) - have) * self._cells
        self._keys = F.pad(self._keys, (0, 0, 0, more))
        self._norms = F.pad(self._norms, (0, more))
        self._values = F.pad(self._values, (0, 0, 0, more))
