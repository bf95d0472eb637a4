"""Losses of the three recipes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bootstrapped_cross_entropy(logits: Tensor, target: Tensor, kept: float) -> Tensor:
    """Mean of the hardest `kept` fraction of pixels of every sample.

    Args:
        logits: [B, C, h, w] float; target: [B, h, w] long; kept: fraction in (0, 1].

    Returns:
        scalar.
    """
    loss = F.cross_entropy(logits, target, reduction="none").flatten(1)  # (B, h*w)
    if kept < 1:
        loss = loss.topk(max(1, int(loss.shape[1] * kept)), dim=1, sorted=False).values
    return loss.mean()


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
    if progress <= start:
        return 1.0
    return max(final, 1 - (1 - final) * (progress - start) / (end - start))


def jaccard(pred: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of boolean planes [..., h, w]; empty union counts 1."""
    intersection = (pred & target).sum(dim=(-2, -1)).float()
    union = (pred | target).sum(dim=(-2, -1)).float()
    return torch.where(union > 0, intersection / union.clamp(min=1), torch.ones_like(union))
