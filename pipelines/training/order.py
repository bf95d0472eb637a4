"""The order in which a run sees its samples: shuffled anew every epoch, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch


@dataclass(frozen=True)
class Epochs:
    """Epochs over `items` items in steps of `batch` samples; what does not fill a step is left out of an epoch.

    With fewer items than one step takes, a step repeats items.
    """

    items: int
    batch: int
    seed: int

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return max(1, self.items // self.batch)

    def place(self, index: int) -> tuple[int, int]:
        """(epoch, item) of sample number `index` of the run."""
        step, slot = divmod(index, self.batch)
        epoch, step = divmod(step, self.steps)
        return epoch, int(_shuffled(self.items, self.seed, epoch)[(step * self.batch + slot) % self.items])

    def total(self, iterations: int) -> int:
        """Epochs in a run of so many steps."""
        return -(-iterations // self.steps)


@lru_cache(maxsize=4)
def _shuffled(items: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch, items)).permutation(items)


@contextmanager
def drawing(rng: np.random.Generator) -> Iterator[None]:
    """Inside, torch (and so torchvision's transforms) draws what follows from `rng`; its own state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        yield
