"""The training recipes of the embedded networks: what is drawn, how a step goes, what it costs.

A recipe owns its network and turns a batch of samples into a loss; `loop.train` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.networks.aggregate import aggregate_channels
from pipelines.networks.nano import LiteTrunk, NanoFusion, NanoPropagation
from pipelines.networks.nano_s2m import NanoS2M
from pipelines.networks.reading import difference_attention
from pipelines.networks.registry import MODELS, load_network
from pipelines.training.fusion_samples import FusionSampler
from pipelines.training.imagenet import load_lite0_imagenet
from pipelines.training.losses import bootstrapped_cross_entropy, jaccard, kept_fraction, soft_jaccard_loss
from pipelines.training.samples import ClipRecipe, ClipSampler, find_stills, find_videos
from pipelines.training.strokes import interaction_sample

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Schedule:
    """Optimisation of a recipe. Learning rates are the initial ones; they fall to zero along a cosine."""

    batch: int = 4
    iterations: int = 4000
    lr: float = 6e-4
    trunk_lr: float = 1.5e-4
    weight_decay: float = 1e-4
    warmup: float = 0.02
    clip: float = 5.0
    average: float = 0.998


class Recipe(Protocol):
    """What `loop.train` needs to know."""

    @property
    def name(self) -> str: ...

    @property
    def schedule(self) -> Schedule: ...

    @property
    def network(self) -> nn.Module: ...

    def sample(self, index: int) -> Batch: ...

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, float]]: ...


def normalise(images: Tensor) -> Tensor:
    """uint8 [..., s, s, 3] RGB -> float32 [..., 3, s, s], ImageNet-normalised, channels last in memory."""
    x = images.to(torch.float32).div_(255)
    x = (x - torch.tensor(IMAGE_MEAN, device=x.device)) / torch.tensor(IMAGE_STD, device=x.device)
    return x.movedim(-1, -3)


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


class PropagationRecipe:
    """Embedded propagation network on clips of three frames, two objects at the most.

    Command: ``mivos train propagation --data ROOT --out DIR``. Frame 0 comes with its true masks, frames 1 and 2
    are segmented in order, frame 2 with memory of the network's own frame 1 (Cheng et al., NeurIPS 2021, section 4).
    """

    name = "propagation"

    def __init__(self, data: Path, seed: int, schedule: Schedule | None = None) -> None:
        self.schedule = schedule or Schedule()
        self.sampler = ClipSampler(find_videos(data), find_stills(data), ClipRecipe(), seed)
        self.network = NanoPropagation()
        start_from_imagenet(self.network.trunk)

    def sample(self, index: int) -> Batch:
        images, objects, present = self.sampler.sample(index)
        return torch.from_numpy(images), torch.from_numpy(objects), torch.from_numpy(present)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, float]]:
        images, objects, present = batch  # (B, F, s, s, 3), (B, F, 2, s, s), (B, 2)
        count, frames = images.shape[:2]
        x = normalise(images).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        query = self.network.encode_key(x)
        maps = [f.unflatten(0, (count, frames)) for f in (query.key, *query.features)]
        at = [type(query)(maps[0][:, t], tuple(f[:, t] for f in maps[1:])) for t in range(frames)]
        image = x.unflatten(0, (count, frames))
        owners = torch.arange(count).repeat_interleave(2)
        masks = objects[:, 0]  # (B, 2, s, s)
        keys, values, total, hits = [], [], x.new_zeros(()), []
        for t in range(1, frames):
            flat, others = masks.flatten(0, 1)[:, None], masks.flip(1).flatten(0, 1)[:, None]
            keys.append(at[t - 1].key.flatten(2))  # (B, Ck, HW)
            values.append(self.network.encode_value(image[:, t - 1], at[t - 1], flat, others, owners).flatten(2))
            readout = dense_read(torch.cat(keys, 2), torch.cat(values, 2), at[t].key, self.network.key_scale_dim)
            logits = self.network.decode(readout, at[t], flat.detach(), owners)
            probs = torch.sigmoid(logits)[:, 0].unflatten(0, (count, 2)) * present[:, :, None, None]
            joint, joined = aggregate_channels(probs)
            truth = objects[:, t] * present[:, :, None, None]
            target = torch.where(truth[:, 0] > 0, 1, torch.where(truth[:, 1] > 0, 2, 0))
            total = total + bootstrapped_cross_entropy(joint, target, kept_fraction(progress))
            visible = present * (truth.sum((2, 3)) > 0)
            total = total + 0.5 * soft_jaccard_loss(joined[:, 1:], truth, visible)
            masks = joined[:, 1:]
            hits.append((jaccard(masks.detach() > 0.5, truth > 0.5) * present).sum() / present.sum())
        return total / (frames - 1), {f"iou{t + 1}": float(h) for t, h in enumerate(hits)}


def dense_read(keys: Tensor, values: Tensor, query: Tensor, scale_dim: int) -> Tensor:
    """Training-time memory read: softmax over all memory positions, no top-k.

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


