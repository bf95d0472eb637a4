"""What a memory budget costs in quality: held-out sequences, made long by going forward and backward.

Every turn shows the object as it was before, so a method that remembers the beginning is at an advantage over one that
only knows the last frames, as in long videos where objects come back.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.engine import ModelChoice, Networks
from pipelines.evaluation.dev_split import load_evaluator, score_folders
from pipelines.evaluation.speed import read_at_size
from pipelines.flow import Model
from pipelines.networks.reading import MemoryBudget
from pipelines.rounds import Progress, Report
from pipelines.stages.follow import Follower
from stores.davis import DavisDataset
from stores.errors import UsageError
from stores.masks import write_mask

UNBOUNDED, OWN_RULE = "none", "model"


@dataclass(frozen=True)
class LongRow:
    """One sequence under one bound.

    Attributes:
        memory: "none", "model" (its own rule) or a budget in words.
        frames: in all; turn: frames of the sequence, until it turns for the first time.
        jf: J&F of all frames, jf_first: of the first `turn` ones, jf_last: of the last `turn` ones; 0..100, given and
            last frame left out.
        seconds: of all frames; memory_mb: the memory bank at the end, 2**20 bytes.
    """

    memory: str
    sequence: str
    frames: int
    turn: int
    jf: float
    jf_first: float
    jf_last: float
    seconds: float
    memory_mb: float


@dataclass(frozen=True)
class LongReport:
    """All rows, and their means by bound."""

    model: str
    size: int
    rows: tuple[LongRow, ...]
    seconds: float

    @property
    def memories(self) -> tuple[str, ...]:
        """The bounds, in the order they were run."""
        return tuple(dict.fromkeys(row.memory for row in self.rows))

    def mean(self, memory: str) -> dict[str, float]:
        """Means over the sequences."""
        rows = [row for row in self.rows if row.memory == memory]
        keys = ("jf", "jf_first", "jf_last", "memory_mb")
        means = {key: float(np.mean([getattr(row, key) for row in rows])) for key in keys}
        return {**means, "seconds_per_frame": sum(r.seconds for r in rows) / sum(r.frames for r in rows)}

    def to_json(self) -> dict[str, Any]:
        """Everything, means included, as plain JSON values."""
        return {**asdict(self), "means": {memory: self.mean(memory) for memory in self.memories}}


def measure_long(
    root: Path,
    *,
    model: Model = "nano",
    memories: Sequence[str] = (UNBOUNDED, OWN_RULE, "12"),
    frames: int = 400,
    size: int = 480,
    sequences: Sequence[str] | None = None,
    progress: Report | None = None,
) -> LongReport:
    """Follows the first frame's true mask through lengthened sequences, once for each bound of memory.

    Args:
        root: DAVIS-layout folder; ImageSets/2017/val.txt names the sequences.
        memories: "none" (everything is kept), "model" (the model's own rule), or budgets as `MemoryBudget.parse` reads.
        frames: length of every sequence; size: shorter side in pixels.

    Raises:
        UsageError: a bound that cannot be read, or too few frames. DatasetError, ModelError: see `evaluate_dev_split`.
    """
    started, evaluator = time.perf_counter(), load_evaluator()
    dataset = DavisDataset(root, year="2017", split="val", resolution="480p")
    names = list(sequences) if sequences is not None else dataset.sequences()
    bounds = {memory: _networks(model, memory) for memory in memories}
    if not names or not bounds or frames < 3:
        raise UsageError("nothing to measure", hint="name sequences and bounds, and at least 3 frames")
    rows = []
    for memory, nets in bounds.items():
        for name in names:
            report = _reporter(progress, f"{memory}: {name}", frames)
            rows.append(_run(dataset, name, nets, memory, frames, size, evaluator, report))
    return LongReport(ModelChoice.of(model).name, size, tuple(rows), time.perf_counter() - started)


def there_and_back(length: int, count: int) -> list[int]:
    """Frame numbers of a video of `length` frames shown forward, backward, forward ...: `count` of them."""
    period = max(1, 2 * length - 2)
    places = (i % period for i in range(count))
    return [place if place < length else period - place for place in places]


def _networks(model: Model, memory: str) -> Networks:
    nets = Networks(ModelChoice.of(model))  # not the shared ones: their rules stay
    if memory == UNBOUNDED:
        nets.rules = replace(nets.rules, budget=None, max_permanent=None)
    elif memory == OWN_RULE:
        nets.rules = replace(nets.rules, budget=None)
    else:
        nets.rules = replace(nets.rules, budget=MemoryBudget.parse(memory))
    return nets


def _reporter(progress: Report | None, label: str, total: int) -> Callable[[int], None]:
    return lambda done: progress(Progress(label, done, total)) if progress is not None else None


def _run(
    dataset: DavisDataset, name: str, nets: Networks, memory: str, frames: int, size: int, evaluator: type,
    report: Callable[[int], None],
) -> LongRow:  # fmt: skip
    images = list(read_at_size(dataset.frames(name)[0].parent, 10**6, size, crop=False))
    height, width = images[0].shape[:2]
    truth = [
        cv2.resize(dataset.labels(path).labels, (width, height), interpolation=cv2.INTER_NEAREST)
        for path in dataset.annotations(name)
    ]
    order = there_and_back(len(images), frames)
    follower = Follower(nets, lambda index: images[order[index]], (height, width), frames, {0: truth[0]})
    with tempfile.TemporaryDirectory(prefix="mivos-long-") as temporary:
        parts = {"all": (0, frames), "first": (0, len(images)), "last": (frames - len(images), frames)}
        for part in parts:
            for kind in ("truth", "masks"):
                (Path(temporary) / part / kind / name).mkdir(parents=True)
        started, spent = time.perf_counter(), 0.0
        for item in follower.run():
            spent += time.perf_counter() - started
            for part, (first, last) in parts.items():
                if first <= item.index < last:
                    stem = f"{name}/{item.index:06d}.png"
                    write_mask(Path(temporary) / part / "truth" / stem, truth[order[item.index]])
                    write_mask(Path(temporary) / part / "masks" / stem, item.labels())
            report(item.index + 1)
            started = time.perf_counter()
        scores = {}
        for part in parts:
            folder = Path(temporary) / part
            _, j, f = score_folders(evaluator, folder / "truth", folder / "masks", name)
            scores[part] = (j + f) / 2
    return LongRow(
        memory, name, frames, len(images), scores["all"], scores["first"], scores["last"], spent,
        follower.bank.nbytes / 2**20,
    )  # fmt: skip
