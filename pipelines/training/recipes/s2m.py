"""The published recipe of the interaction network S2M (MiVOS, section 3.1)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.networks.aggregate import aggregate_channels
from pipelines.networks.s2m import S2M
from pipelines.training.base import Batch, Job, Moment, Outcome, Recipe, Setting, Sources, last, normalise
from pipelines.training.losses import bootstrapped_cross_entropy, pooled_iou
from pipelines.training.lvis import open_lvis
from pipelines.training.order import Epochs
from pipelines.training.sets import static_items
from pipelines.training.start import load_s2m_start
from pipelines.training.stroke_samples import ScribbleSamples

log = logging.getLogger("mivos")
STATIC_TIMES = 2


@dataclass(frozen=True)
class S2MRecipe(Recipe):
    """S2M on stills (twice) and LVIS, from a DeepLabV3+ of 21 VOC classes, BatchNorm statistics learnt.

    Command: ``torchrun --nproc_per_node=2 -m mivos_cli train s2m --recipe mivos --static ROOT --lvis ROOT
    --start-from VOC.pth --out DIR``. Expected: no score published for S2M alone; with the STM and fusion of the paper
    the DAVIS interactive val track gives AUC 87.9 and J&F 88.5 at 60 s (published, not run here).
    Cost: 80 000 steps of 2 x 16 images of 480.

    Attributes:
        clicks: share of strokes that are small disks; 0 as published.
    """

    part: str = "s2m"
    name: str = "mivos"
    network: str = "s2m"
    model: str = "mivos"
    batch: int = 16
    iterations: int = 80_000
    lr: float = 1e-4
    crop: int = 480
    warm: tuple[int, int] = (10_000, 30_000)
    batch_norm: str = "train"
    log_every: int = 50
    keep_every: int | None = 20_000
    clicks: float = 0.0

    def start(self, network: nn.Module, sources: tuple[str, ...]) -> None:
        """A VOC DeepLabV3+ (needed), an ImageNet ResNet-50, "imagenet" or "none"."""
        load_s2m_start(network, sources)

    def job(self, sources: Sources, setting: Setting) -> Job:
        stills = tuple(static_items(self.static_root(sources)) * STATIC_TIMES)
        lvis = None if sources.lvis is None else open_lvis(sources.lvis)
        if lvis is None:
            log.warning("recipe s2m/%s: published with LVIS (--lvis), which is missing", self.name)
        epochs = Epochs(len(stills) + (len(lvis.objects) if lvis else 0), setting.batch, setting.seed)
        return S2MJob(self, ScribbleSamples(stills, lvis, epochs, self.crop, self.clicks))


class S2MJob(Job):
    """Strokes and a previous mask to the object's mask, with the authors' network."""

    def __init__(self, recipe: S2MRecipe, samples: ScribbleSamples) -> None:
        self.recipe, self.samples, self.network = recipe, samples, S2M()

    def loss(self, batch: Batch, moment: Moment) -> Outcome:
        images, planes, truth = batch  # (B, s, s, 3), (B, 3, s, s), (B, s, s)
        kept = self.recipe.kept_now(moment)
        logits = self.network(last(torch.cat([normalise(images), planes.float()], dim=1))).float()
        joint, joined = aggregate_channels(torch.sigmoid(logits))
        loss = bootstrapped_cross_entropy(joint, truth.long(), kept, together=True)
        shown = joined[:, 1].detach()
        scores = {"p": loss.new_tensor(kept), "iou": pooled_iou(shown > 0.5, truth > 0)}
        return Outcome(loss, scores, {"mask": shown})

    def panel(self, batch: Batch, shown: dict[str, Tensor]) -> list[list[Tensor]]:
        images, planes, truth = batch
        rows = []
        for b in range(min(2, len(images))):
            painted = (planes[b, :1].expand(3, -1, -1) * 255).clone()
            painted[:, planes[b, 1] > 0] = painted.new_tensor([0, 255, 0])[:, None]
            painted[:, planes[b, 2] > 0] = painted.new_tensor([255, 0, 0])[:, None]
            rows.append([images[b], shown["mask"][b], painted.permute(1, 2, 0), truth[b].float()])
        return rows
