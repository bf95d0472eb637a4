"""The embedded networks in training: how a batch of samples becomes a loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.networks.aggregate import aggregate_channels
from pipelines.networks.nano import LiteTrunk, NanoFusion, NanoPropagation
from pipelines.networks.nano_s2m import NanoS2M
from pipelines.networks.reading import difference_attention
from pipelines.networks.registry import MODELS, load_network
from pipelines.training.base import IMAGE_STD, Batch, Job, Moment, Outcome, last, normalise
from pipelines.training.fusion_samples import FusionSampler
from pipelines.training.imagenet import load_lite0_imagenet
from pipelines.training.losses import bootstrapped_cross_entropy, jaccard, kept_fraction, soft_jaccard_loss
from pipelines.training.samples import ClipSampler
from pipelines.training.strokes import interaction_sample


def start_from_imagenet(trunk: LiteTrunk) -> None:
    """Loads ImageNet weights, rescaled from inputs in -1..1 to ImageNet-normalised ones, and freezes what is early.

    Extra input channels start at zero. Stem and first two stages (to stride 4) stay as they are: their gradients
    would be half of the cost of a step.
    """
    extra = trunk.in_chans - 3
    state = load_lite0_imagenet()
    stem = state["conv_stem.weight"] * (torch.tensor(IMAGE_STD) / 0.5)[None, :, None, None]
    state["conv_stem.weight"] = torch.cat([stem, torch.zeros(stem.shape[0], extra, *stem.shape[2:])], dim=1)
    trunk.load_unfolded(state)
    if not extra:
        for name, parameter in trunk.net.named_parameters():
            if name.startswith(("conv_stem", "blocks.0.", "blocks.1.")):
                parameter.requires_grad_(False)


@dataclass(frozen=True)
class ClipSamples:
    """Samples of `PropagationJob`: images uint8 [F, s, s, 3], objects [F, 2, s, s], present [2]."""

    sampler: ClipSampler

    def __call__(self, index: int) -> Batch:
        return tuple(torch.from_numpy(array) for array in self.sampler.sample(index))


class PropagationJob(Job):
    """Three frames with two objects through memory."""

    def __init__(self, sampler: ClipSampler) -> None:
        self.samples = ClipSamples(sampler)
        self.network = NanoPropagation()
        start_from_imagenet(self.network.trunk)

    def loss(self, batch: Batch, moment: Moment) -> Outcome:
        images, objects, present = batch  # (B, F, s, s, 3), (B, F, 2, s, s), (B, 2)
        network, kept = self.network, kept_fraction(moment.done)
        assert isinstance(network, NanoPropagation)
        count, frames = images.shape[:2]
        x = last(normalise(images).flatten(0, 1))
        query = network.encode_key(x)
        maps = [f.unflatten(0, (count, frames)) for f in (query.key, *query.features)]
        at = [type(query)(maps[0][:, t], tuple(f[:, t] for f in maps[1:])) for t in range(frames)]
        image = x.unflatten(0, (count, frames))
        owners = torch.arange(count, device=x.device).repeat_interleave(2)
        masks = objects[:, 0]  # (B, 2, s, s)
        keys, values, total, shown, scores = [], [], x.new_zeros(()), [], {}
        for t in range(1, frames):
            flat, others = masks.flatten(0, 1)[:, None], masks.flip(1).flatten(0, 1)[:, None]
            keys.append(at[t - 1].key.flatten(2))  # (B, Ck, HW)
            values.append(network.encode_value(image[:, t - 1], at[t - 1], flat, others, owners).flatten(2))
            readout = dense_read(torch.cat(keys, 2), torch.cat(values, 2), at[t].key, network.key_scale_dim)
            logits = network.decode(readout, at[t], flat.detach(), owners)
            probs = torch.sigmoid(logits)[:, 0].unflatten(0, (count, 2)) * present[:, :, None, None]
            joint, joined = aggregate_channels(probs)
            truth = objects[:, t] * present[:, :, None, None]
            target = torch.where(truth[:, 0] > 0, 1, torch.where(truth[:, 1] > 0, 2, 0))
            total = total + bootstrapped_cross_entropy(joint, target, kept)
            visible = present * (truth.sum((2, 3)) > 0)
            total = total + 0.5 * soft_jaccard_loss(joined[:, 1:], truth, visible)
            masks = joined[:, 1:]
            shown.append(masks.detach())
            hits = (jaccard(shown[-1] > 0.5, truth > 0.5) * present).sum() / present.sum()
            scores[f"iou{t}"] = hits
        return Outcome(total / (frames - 1), scores, {"masks": torch.stack(shown, dim=1)})

    def panel(self, batch: Batch, shown: dict[str, Tensor]) -> list[list[Tensor]]:
        images, objects, _ = batch
        masks = torch.cat([objects[:, :1], shown["masks"].to(objects.device)], dim=1)
        frames = range(images.shape[1])
        return [[images[0, t], *masks[0, t], *objects[0, t]] for t in frames]


def dense_read(keys: Tensor, values: Tensor, query: Tensor, scale_dim: int) -> Tensor:
    """Training-time memory read of shared keys: softmax over all memory positions, no top-k.

    Args:
        keys: [B, Ck, N]; values: [B * K, Cv, N]; query: [B, Ck, H, W].

    Returns:
        [B * K, Cv, H, W].
    """
    count, objects = query.shape[0], values.shape[0] // query.shape[0]
    q = query.flatten(2)
    affinity = (2 * keys.transpose(1, 2) @ q - keys.square().sum(1)[:, :, None]) / scale_dim**0.5  # (B, N, HW)
    weights = torch.softmax(affinity, dim=1)
    read = values.unflatten(0, (count, objects)).flatten(1, 2) @ weights  # (B, K * Cv, HW)
    return read.reshape(values.shape[0], values.shape[1], *query.shape[-2:])


@dataclass(frozen=True)
class StrokeSamples:
    """Samples of `InteractionJob`: image uint8 [s, s, 3], planes uint8 [3, s, s], target [1, s, s]."""

    sampler: ClipSampler

    def __call__(self, index: int) -> Batch:
        images, objects, _ = self.sampler.sample(index)
        rng = np.random.default_rng((self.sampler.seed, index, 1))
        planes = interaction_sample(rng, objects[0, 0].astype(np.uint8), objects[0, 1].astype(np.uint8))
        return torch.from_numpy(images[0]), torch.from_numpy(np.stack(planes)), torch.from_numpy(objects[0, :1])


class InteractionJob(Job):
    """Strokes and a previous mask to the object's mask."""

    def __init__(self, sampler: ClipSampler) -> None:
        self.samples = StrokeSamples(sampler)
        self.network = NanoS2M()
        start_from_imagenet(self.network.trunk)

    def loss(self, batch: Batch, moment: Moment) -> Outcome:
        images, planes, target = batch
        logits = self.network(last(torch.cat([normalise(images), planes.float()], dim=1)))
        joint, _ = aggregate_channels(torch.sigmoid(logits))
        loss = bootstrapped_cross_entropy(joint, target[:, 0].long(), kept_fraction(moment.done))
        loss = loss + 0.5 * soft_jaccard_loss(torch.sigmoid(logits), target, torch.ones_like(target[:, :, 0, 0]))
        shown = torch.sigmoid(logits.detach())
        return Outcome(loss, {"iou": jaccard(shown > 0.5, target > 0.5).mean()}, {"mask": shown})

    def panel(self, batch: Batch, shown: dict[str, Tensor]) -> list[list[Tensor]]:
        return [[batch[0][0], shown["mask"][0, 0], *batch[1][0], batch[2][0, 0]]]


