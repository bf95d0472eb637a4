"""STM and STCN in training: three frames, the mask of the first given (Cheng et al., NeurIPS 2021, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.networks.aggregate import aggregate_channels
from pipelines.networks.protocol import Query
from pipelines.networks.stcn import STCN
from pipelines.networks.stm import STM
from pipelines.training.base import Batch, Job, Moment, Outcome, Recipe, Samples, last, normalise
from pipelines.training.losses import bootstrapped_cross_entropy, pooled_iou, without_absent

NETWORKS: dict[str, type[STM] | type[STCN]] = {"propagation": STM, "propagation-stcn": STCN}


def single_object_stem(network: nn.Module) -> None:
    """Takes the channel for other objects from the mask encoder: stage 0 has one object."""
    encoder = network.mask_rgb_encoder if isinstance(network, STM) else network.value_encoder
    old: nn.Conv2d = encoder.conv1  # type: ignore[union-attr, assignment]
    encoder.conv1 = nn.Conv2d(old.in_channels - 1, old.out_channels, 7, 2, padding=3, bias=True)  # type: ignore[union-attr]


def dense_read(keys: Tensor, values: Tensor, query: Tensor, similarity: str, scale_dim: int) -> Tensor:
    """Training-time memory read: softmax over all memory positions, no top-k.

    Args:
        keys: [B, G, Ck, N], G = 1 where objects share them; values: [B, K, Cv, N]; query: [B, Ck, H, W].

    Returns:
        [B * K, Cv, H, W].
    """
    affinity = keys.transpose(2, 3) @ query.flatten(2)[:, None]  # (B, G, N, HW)
    if similarity == "l2":  # the query's own length cancels in the softmax
        affinity = 2 * affinity - keys.square().sum(2)[..., None]
    weights = torch.softmax(affinity / scale_dim**0.5, dim=2)
    return (values @ weights).flatten(0, 1).unflatten(2, query.shape[-2:])


class ClipJob(Job):
    """Propagation through three frames with one or two objects per sample."""

    def __init__(self, recipe: Recipe, samples: Samples, *, single: bool) -> None:
        self.recipe, self.samples = recipe, samples
        self.network = NETWORKS[recipe.network]()
        if single:
            single_object_stem(self.network)

    def loss(self, batch: Batch, moment: Moment) -> Outcome:
        images, given, labels, present = batch  # (B, 3, s, s, 3), (B, K, s, s), (B, 3, s, s), (B, K)
        network, kept = self.network, self.recipe.kept_now(moment)
        assert isinstance(network, STM | STCN)
        count, frames = images.shape[:2]
        objects = given.shape[1]
        image = normalise(images)
        skipped = 0 if network.shared_keys else 1  # STM's memory has keys of its own, frame 0 is never a query
        query = network.encode_key(last(image[:, skipped:].flatten(0, 1)))
        maps = [f.unflatten(0, (count, frames - skipped)) for f in (query.key, *query.features)]

        def at(t: int) -> Query:
            t = max(t - skipped, 0)
            return Query(maps[0][:, t], tuple(f[:, t] for f in maps[1:]))

        owners = torch.arange(count, device=image.device).repeat_interleave(objects)
        masks, keys, values, losses, shown = given, [], [], [], []
        for t in range(1, frames):
            flat = masks.flatten(0, 1)[:, None]
            others = masks.flip(1).flatten(0, 1)[:, None] if objects > 1 else flat[:, :0]
            key, value = network.encode_memory(last(image[:, t - 1]), at(t - 1), flat, others, owners)
            keys.append(key.unflatten(0, (count, -1)).flatten(3))
            values.append(value.unflatten(0, (count, objects)).flatten(3))
            readout = dense_read(
                torch.cat(keys, 3), torch.cat(values, 3), at(t).key, network.similarity, network.key_scale_dim
            )
            logits = network.decode(readout, at(t), flat, owners).float()
            probs = torch.sigmoid(logits)[:, 0].unflatten(0, (count, objects)) * present[:, :, None, None]
            joint, joined = aggregate_channels(probs)
            losses.append(bootstrapped_cross_entropy(without_absent(joint, present), labels[:, t].long(), kept))
            masks = joined[:, 1:]
            shown.append(masks.detach())
        found, true = torch.stack(shown, dim=1).flatten(0, 1) > 0.5, labels[:, 1:].flatten(0, 1)
        scores = {f"loss_{t}": value.detach() for t, value in enumerate(losses, start=1)}
        scores |= {"p": losses[0].new_tensor(kept), "iou": pooled_iou(found[:, 0], true == 1)}
        if objects > 1:
            there = present[:, 1].repeat_interleave(frames - 1)
            scores["sec_iou"] = pooled_iou(found[:, 1], true == 2, there)
        return Outcome(torch.stack(losses).sum(), scores, {"masks": torch.stack(shown, dim=1)})

    def panel(self, batch: Batch, shown: dict[str, Tensor]) -> list[list[Tensor]]:
        images, given, labels, _ = batch
        masks = torch.cat([given[:, None], shown["masks"].to(given)], dim=1)[0]  # (3, K, s, s)
        truth = [[(labels[0, t] == k + 1).float() for k in range(masks.shape[1])] for t in range(len(masks))]
        return [[images[0, t], *masks[t], *truth[t]] for t in range(len(masks))]
