"""Soft aggregation: independent object probabilities to one distribution over background and objects.

The rule of STM (Oh et al., ICCV 2019, section 3.4) as used by MiVOS.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EPS = 1e-7


def odds_logit(p: Tensor) -> Tensor:
    """log(p / (1 - p)) with p clamped to [1e-7, 1 - 1e-7]; any shape, float32."""
    p = p.clamp(_EPS, 1 - _EPS)
    return torch.log(p / (1 - p))


def aggregate_wbg(probs: Tensor, *, keep_bg: bool = True, hard: bool = False) -> Tensor:
    """Joins K object maps and a background of ``prod(1 - p_k)``.

    Args:
        probs: [K, 1, h, w] float, independent probabilities.
        keep_bg: whether the background is channel 0 of the result.
        hard: multiplies the logits by 1000, which makes the result nearly one-hot.

    Returns:
        [K + 1, 1, h, w] (or [K, 1, h, w]) float, sums to 1 over the first axis with the background.
    """
    background = torch.prod(1 - probs, dim=0, keepdim=True)
    return _softmax(odds_logit(torch.cat([background, probs])), keep_bg=keep_bg, hard=hard)


def aggregate_sbg(probs: Tensor, *, keep_bg: bool = True, hard: bool = False) -> Tensor:
    """Like `aggregate_wbg` with a constant background of 0.5 (brush, click and local tools)."""
    background = torch.full_like(probs[:1], 0.5)
    return _softmax(odds_logit(torch.cat([background, probs])), keep_bg=keep_bg, hard=hard)


def aggregate_channels(probs: Tensor) -> tuple[Tensor, Tensor]:
    """Batch form of `aggregate_wbg` used by the losses.

    Args:
        probs: [B, K, h, w] float.

    Returns:
        logits and probabilities, both [B, K + 1, h, w], background first.
    """
    background = torch.prod(1 - probs, dim=1, keepdim=True)
    logits = odds_logit(torch.cat([background, probs], dim=1))
    return logits, torch.softmax(logits, dim=1)


def _softmax(logits: Tensor, *, keep_bg: bool, hard: bool) -> Tensor:
    if hard:
        logits = logits * 1000
    joined = torch.softmax(logits, dim=0)
    return joined if keep_bg else joined[1:]
