"""What a pass needs to be taken up where it was: kept with every checkpoint of a round.

Without a memory budget these are the exact masks of the frames in permanent memory, which are encoded again. With one,
memory holds what cannot be made again (see `networks/long_term.py`), so the bank itself is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.networks.long_term import BudgetBank
from pipelines.networks.memory import MemoryBank
from pipelines.networks.reading import MemoryRules
from pipelines.stages.propagate import Pass, PassState, Propagated
from stores.errors import StoreError
from stores.scratch import clear_scratch, read_scratch, write_scratch
from stores.session import Session


class PassMemory:
    """Keeps and gives back what the passes of one round remember.

    Holds the masks of permanent frames since the last checkpoint, at most as many as the bank keeps.
    """

    def __init__(self, session: Session, rules: MemoryRules, digest: str) -> None:
        self.session, self.rules, self.digest = session, rules, digest
        self._unsaved: dict[int, np.ndarray] = {}

    @property
    def limit(self) -> int | None:
        """Permanent frames whose masks are worth keeping, None for all."""
        return 1 if self.rules.budget is not None else self.rules.max_permanent

    def add(self, item: Propagated, permanent: tuple[int, ...]) -> tuple[int, ...]:
        """Takes note of a frame; returns the permanent frames of the pass that still count."""
        if not item.permanent:
            return permanent
        self._unsaved[item.index] = item.padded
        permanent = (*permanent, item.index)
        permanent = permanent if self.limit is None else permanent[-self.limit :]
        self._unsaved = {index: masks for index, masks in self._unsaved.items() if index in permanent}
        return permanent

    def save(self, item: Propagated, run: int, bank: MemoryBank) -> None:
        """Writes what a checkpoint after this frame needs; call `saved` when that is made."""
        if isinstance(bank, BudgetBank):
            self._unsaved.clear()
            write_scratch(self.session.path, self._name(run, item.index), bank.pass_state())
        for index, masks in {**self._unsaved, item.index: item.padded}.items():
            self.session.write_memory(index, masks)
        self._unsaved.clear()

    def saved(self, item: Propagated, run: int) -> None:
        """The checkpoint after this frame is made: what earlier ones needed may go."""
        if self.rules.budget is not None:
            clear_scratch(self.session.path, but=self._name(run, item.index))

    def done(self) -> None:
        """The round needs no memory any more."""
        self._unsaved.clear()
        clear_scratch(self.session.path)

    def load(self, run: int, plan: Pass, last: int | None, permanent: Sequence[int]) -> PassState | None:
        """Where an interrupted pass stands; None: it begins.

        Raises:
            StoreError: the checkpoint lacks something.
        """
        if last is None:
            return None
        previous = self.session.memory(last)
        if previous is None:
            raise StoreError("the checkpoint of the unfinished round lacks a frame", hint="start the round again")
        last_permanent = permanent[-1] if permanent else plan.start
        if self.rules.budget is not None:
            kept = read_scratch(self.session.path, self._name(run, last))
            return PassState(last, previous, last_permanent, memory=kept)
        seen = abs(last_permanent - plan.start) // self.rules.every  # how often the pass has added to memory
        counted = permanent if self.limit is None else permanent[-self.limit :]
        masks = []
        for index in counted:
            objects = self.session.memory(index)
            if objects is None:
                raise StoreError("the checkpoint of the unfinished round lacks a frame", hint="start the round again")
            masks.append((index, objects))
        return PassState(last, previous, last_permanent, masks, seen - len(masks))

    def _name(self, run: int, last: int) -> str:
        return f"{self.digest}-{run}-{last}"
