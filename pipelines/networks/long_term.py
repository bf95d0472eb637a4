"""A memory bank of bounded size: recent frames in full, older ones as the few positions that were read most.

The idea is that of XMem (Cheng and Schwing, ECCV 2022, section 3.3): working memory is consolidated into prototypes by
usage, their values are a weighted mean of what is similar to them, and the least used prototypes make room for later
ones. Here frames are consolidated one by one, so every frame of a video costs the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from pipelines.networks.memory import MemoryBank
from pipelines.networks.reading import MemoryRules, affinity, read_top_k
from stores.errors import ModelError, StoreError

RECENT_FRAMES = 5  # kept in full, if the budget has room for more
LEAST_FRAMES = 2  # kept in full, whatever the budget
COMPRESSION = 32  # positions of a frame for each of its prototypes
TABLES = ("keys", "norms", "values", "known", "usage", "life")  # names of `_tables` in a kept state
log = logging.getLogger("mivos")


def memory_bank(rules: MemoryRules) -> MemoryBank:
    """The bank for these rules."""
    return MemoryBank(rules) if rules.budget is None else BudgetBank(rules)


class BudgetBank(MemoryBank):
    """A bank that keeps to `rules.budget`, counted over certain, recent, long-term and the temporary frame.

    Certain frames are never dropped. Where they leave less than `LEAST_FRAMES`, the budget is exceeded and a warning
    says so, once.
    """

    def __init__(self, rules: MemoryRules) -> None:
        assert rules.budget is not None
        super().__init__(rules)
        self._usage = self._life = torch.empty(0)  # [G, R]: weight a row was read with, reads it was there for
        self._recent = LEAST_FRAMES
        self._most_long = 0
        self._warned = False

    @property
    def prototypes(self) -> int:
        """Long-term positions that are kept now, for each group of keys."""
        return self._long_rows

    @property
    def _limit(self) -> int | None:
        return self._recent

    def add_certain(self, key: Tensor, value: Tensor, known: int | None = None) -> None:
        """As in `MemoryBank`; what earlier passes left shrinks to what the budget then has room for."""
        super().add_certain(key, value, known)
        self._share()

    def add_permanent(self, key: Tensor, value: Tensor) -> None:
        """As in `MemoryBank`; the oldest recent frame leaves its prototypes behind."""
        self._has_temporary = False
        if self._kept == self._recent:
            oldest = self._certain + self._permanent % self._recent
            self._consolidate(slice(oldest * self._cells, (oldest + 1) * self._cells))
        super().add_permanent(key, value)

    def forget_pass(self, dropped: int = 0) -> None:
        """Drops everything but certain memory."""
        if dropped:
            raise ValueError("a pass with a budget is taken up by `restore_pass`")
        super().forget_pass()
        self._long_rows = 0

    def pass_state(self) -> dict[str, np.ndarray]:
        """Everything about the running pass, for `restore_pass`; views of memory, to be written at once."""
        first = self._certain * self._cells
        rows = {
            name: table[:, first : self._used].cpu().numpy() for name, table in zip(TABLES, self._tables(), strict=True)
        }
        counts = [self._permanent, self._long_rows, self._has_temporary, self._recent]
        return {**rows, "counts": np.array(counts, np.int64)}

    def restore_pass(self, state: dict[str, np.ndarray]) -> None:
        """Takes up a pass where `pass_state` was asked for. Certain memory must be the same.

        Raises:
            StoreError: the state does not fit this bank.
        """
        try:
            self._permanent, self._long_rows, temporary, recent = (int(n) for n in state["counts"])
            self._has_temporary, self._in_pass = bool(temporary), True
            if recent != self._recent:
                raise ValueError("another budget")
            self._reserve(self._used)
            rows = slice(self._certain * self._cells, self._used)
            for name, table in zip(TABLES, self._tables(), strict=True):
                table[:, rows] = torch.from_numpy(state[name])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise StoreError(f"the kept memory of the unfinished round does not fit: {error}") from error

    # ---- how much there may be

    def _share(self) -> None:
        """Divides what certain frames leave between recent frames and prototypes."""
        budget = self.rules.budget
        assert budget is not None
        if budget.frames is not None:
            frames = budget.frames
        else:
            frame_bytes = sum(t.element_size() * t[:, : self._cells].numel() for t in self._tables())
            frames = (budget.nbytes or 0) // max(1, frame_bytes)
        free = frames - self._certain - int(self.rules.temporary)
        if free < LEAST_FRAMES and not self._warned:
            self._warned = True
            log.warning(
                "the memory budget has no room for %d marked frames and %d others; it is exceeded",
                self._certain, LEAST_FRAMES,
            )  # fmt: skip
        free = max(free, LEAST_FRAMES)
        recent = max(LEAST_FRAMES, min(RECENT_FRAMES, (free + 1) // 2))
        self._most_long = (free - recent) * self._cells
        if self._kept or self._long_rows:
            self._rearrange(recent)
        self._recent = recent

    def _rearrange(self, recent: int) -> None:
        """Brings what earlier passes left under new bounds; the oldest frames too many are consolidated."""
        kept, start = self._kept, self._permanent % self._recent if self._kept == self._recent else 0
        order = [(start + i) % kept for i in range(kept)]
        first, cells = self._certain * self._cells, self._cells
        frames = torch.cat([torch.arange(s * cells, (s + 1) * cells) for s in order]) + first
        long = torch.arange(first + kept * cells, first + kept * cells + self._long_rows)
        rows = torch.cat([frames, long]).to(self._keys.device)
        for table in self._tables():
            table[:, first : first + len(rows)] = table[:, rows.to(table.device)]
        self._permanent = kept
        if self._long_rows > self._most_long:
            self._keep_most_used(self._most_long)
        while kept > recent:
            self._consolidate(slice(first, first + cells))
            for table in self._tables():  # the oldest frame is the first one: everything behind it moves up
                table[:, first : self._used - cells] = table[:, first + cells : self._used].clone()
            kept -= 1
            self._permanent, self._recent = kept, kept

    # ---- consolidation

    def _consolidate(self, rows: slice) -> None:
        """Puts prototypes of one frame among the long-term rows."""
        count = min(max(1, self._cells // COMPRESSION), self._most_long)
        if count == 0:
            return
        have, start = self._long_rows, (self._certain + self._kept) * self._cells
        grown = min(count, self._most_long - have)
        self._reserve(start + have + grown)
        source = self._rate(rows).topk(count, dim=1).indices + rows.start  # (G, n)
        values = self._mean_values(rows, source)
        target = torch.arange(have, have + grown, device=source.device).expand(len(source), grown)
        if grown < count:  # the least used make room
            worst = self._rate(slice(start, start + have)).topk(count - grown, dim=1, largest=False).indices
            target = torch.cat([target, worst], dim=1)
        target = target + start
        for table in self._tables():
            index, into = source.to(table.device), target.to(table.device)
            for group in range(len(index)):
                new = values[group] if table is self._values else table[group, index[group]]
                table[group, into[group]] = new
        self._long_rows = have + grown

    def _mean_values(self, rows: slice, source: Tensor) -> Tensor:
        """Values of prototypes: of all positions of their frame, by similarity. [G, n, V]."""
        groups = range(len(source))
        return torch.stack(
            [
                read_top_k(
                    affinity(self._keys[g, rows], self._keys[g, source[g]], self.rules, self._norms[g, rows]),
                    self._values[g, rows].contiguous(),
                    self.rules.top_k,
                )
                for g in groups
            ]
        )

    def _keep_most_used(self, count: int) -> None:
        start = (self._certain + self._kept) * self._cells
        best = self._rate(slice(start, start + self._long_rows)).topk(count, dim=1).indices.sort(dim=1).values + start
        for table in self._tables():
            index = best.to(table.device)
            for group in range(len(index)):
                table[group, start : start + count] = table[group, index[group]]
        self._long_rows = count

    def _rate(self, rows: slice) -> Tensor:
        """How much each row was read, by the reads it was there for: [G, n]."""
        return self._usage[:, rows] / self._life[:, rows].clamp(min=1)

    def _note_use(self, group: int, weights: Tensor, index: Tensor | None, seen: Tensor | None) -> None:
        used = self._used
        if index is None:
            read = weights.sum(0)
        else:
            read = weights.new_zeros(used if seen is None else len(seen))
            read.index_add_(0, index.flatten(), weights.flatten())
        rows: slice | Tensor = slice(0, used) if seen is None else seen
        self._usage[group, rows] += read
        self._life[group, rows] += len(weights)

    # ---- tables

    def _tables(self) -> tuple[Tensor, ...]:
        return (*super()._tables(), self._usage, self._life)

    def _set_tables(self, tables: Iterable[Tensor]) -> None:
        *tables, self._usage, self._life = tables
        super()._set_tables(tables)

    def _allocate(self, like: Tensor, groups: int, key_dim: int, value_dim: int) -> None:
        super()._allocate(like, groups, key_dim, value_dim)
        self._usage, self._life = like.new_zeros(groups, 0), like.new_zeros(groups, 0)

    def _write(self, row: int, key: Tensor, value: Tensor, known: int | None) -> None:
        super()._write(row, key, value, known)
        rows = slice(row, row + self._cells)
        self._usage[:, rows] = self._life[:, rows] = 0

    def _reserve(self, rows: int) -> None:
        """All that the budget allows at once: growing by halves would overshoot it. Pages are taken as they fill."""
        have = self._keys.shape[1]
        if rows <= have:
            return
        planned = (self._certain + self._recent + int(self.rules.temporary)) * self._cells + self._most_long
        tables = []
        for old in self._tables():
            try:
                new = old.new_empty(old.shape[0], max(rows, planned), *old.shape[2:])
            except RuntimeError as error:
                raise ModelError(
                    f"the memory budget of {self.rules.budget} is more than this machine gives",
                    hint="choose a smaller --memory-budget",
                ) from error
            new[:, :have] = old
            tables.append(new)
        self._set_tables(tables)
