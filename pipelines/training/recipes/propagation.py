"""The published recipes of the propagation networks STM and STCN (training.md, sections 1 and 3).

Each takes two processes: ``torchrun --nproc_per_node=2 -m mivos_cli train propagation --recipe NAME ...``. Scores are
the authors' for their own runs of the chain; none was run here. They say that two GPUs with 11 GB suffice.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from torch import nn

from pipelines.training.base import Job, Recipe, Samples, Setting, Sources
from pipelines.training.clip_samples import StillSamples, VideoSamples
from pipelines.training.order import Epochs
from pipelines.training.recipes.propagation_job import ClipJob
from pipelines.training.sets import VideoItem, davis_items, rendered_items, static_items, youtube_items
from pipelines.training.start import load_propagation_start
from stores.errors import UsageError

log = logging.getLogger("mivos")


@dataclass(frozen=True)
class PropagationRecipe(Recipe):
    """What all stages share: Adam at 1e-5 without decay of weights to speak of, steps of 0.1, hard pixels.

    Attributes:
        min_scale: smallest share of a video frame's area that the random crop takes;
        back_at: share of the epochs from which on jumps between frames are short again.
    """

    part: str = "propagation"
    name: str = ""
    network: str = "propagation"
    model: str = "mivos"
    batch: int = 4
    iterations: int = 150_000
    lr: float = 1e-5
    crop: int = 384
    milestones: tuple[int, ...] = (125_000,)
    min_scale: float = 0.36
    back_at: float = 0.9

    def start(self, network: nn.Module, sources: tuple[str, ...]) -> None:
        """The stage before, or ImageNet networks for the encoders: files, "imagenet" (the default), or "none"."""
        load_propagation_start(network, self.network, sources)

    def job(self, sources: Sources, setting: Setting) -> Job:
        return ClipJob(self, self._videos(self._items(sources), setting), single=False)

    def _items(self, sources: Sources) -> list[VideoItem]:
        items = davis_items(sources.data) if sources.data is not None else []
        if sources.youtube is not None:
            items += youtube_items(sources.youtube)
        if not items:
            raise UsageError(f"recipe {self.name!r} needs --data and --youtube", hint="one of them will do, less well")
        if sources.data is None or sources.youtube is None:
            log.warning(
                "recipe %s: published with DAVIS (--data) and YouTube-VOS (--youtube), one is missing", self.name
            )
        return items

    def _videos(self, items: list[VideoItem], setting: Setting) -> Samples:
        epochs = Epochs(len(items), setting.batch, setting.seed)
        return VideoSamples(items, epochs, self.crop, setting.iterations, self.min_scale, self.back_at)


@dataclass(frozen=True)
class StaticRecipe(PropagationRecipe):
    """Stage 0 of either network: stills in motion, one object."""

    iterations: int = 300_000

    def job(self, sources: Sources, setting: Setting) -> Job:
        items = static_items(self.static_root(sources))
        epochs = Epochs(len(items), setting.batch, setting.seed)
        return ClipJob(self, StillSamples(items, epochs, self.crop), single=True)


@dataclass(frozen=True)
class RenderedRecipe(PropagationRecipe):
    """Stage 1 of either network: BL30K."""

    iterations: int = 500_000
    min_scale: float = 0.25
    back_at: float = 0.8

    def _items(self, sources: Sources) -> list[VideoItem]:
        if not sources.synthetic:
            raise UsageError(f"recipe {self.name!r} needs --synthetic", hint="a root in BL30K layout")
        return rendered_items(sources.synthetic)


@dataclass(frozen=True)
class StmStatic(StaticRecipe):
    """STM, stage 0, from ImageNet networks, on FSS-1000, DUTS, ECSSD, BIG and HRSOD.

    Command: ``mivos train propagation --recipe stm-static --static ROOT --out DIR`` in 2 processes.
    Expected: no score published for this stage alone. Cost: 300 000 steps of 2 x 7 stills in three frames of 384.
    """

    name: str = "stm-static"
    batch: int = 7
    milestones: tuple[int, ...] = (250_000,)


@dataclass(frozen=True)
class StmRendered(RenderedRecipe):
    """STM, stage 1, on BL30K, after `StmStatic`.

    Command: ``mivos train propagation --recipe stm-bl30k --synthetic ROOT --start-from STAGE0.pth --out DIR``.
    Expected: no score published for this stage alone. Cost: 500 000 steps of 2 x 4 clips of three frames of 384.
    """

    name: str = "stm-bl30k"
    milestones: tuple[int, ...] = (450_000,)


@dataclass(frozen=True)
class StmMain(PropagationRecipe):
    """STM, stage 2, on DAVIS and YouTube-VOS, after `StmRendered` ("s012") or `StmStatic` ("s02").

    Command: ``mivos train propagation --recipe stm-main --data DAVIS --youtube ROOT --start-from STAGE1.pth
    --out DIR``; for "s02" add ``--iterations 300000`` and start from stage 0 (the rate still falls at 125 000).
    Expected J&F on DAVIS 2017 val with top-k 50 (published, not run here): 84.5, without BL30K 83.1; on DAVIS 2016 val
    91.0. Cost: 150 000 steps of 2 x 4 clips.
    """

    name: str = "stm-main"


@dataclass(frozen=True)
class StcnStatic(StaticRecipe):
    """STCN, stage 0, from ImageNet networks, on FSS-1000, DUTS, ECSSD, BIG and HRSOD, in mixed precision.

    Command: ``mivos train propagation --recipe stcn-static --static ROOT --out DIR`` in 2 processes.
    Expected: no score published for this stage alone. Cost: 300 000 steps of 2 x 8 stills in three frames of 384.
    """

    name: str = "stcn-static"
    network: str = "propagation-stcn"
    model: str = "mivos-stcn"
    batch: int = 8
    milestones: tuple[int, ...] = (150_000,)
    amp: bool = True


@dataclass(frozen=True)
class StcnRendered(RenderedRecipe):
    """STCN, stage 1, on BL30K, after `StcnStatic`, in mixed precision.

    Command: ``mivos train propagation --recipe stcn-bl30k --synthetic ROOT --start-from STAGE0.pth --out DIR``.
    Expected: no score published for this stage alone. Cost: 500 000 steps of 2 x 4 clips of three frames of 384.
    """

    name: str = "stcn-bl30k"
    network: str = "propagation-stcn"
    model: str = "mivos-stcn"
    milestones: tuple[int, ...] = (400_000,)
    amp: bool = True


@dataclass(frozen=True)
class StcnMain(PropagationRecipe):
    """STCN, stage 2, on DAVIS and YouTube-VOS, after `StcnRendered` ("s012"), in mixed precision.

    Command: ``mivos train propagation --recipe stcn-main --data DAVIS --youtube ROOT --start-from STAGE1.pth
    --out DIR``. Expected J&F (published, not run here): 85.3 on DAVIS 2017 val, 91.7 on DAVIS 2016 val, with top-k 20.
    Cost: 300 000 steps of 2 x 4 clips of three frames of 384.
    """

    name: str = "stcn-main"
    network: str = "propagation-stcn"
    model: str = "mivos-stcn"
    iterations: int = 300_000
    milestones: tuple[int, ...] = (250_000,)
    amp: bool = True


@dataclass(frozen=True)
class StcnMainShort(StcnMain):
    """STCN, stage 3: the same straight after `StcnStatic` ("s03"), without BL30K.

    Command: ``mivos train propagation --recipe stcn-main-s03 --data DAVIS --youtube ROOT --start-from STAGE0.pth
    --out DIR``. Expected: below `StcnMain`, the difference is not in our notes. Cost: 150 000 steps of 2 x 4 clips.
    """

    name: str = "stcn-main-s03"
    iterations: int = 150_000
    milestones: tuple[int, ...] = (125_000,)
