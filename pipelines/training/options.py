"""What a training run is asked to do, and what it returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.training.base import Recipe, Sources

SEED = 14159265


@dataclass(frozen=True)
class TrainOptions:
    """Everything besides recipe, data and output folder.

    Attributes:
        iterations: length of the run; a recipe's phases shrink with it, they do not grow. None: the recipe's own.
        minutes: training time over restarts after which a nano run's learning rate has fallen to zero and it ends.
        batch: samples per step and process. workers: loader processes. threads: of torch, its choice when None.
        device: "auto", "cpu", "cuda" or "mps". amp: mixed precision; the recipe's word when None.
        seed: of initial weights, sampling and dropout.
        synthetic, fusion, youtube, static, lvis, propagation: see `Sources`.
        start_from: weight files, or "imagenet", "none", "nano"; the recipe's beginning when empty.
        validate: DAVIS-layout root that is scored every `validate_every` iterations (None: at the end only) on at most
            `validate_sequences` sequences and `validate_frames` frames of each.
        log: folder for TensorBoard, ``<out>/tensorboard`` when None. save_every: seconds between checkpoints.
    """

    iterations: int | None = None
    minutes: float | None = None
    batch: int | None = None
    workers: int = 1
    threads: int | None = None
    device: str = "auto"
    amp: bool | None = None
    seed: int = SEED
    synthetic: tuple[Path, ...] = ()
    fusion: tuple[Path, ...] = ()
    youtube: Path | None = None
    static: Path | None = None
    lvis: Path | None = None
    propagation: Path | None = None
    start_from: str | Path | tuple[str | Path, ...] | None = None
    validate: Path | None = None
    validate_every: int | None = None
    validate_sequences: int | None = None
    validate_frames: int | None = None
    log: Path | None = None
    save_every: float | None = None

    def sources(self, data: Path | None) -> Sources:
        """The data of the run."""
        return Sources(data, self.synthetic, self.fusion, self.youtube, self.static, self.lvis, self.propagation)

    @property
    def beginnings(self) -> tuple[str, ...]:
        """`start_from` as words."""
        given = self.start_from
        if given is None:
            return ()
        return tuple(map(str, given)) if isinstance(given, tuple) else (str(given),)

    def facts(self, recipe: Recipe, total: int, batch: int, amp: bool) -> dict[str, Any]:
        """What must not change between a run and its continuation; numbers and words only."""
        timed = self.minutes is not None  # then the end is a matter of time, and may be moved
        return {
            "iterations": None if timed else total,
            "batch": batch,  # over all processes, whose number may change
            "crop": recipe.crop,
            "lr": recipe.lr,
            "seed": self.seed,
            "amp": amp,
        }


@dataclass(frozen=True)
class TrainReport:
    """Where a run stands when `train` returns.

    Attributes:
        weights: the file to use: averaged, fp16 safetensors for nano; a bare state dict (.pth) in the authors' keys
            for theirs. scores: means over the last steps, and of the validation if there was one.
    """

    recipe: str
    iterations: int
    seconds: float
    weights: str
    scores: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
