"""The training recipes of the embedded networks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from pipelines.training.base import Job, Recipe, Setting, Sources
from pipelines.training.fusion_samples import FusionSampler
from pipelines.training.recipes.nano_jobs import FusionJob, InteractionJob, PropagationJob
from pipelines.training.samples import Clip, ClipRecipe, ClipSampler, find_stills, find_synthetic, find_videos
from pipelines.training.start import NOTHING, load_whole
from stores.errors import UsageError


@dataclass(frozen=True)
class NanoRecipe(Recipe):
    """What the embedded networks' recipes share: a cosine, averaged weights, gradients clipped."""

    part: str = ""
    name: str = "nano"
    network: str = ""
    model: str = "nano"
    batch: int = 4
    iterations: int = 4000
    lr: float = 6e-4
    crop: int = 224
    processes: int = 1
    cosine: float | None = 0.02
    trunk_lr: float | None = 1.5e-4
    weight_decay: float = 1e-4
    decoupled_decay: bool = True
    clip: float | None = 5.0
    average: float | None = 0.998
    keep_every: int | None = None
    save_every: float = 120.0

    def start(self, network: nn.Module, sources: tuple[str, ...]) -> None:
        """A weight file, or "nano" for the shipped weights; without any the job's own ImageNet weights."""
        if NOTHING in sources:
            raise UsageError("nano recipes begin with ImageNet weights", hint="leave --start-from none out")
        if sources:
            load_whole(network, self, sources)


@dataclass(frozen=True)
class NanoPropagationRecipe(NanoRecipe):
    """Embedded propagation network on clips of three frames, two objects at the most.

    Command: ``mivos train propagation --data ROOT --out DIR``. Frame 0 comes with its true masks, frames 1 and 2
    are segmented in order, frame 2 with memory of the network's own frame 1 (Cheng et al., NeurIPS 2021, section 4).
    Scores and cost of what ships: the model card beside the weights.
    """

    part: str = "propagation"
    network: str = "nano-propagation"

    def job(self, sources: Sources, setting: Setting) -> Job:
        return PropagationJob(_clips(sources, ClipRecipe(size=self.crop), setting.seed))


@dataclass(frozen=True)
class NanoInteractionRecipe(NanoRecipe):
    """Embedded interaction-to-mask network: strokes (long axis, curve, contour, click) on stills and video frames.

    Command: ``mivos train s2m --data ROOT --out DIR``. Scores and cost: the model card beside the weights.
    """

    part: str = "s2m"
    network: str = "nano-s2m"
    batch: int = 8
    iterations: int = 3000
    trunk_lr: float | None = 2.5e-4

    def job(self, sources: Sources, setting: Setting) -> Job:
        clips = ClipRecipe(
            size=self.crop, frames=1, still_share=0.55, paste_share=0.3, min_scale=0.4, max_scale=0.9
        )  # fmt: skip
        return InteractionJob(_clips(sources, clips, setting.seed))


@dataclass(frozen=True)
class NanoFusionRecipe(NanoRecipe):
    """Embedded fusion network on pairs of propagated maps; the propagation network stays as it is.

    Command: ``mivos train fusion --data ROOT --out DIR`` where ``ROOT/fusion`` is a run of `generate_fusion`.
    Scores and cost: the model card beside the weights.
    """

    part: str = "fusion"
    network: str = "nano-fusion"
    batch: int = 6
    iterations: int = 1500
    lr: float = 1e-3
    crop: int = 256
    size: int = 320  # shorter side to which frames are brought before the crop
    difference: bool = True

    def job(self, sources: Sources, setting: Setting) -> Job:
        clips = [*_data(sources), *_rendered(sources)]
        assert sources.data is not None
        runs = sources.fusion or (sources.data / "fusion",)
        sampler = FusionSampler(clips, runs, self.size, self.crop, setting.seed)
        return FusionJob(sampler, sources.propagation, difference=self.difference)


@dataclass(frozen=True)
class PlainNanoFusionRecipe(NanoFusionRecipe):
    """The same with zeros for the difference-aware maps: what they are worth (MiVOS, table 4).

    Command: ``mivos train fusion --recipe nano-no-difference --data ROOT --out DIR``.
    """

    name: str = "nano-no-difference"
    difference: bool = False


def _data(sources: Sources) -> list[Clip]:
    if sources.data is None:
        raise UsageError("this recipe needs --data", hint="give a root in DAVIS layout")
    return find_videos(sources.data)


def _rendered(sources: Sources) -> list[Clip]:
    return find_synthetic(*sources.synthetic)


def _clips(sources: Sources, recipe: ClipRecipe, seed: int) -> ClipSampler:
    videos = _data(sources)
    assert sources.data is not None
    return ClipSampler(videos, find_stills(sources.data), recipe, seed, _rendered(sources))
