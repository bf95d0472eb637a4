"""What every recipe has: literal facts in a frozen dataclass, and the job it starts (network, samples, loss)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines.training.losses import falling_fraction
from stores.errors import UsageError

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
Batch = tuple[Tensor, ...]
Samples = Callable[[int], Batch]  # sample number -> its tensors, whatever process asks


@dataclass(frozen=True)
class Sources:
    """What a run learns from.

    Attributes:
        data: root in DAVIS layout, with optional stills in ``static``; None for recipes that need none.
        synthetic: roots in BL30K layout.
        fusion: folders written by `generate_fusion` over `data` or `synthetic`; ``<data>/fusion`` when empty.
        youtube: root of YouTube-VOS. static: root of the still pairs, ``<data>/static`` when None.
        lvis: root of LVIS.
        propagation: weight file of the propagation network that fusion is trained with; the model's own when None.
    """

    data: Path | None
    synthetic: tuple[Path, ...] = ()
    fusion: tuple[Path, ...] = ()
    youtube: Path | None = None
    static: Path | None = None
    lvis: Path | None = None
    propagation: Path | None = None


@dataclass(frozen=True)
class Setting:
    """One run of a recipe: the seed, samples per step over all processes, and steps in all."""

    seed: int
    batch: int
    iterations: int


@dataclass(frozen=True)
class Moment:
    """Where a run is: step number from 0, steps in all, and the share that is done (in time, where that ends it)."""

    iteration: int
    total: int
    done: float


@dataclass(frozen=True)
class Outcome:
    """What a step gives: the loss, numbers to log, and detached [B, ...] maps for the pictures."""

    loss: Tensor
    scores: dict[str, Tensor]
    shown: dict[str, Tensor] = field(default_factory=dict)


class Job(ABC):
    """A recipe at work. `samples` goes to loader processes, so it holds no network.

    Attributes:
        network: what is trained; helper: what is only used, None if nothing is.
    """

    network: nn.Module
    samples: Samples
    helper: nn.Module | None = None

    @abstractmethod
    def loss(self, batch: Batch, moment: Moment) -> Outcome: ...

    def panel(self, batch: Batch, shown: dict[str, Tensor]) -> list[list[Tensor]]:
        """Rows of pictures of the first sample for TensorBoard: RGB uint8 [s, s, 3] or planes float [s, s]."""
        return []


@dataclass(frozen=True)
class Recipe(ABC):
    """Everything that defines a training run but its data.

    Attributes:
        part: "s2m", "propagation" or "fusion"; name: of the recipe; network: as `recognise` names what is trained;
        model: the model (`mivos --model`) that it belongs to.
        batch: samples per step and process; processes: how many the authors used; crop: side of the square, pixels;
        iterations: of the whole run; milestones: where the learning rate falls to a tenth, empty for never;
        warm: iterations where the bootstrapped loss begins and ends to leave out easy pixels; kept: what it keeps;
        cosine: the rate falls along a cosine after this share of warm-up, instead of by milestones;
        trunk_lr: of parameters that begin with "trunk.", None: the same; clip: of the gradient's norm;
        average: decay of the averaged weights, which are then what is written;
        batch_norm: "frozen" (statistics stay, scale and shift learn) or "train" (statistics of all processes);
        amp: mixed precision where nobody says otherwise;
        log_every, panel_every, keep_every: iterations between scalars, pictures and numbered weight files;
        save_every: seconds between checkpoints.
    """

    part: str
    name: str
    network: str
    model: str
    batch: int
    iterations: int
    lr: float
    crop: int
    processes: int = 2
    milestones: tuple[int, ...] = ()
    warm: tuple[int, int] = (20_000, 70_000)
    kept: float = 0.15
    cosine: float | None = None
    trunk_lr: float | None = None
    weight_decay: float = 1e-7
    decoupled_decay: bool = False
    clip: float | None = None
    average: float | None = None
    batch_norm: str = "frozen"
    amp: bool = False
    log_every: int = 100
    panel_every: int = 800
    keep_every: int | None = 50_000
    save_every: float = 600.0

    @abstractmethod
    def job(self, sources: Sources, setting: Setting) -> Job:
        """Opens the data and builds the network, initialised as it is without `start`.

        Raises:
            DatasetError: the data cannot be used. UsageError: some is not given. ModelError: a network that is needed.
        """

    @abstractmethod
    def start(self, network: nn.Module, sources: tuple[str, ...]) -> None:
        """Loads what a run begins with; raises ModelError or UsageError.

        Args:
            sources: weight files and the words of `--start-from`; empty for the recipe's own beginning.
        """

    @property
    def title(self) -> str:
        """Name of the weight file: that of the part for nano, else part and recipe."""
        return self.part + f"-{self.name}".removeprefix("-nano")

    @property
    def published(self) -> bool:
        """Whether it trains one of the authors' networks."""
        return self.model != "nano"

    def stretch(self, total: int) -> float:
        """Factor on all iteration numbers: a run shorter than the recipe goes through the same phases."""
        return min(1.0, total / self.iterations)

    def rate(self, moment: Moment) -> float:
        """Factor on the learning rates."""
        if self.cosine is not None:
            return min(1.0, moment.done / self.cosine) * 0.5 * (1 + math.cos(math.pi * min(moment.done, 1.0)))
        passed = [m for m in self.milestones if moment.iteration >= m * self.stretch(moment.total)]
        return 0.1 ** len(passed)

    def static_root(self, sources: Sources) -> Path:
        """Where the still pairs lie; UsageError if neither --static nor --data is given."""
        root = sources.static or (sources.data / "static" if sources.data is not None else None)
        if root is None:
            raise UsageError(f"recipe {self.name!r} needs --static", hint="the folder of FSS, DUTS, ECSSD and others")
        return root

    def kept_now(self, moment: Moment) -> float:
        """Share of pixels in the bootstrapped cross entropy (training.md, section 2)."""
        start, end = (w * self.stretch(moment.total) for w in self.warm)
        return falling_fraction(moment.iteration, start, end, self.kept)


def normalise(images: Tensor) -> Tensor:
    """uint8 [..., s, s, 3] RGB -> float32 [..., 3, s, s], ImageNet-normalised, channels last in memory."""
    x = images.to(torch.float32).div_(255)
    x = (x - torch.tensor(IMAGE_MEAN, device=x.device)) / torch.tensor(IMAGE_STD, device=x.device)
    return x.movedim(-1, -3)


def last(x: Tensor) -> Tensor:
    """The same in channels-last memory."""
    return x.contiguous(memory_format=torch.channels_last)