@dataclass(frozen=True)
class PairSamples:
    """Samples of `FusionJob`, the fields of `FusionSample` in order."""

    sampler: FusionSampler

    def __call__(self, index: int) -> Batch:
        item = self.sampler.sample(index)
        return tuple(torch.from_numpy(a) for a in (item.target, item.reference, item.maps, item.truth, item.time))


class FusionJob(Job):
    """Two propagated maps and what the second interaction corrected to one map."""

    def __init__(self, sampler: FusionSampler, propagation: Path | None, *, difference: bool) -> None:
        self.samples = PairSamples(sampler)
        self.network = NanoFusion()
        self.helper = load_network("nano", "propagation", propagation)
        self.difference = difference

    def loss(self, batch: Batch, moment: Moment) -> Outcome:
        target, reference, maps, truth, time = batch
        count = len(target)
        images = last(normalise(torch.cat([target, reference])))
        change = truth[:, 1:] - maps[:, 2:]  # what the second interaction corrected, at its own frame
        with torch.no_grad():
            keys = self.helper.encode_key(images).key  # type: ignore[union-attr, operator]
            rules = MODELS["nano"].rules
            attention = torch.cat([
                difference_attention(
                    keys[count + b : count + b + 1], keys[b : b + 1],
                    change[b : b + 1].clamp(0, 1), (-change[b : b + 1]).clamp(0, 1), rules,
                )
                for b in range(count)
            ])  # fmt: skip
            attention = attention * float(self.difference)
        logits = self.network(images[:count], maps[:, :1], maps[:, 1:2], attention, time)
        probs = torch.sigmoid(logits)
        joint, _ = aggregate_channels(probs)
        loss = bootstrapped_cross_entropy(joint, truth[:, 0].long(), kept_fraction(moment.done))
        loss = loss + 0.5 * soft_jaccard_loss(probs, truth[:, :1], torch.ones_like(time[:, :1]))
        true, shown = truth[:, 0] > 0.5, probs.detach()[:, 0]
        scored = {"iou": shown > 0.5, "older": maps[:, 0] > 0.5, "newer": maps[:, 1] > 0.5}
        scores = {name: jaccard(mask, true).mean() for name, mask in scored.items()}
        return Outcome(loss, scores, {"mask": shown, "attention": attention})

    def panel(self, batch: Batch, shown: dict[str, Tensor]) -> list[list[Tensor]]:
        target, _, maps, truth, _ = batch
        return [[target[0], maps[0, 0], maps[0, 1], *shown["attention"][0], shown["mask"][0], truth[0, 0]]]
