"""Losses and scores of all recipes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bootstrapped_cross_entropy(logits: Tensor, target: Tensor, kept: float, *, together: bool = False) -> Tensor:
    """Mean of the hardest `kept` fraction of pixels of every sample.

    Args:
        logits: [B, C, h, w] float; target: [B, h, w] long; kept: fraction in (0, 1];
        together: the hardest pixels are chosen over the whole batch, as S2M's training does.

    Returns:
        scalar.
    """
    loss = F.cross_entropy(logits, target, reduction="none").flatten(0 if together else 1)
    if kept < 1:
        loss = loss.topk(max(1, int(loss.shape[-1] * kept)), dim=-1, sorted=False).values
    return loss.mean()


def without_absent(joint: Tensor, present: Tensor) -> Tensor:
    """Joint logits in which objects that are not there take no part in the cross entropy.

    Args:
        joint: [B, K + 1, h, w] background first; present: [B, K], 0 for an empty slot.
    """
    absent = torch.cat([torch.zeros_like(present[:, :1]), 1 - present], dim=1) > 0
    return joint.masked_fill(absent[:, :, None, None], float("-inf"))


def soft_jaccard_loss(probs: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - soft intersection over union, averaged over planes with non-zero `weight`.

    Args:
        probs, target: [B, K, h, w] in 0..1; weight: [B, K].
    """
    intersection = (probs * target).sum(dim=(2, 3))
    union = (probs + target - probs * target).sum(dim=(2, 3))
    loss = 1 - (intersection + 1) / (union + 1)
    return (loss * weight).sum() / weight.sum().clamp(min=1)


def kept_fraction(progress: float, start: float = 0.1, end: float = 0.4, final: float = 0.25) -> float:
    """Fraction of pixels in the bootstrapped loss: 1 until `start`, then linear to `final` at `end` of the run."""
    return falling_fraction(progress, start, end, final)


def falling_fraction(at: float, start: float, end: float, final: float) -> float:
    """1 until `start`, then linear to `final` at `end`."""
    if at <= start:
        return 1.0
    return final if at >= end else 1 - (1 - final) * (at - start) / (end - start)


def jaccard(pred: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of boolean planes [..., h, w]; empty union counts 1."""
    intersection = (pred & target).sum(dim=(-2, -1)).float()
    union = (pred | target).sum(dim=(-2, -1)).float()
    return torch.where(union > 0, intersection / union.clamp(min=1), torch.ones_like(union))


def pooled_iou(pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """(sum of intersections + 1) / (sum of unions + 1) over a batch of boolean planes [B, h, w], as the authors log.

    `weight` [B] leaves out samples where it is 0.
    """
    both, either = (pred & target).sum((1, 2)).float(), (pred | target).sum((1, 2)).float()
    if weight is not None:
        both, either = both * weight, either * weight
    return (both.sum() + 1) / (either.sum() + 1)
