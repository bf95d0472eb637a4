"""Difference-aware fusion of a propagated stream with the previous round (MiVOS, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipelines.engine import Networks
from pipelines.networks.aggregate import aggregate_wbg
from pipelines.networks.reading import difference_attention
from pipelines.stages.propagate import Pass, Propagated, ReadFrame
from pipelines.stages.tensors import Padding, image_tensor, mask_tensor

ReadProbs = Callable[[int], np.ndarray | None]


@dataclass(frozen=True)
class Difference:
    """What the interaction changed on its own frame.

    Attributes:
        key: [G, Ck, H, W] memory key of the frame; positive, negative: [K, 1, h, w] padded, 0..1.
    """

    key: Tensor
    positive: Tensor
    negative: Tensor

    @classmethod
    def between(cls, key: Tensor, before: np.ndarray | None, after: np.ndarray, padding: Padding) -> Difference:
        """From the frame's soft masks (float32 [K + 1, H, W]) before (None: never computed) and after.

        The authors start from a background of 1e-7 instead of nothing; only object planes are used.
        """
        old = np.zeros_like(after[1:])
        if before is not None:
            old[: len(before) - 1] = before[1:]
        change = mask_tensor(after[1:], padding) - mask_tensor(old, padding)
        return cls(key, change.clamp(0, 1), (-change).clamp(0, 1))


def fuse_frame(
    networks: Networks, image: np.ndarray, query_key: Tensor, new: np.ndarray, old: np.ndarray | None,
    difference: Difference, index: int, plan: Pass, known: int,
) -> np.ndarray:  # fmt: skip
    """The final soft mask of one frame.

    Between the new interaction and an older one on that side all earlier objects are fused. Where there is no older
    one the new result stands. Beyond it (only reached for the sake of new objects) earlier objects stay as they were.
    Objects that are new in this round have nothing to be fused with. `ModelChoice.fusion` can let the new result stand
    between interactions, too ("off"), or fuse with empty attention maps ("no-difference").

    Args:
        new, old: float32 [K + 1, H, W] and [K' + 1, H, W] (or None), of the frame with or without its border;
        known: objects before this round.

    Returns:
        float32 [K + 1, H, W].
    """
    if plan.bound is None or old is None or known == 0:
        return new
    if (plan.bound - index) * plan.step <= 0:
        return _beside(old[: known + 1], new[known + 1 :], certain=index in plan.interacted)
    if networks.choice.fusion == "off":
        return new
    padding = Padding.of(*new.shape[1:])
    new_masks = mask_tensor(new[1:], padding)
    old_masks = mask_tensor(old[1 : known + 1], padding)
    joined = new_masks.clone()
    gap = abs(plan.bound - plan.start)
    times = torch.tensor([[abs(plan.bound - index) / gap, abs(plan.start - index) / gap]]).expand(known, 2)
    if networks.choice.fusion == "no-difference":
        attention = torch.zeros_like(old_masks).expand(-1, 2, -1, -1).contiguous()
    else:
        attention = difference_attention(
            difference.key[: 1 if networks.rules.shared_keys else known],
            query_key,
            difference.positive[:known].to(query_key.device),
            difference.negative[:known].to(query_key.device),
            networks.rules,
        )
    frame = image_tensor(image)
    joined[:known] = networks.fuse(frame, old_masks, new_masks[:known], attention, times.contiguous()).cpu()
    return padding.remove(aggregate_wbg(joined))[:, 0].numpy()


def _beside(old: np.ndarray, new: np.ndarray, *, certain: bool) -> np.ndarray:
    """Earlier objects as they were, new ones beside them; where `certain` (a person marked the frame) new objects
    only get what was background. [K' + 1, H, W], [N, H, W] -> [K' + 1 + N, H, W]."""
    if certain:
        new = new * old[:1]
    return np.concatenate([old * (1 - new.sum(0, keepdims=True)), new])


def fuse_stream(
    networks: Networks,
    stream: Iterable[Propagated],
    read_frame: ReadFrame,
    read_old: ReadProbs,
    difference: Difference,
    known: int,
) -> Iterator[tuple[Propagated, np.ndarray]]:
    """Fuses a propagated stream as it comes; yields each item with its final soft mask."""
    for item in stream:
        old = None if item.run.bound is None else read_old(item.index)
        with torch.inference_mode():
            final = fuse_frame(
                networks, read_frame(item.index), item.query.key, item.probs, old, difference, item.index, item.run,
                known,
            )  # fmt: skip
        yield item, final
