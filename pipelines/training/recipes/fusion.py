"""The published recipes of difference-aware fusion (MiVOS, section 3.3; training.md, section 5).

Only the small fusion network learns. A propagation network of the same model makes its attention maps; its weights
are --propagation-weights, else those installed for the model (`mivos models`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.networks.aggregate import aggregate_channels
from pipelines.networks.attention_reader import AttentionReadSTCN, AttentionReadSTM, load_propagation
from pipelines.networks.fusion import FusionNet
from pipelines.networks.registry import weight_file
from pipelines.training.base import Batch, Job, Moment, Outcome, Recipe, Setting, Sources, normalise
from pipelines.training.fusion_pairs import PER_VIDEO, PairSamples, fusion_videos
from pipelines.training.losses import bootstrapped_cross_entropy, pooled_iou, without_absent
from pipelines.training.order import Epochs
from pipelines.training.samples import Clip, find_synthetic, find_videos
from pipelines.training.start import load_whole
from stores.checkpoints import read_checkpoint
from stores.errors import UsageError

READERS: dict[str, type[AttentionReadSTM] | type[AttentionReadSTCN]] = {
    "mivos": AttentionReadSTM,
    "mivos-stcn": AttentionReadSTCN,
}


@dataclass(frozen=True)
class FusionRecipe(Recipe):
    """What both stages share."""

    part: str = "fusion"
    name: str = ""
    network: str = "fusion"
    model: str = "mivos"
    batch: int = 12
    iterations: int = 30_000
    lr: float = 1e-4
    crop: int = 384
    milestones: tuple[int, ...] = (20_000,)
    warm: tuple[int, int] = (6_000, 15_000)
    panel_every: int = 500
    keep_every: int | None = 5_000
    rendered: bool = True

    def start(self, network: nn.Module, sources: tuple[str, ...]) -> None:
        """The stage before; random without one."""
        if sources:
            load_whole(network, self, sources)

    def job(self, sources: Sources, setting: Setting) -> Job:
        runs = sources.fusion or ((sources.data / "fusion",) if sources.data is not None else ())
        videos = fusion_videos(self._clips(sources), runs)
        epochs = Epochs(len(videos) * PER_VIDEO, setting.batch, setting.seed)
        reader = READERS[self.model]()
        path = weight_file(self.model, "propagation", sources.propagation)
        load_propagation(reader, read_checkpoint(path))
        return FusionJob(self, PairSamples(videos, epochs, self.crop), reader)

    def _clips(self, sources: Sources) -> list[Clip]:
        if self.rendered:
            if not sources.synthetic:
                raise UsageError(f"recipe {self.name!r} needs --synthetic", hint="the root in BL30K layout")
            return find_synthetic(*sources.synthetic)
        if sources.data is None:
            raise UsageError(f"recipe {self.name!r} needs --data", hint="the root of DAVIS 2017")
        return find_videos(sources.data)


@dataclass(frozen=True)
class FusionRendered(FusionRecipe):
    """Fusion for MiVOS, stage 0, on propagated BL30K.

    Command: ``mivos train fusion --recipe mivos-bl --synthetic BL30K --fusion-data RUN --out DIR`` in 2 processes.
    Expected: no score published for this stage alone. Cost: 30 000 steps of 2 x 12 pairs of 384.
    """

    name: str = "mivos-bl"


@dataclass(frozen=True)
class FusionDavis(FusionRecipe):
    """Fusion for MiVOS, stage 1, on propagated DAVIS 2017 train, after `FusionRendered`.

    Command: ``mivos train fusion --recipe mivos-davis --data DAVIS --fusion-data RUN --start-from STAGE0.pth
    --out DIR``. Expected on the DAVIS interactive val track, with the whole of MiVOS: AUC 87.9, J&F 88.5 at 60 s
    (published, not run here). Cost: 10 000 steps of 2 x 12 pairs of 384.
    """

    name: str = "mivos-davis"
    iterations: int = 10_000
    milestones: tuple[int, ...] = (7_500,)
    warm: tuple[int, int] = (2_000, 5_000)
    rendered: bool = False


@dataclass(frozen=True)
class FusionStcnRendered(FusionRendered):
    """Fusion for MiVOS-STCN, stage 0: attention by STCN's keys, in mixed precision.

    Command: ``mivos train fusion --recipe mivos-stcn-bl --synthetic BL30K --fusion-data RUN --out DIR``. The authors'
    generator runs with STM only, so their maps were STM's; those of any model do. Cost: as `FusionRendered`.
    Expected: no score published for this stage alone.
    """

    name: str = "mivos-stcn-bl"
    model: str = "mivos-stcn"
    amp: bool = True


@dataclass(frozen=True)
class FusionStcnDavis(FusionDavis):
    """Fusion for MiVOS-STCN, stage 1, after `FusionStcnRendered`, in mixed precision.

    Command: ``mivos train fusion --recipe mivos-stcn-davis --data DAVIS --fusion-data RUN --start-from STAGE0.pth
    --out DIR``. Expected on the DAVIS interactive val track, with the whole of MiVOS-STCN: AUC 88.4, J&F 88.8 at 60 s
    (published, not run here). Cost: as `FusionDavis`.
    """

    name: str = "mivos-stcn-davis"
    model: str = "mivos-stcn"
    amp: bool = True


class FusionJob(Job):
    """Two maps and what the second interaction corrected to one, for up to two objects."""

    def __init__(
        self, recipe: FusionRecipe, samples: PairSamples, reader: AttentionReadSTM | AttentionReadSTCN
    ) -> None:
        self.recipe, self.samples = recipe, samples
        self.network, self.helper = FusionNet(), reader

    def loss(self, batch: Batch, moment: Moment) -> Outcome:
        target, reference, maps, labels, time, present = batch
        kept, count = self.recipe.kept_now(moment), len(target)
        image = normalise(target)
        true = [(labels[:, 1:] == k).float() for k in (1, 2)]  # at reference 2
        old = [maps[:, k, 2:3] for k in (0, 1)]
        assert self.helper is not None
        attention = self.helper(normalise(reference), old[0], true[0], old[1], true[1], image)
        both = [torch.cat([maps[:, 0, c : c + 1], maps[:, 1, c : c + 1]]) for c in (0, 1)]  # (2B, 1, s, s)
        logits = self.network(image.repeat(2, 1, 1, 1), *both, torch.cat(attention), time.repeat(2, 1)).float()
        probs = torch.sigmoid(logits).unflatten(0, (2, count))[:, :, 0].transpose(0, 1)  # (B, 2, s, s)
        joint, joined = aggregate_channels(probs * present[:, :, None, None])
        loss = bootstrapped_cross_entropy(without_absent(joint, present), labels[:, 0].long(), kept)
        shown, truth = joined[:, 1:].detach(), labels[:, 0]
        scores = {
            "p": loss.new_tensor(kept),
            "iou": pooled_iou(shown[:, 0] > 0.5, truth == 1),
            "sec_iou": pooled_iou(shown[:, 1] > 0.5, truth == 2, present[:, 1]),
            "older": pooled_iou(maps[:, 0, 0] > 0.5, truth == 1),
            "newer": pooled_iou(maps[:, 0, 1] > 0.5, truth == 1),
        }
        return Outcome(loss, scores, {"masks": shown, "attention": torch.stack(attention, dim=1)})

    def panel(self, batch: Batch, shown: dict[str, Tensor]) -> list[list[Tensor]]:
        target, _, maps, labels, _, _ = batch
        truth = [(labels[0, 0] == k).float() for k in (1, 2)]
        inputs = [maps[0, k, c] for k in (0, 1) for c in (0, 1)]
        return [[target[0], *inputs], [*shown["attention"][0].flatten(0, 1), *shown["masks"][0], *truth]]