class InteractionRecipe:
    """Embedded interaction-to-mask network: strokes (long-axis, curve, contour, click) on stills and video frames.

    Command: ``mivos train s2m --data ROOT --out DIR``.
    """

    name = "s2m"

    def __init__(self, data: Path, seed: int, schedule: Schedule | None = None) -> None:
        self.schedule = schedule or Schedule(batch=8, iterations=3000, trunk_lr=2.5e-4)
        recipe = ClipRecipe(frames=1, still_share=0.55, paste_share=0.3, min_scale=0.4, max_scale=0.9)
        self.sampler = ClipSampler(find_videos(data), find_stills(data), recipe, seed)
        self.network = NanoS2M()
        start_from_imagenet(self.network.trunk)

    def sample(self, index: int) -> Batch:
        images, objects, _ = self.sampler.sample(index)
        rng = np.random.default_rng((self.sampler.seed, index, 1))
        planes = interaction_sample(rng, objects[0, 0].astype(np.uint8), objects[0, 1].astype(np.uint8))
        return torch.from_numpy(images[0]), torch.from_numpy(np.stack(planes)), torch.from_numpy(objects[0, :1])

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, float]]:
        images, planes, target = batch
        x = torch.cat([normalise(images), planes.float()], dim=1).contiguous(memory_format=torch.channels_last)
        logits = self.network(x)
        joint, _ = aggregate_channels(torch.sigmoid(logits))
        loss = bootstrapped_cross_entropy(joint, target[:, 0].long(), kept_fraction(progress))
        loss = loss + 0.5 * soft_jaccard_loss(torch.sigmoid(logits), target, torch.ones_like(target[:, :, 0, 0]))
        return loss, {"iou": float(jaccard(logits.detach() > 0, target > 0.5).mean())}


class FusionRecipe:
    """Embedded fusion network on pairs of propagated maps; the propagation network stays as it is.

    Command: ``mivos train fusion --data ROOT --out DIR`` where ``ROOT/fusion`` is a run of `generate_fusion`.
    """

    name = "fusion"
    size, crop = 320, 256

    def __init__(self, data: Path, seed: int, schedule: Schedule | None = None) -> None:
        self.schedule = schedule or Schedule(batch=6, iterations=1500, lr=1e-3)
        self.sampler = FusionSampler(find_videos(data), data / "fusion", self.size, self.crop, seed)
        self.network = NanoFusion()
        self.propagation = load_network("nano", "propagation")

    def sample(self, index: int) -> Batch:
        item = self.sampler.sample(index)
        return tuple(torch.from_numpy(a) for a in (item.target, item.reference, item.maps, item.truth, item.time))

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, float]]:
        target, reference, maps, truth, time = batch
        count = len(target)
        images = normalise(torch.cat([target, reference])).contiguous(memory_format=torch.channels_last)
        change = truth[:, 1:] - maps[:, 2:]  # what the second interaction corrected, at its own frame
        with torch.no_grad():
            keys = self.propagation.encode_key(images).key  # type: ignore[operator]
            rules = MODELS["nano"].rules
            attention = torch.cat([
                difference_attention(
                    keys[count + b : count + b + 1], keys[b : b + 1],
                    change[b : b + 1].clamp(0, 1), (-change[b : b + 1]).clamp(0, 1), rules,
                )
                for b in range(count)
            ])  # fmt: skip
        logits = self.network(images[:count], maps[:, :1], maps[:, 1:2], attention, time)
        probs = torch.sigmoid(logits)
        joint, _ = aggregate_channels(probs)
        loss = bootstrapped_cross_entropy(joint, truth[:, 0].long(), kept_fraction(progress))
        loss = loss + 0.5 * soft_jaccard_loss(probs, truth[:, :1], torch.ones_like(time[:, :1]))
        true = truth[:, 0] > 0.5
        scores = {"iou": probs.detach()[:, 0] > 0.5, "older": maps[:, 0] > 0.5, "newer": maps[:, 1] > 0.5}
        return loss, {name: float(jaccard(mask, true).mean()) for name, mask in scores.items()}


RECIPES: dict[str, Callable[[Path, int], Recipe]] = {
    "propagation": PropagationRecipe,
    "s2m": InteractionRecipe,
    "fusion": FusionRecipe,
}
