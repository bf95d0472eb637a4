"""Reading by similarity: how much every position of one frame resembles every position of others.

Oh et al., ICCV 2019; top-k reading: Cheng et al. (MiVOS), CVPR 2021, section 3.2. `memory.py` keeps what is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stores.errors import UsageError

BLOCK_BYTES = 64 * 2**20  # affinities are made for so many query positions at once


@dataclass(frozen=True)
class MemoryBudget:
    """How large a memory bank may become: `frames`, or `nbytes` bytes; one of them. See `long_term.BudgetBank`."""

    frames: int | None = None
    nbytes: int | None = None

    @classmethod
    def parse(cls, text: str) -> MemoryBudget:
        """From "12" (frames), or "500MB", "2GB".

        Raises:
            UsageError: it is neither, or too small.
        """
        found = re.fullmatch(r"\s*(\d{1,12})\s*(MB|GB)?\s*", text, re.IGNORECASE)
        if found is None or not int(found[1]):
            raise UsageError(
                f"a memory budget of {text!r} makes no sense", hint="give frames (12), or bytes (500MB, 2GB)"
            )
        amount, unit = int(found[1]), (found[2] or "").upper()
        return cls(frames=amount) if not unit else cls(nbytes=amount * {"MB": 10**6, "GB": 10**9}[unit])

    def __str__(self) -> str:
        return f"{self.frames} frames" if self.nbytes is None else f"{self.nbytes / 1e6:g} MB"


@dataclass(frozen=True)
class MemoryRules:
    """How a propagation network uses memory.

    Attributes:
        top_k: memory positions that each query position reads; None reads all.
        every: frames between permanent memory frames.
        temporary: whether the previous frame is always in memory too.
        max_permanent: permanent frames that are kept, the latest ones; None keeps all.
        shared_keys: keys belong to a frame (True) or to an object.
        similarity: "l2" (negative squared distance) or "dot".
        scale_dim: similarity is divided by its square root.
        keep_repeated: a frame marked in two rounds counts with both masks (the authors) or with the later one only.
        kernel_sigma: kernelised reading (Seong et al., ECCV 2020) with this width in feature positions: a memory
            position counts less the farther a query position is from the one that is most similar to it. None: off.
        budget: bounds all memory together and keeps a digest of frames that make room; `max_permanent` is not used
            then. None: no bound but `max_permanent`.
    """

    top_k: int | None = 20
    every: int = 5
    temporary: bool = False
    max_permanent: int | None = None
    shared_keys: bool = True
    similarity: str = "l2"
    scale_dim: int = 64
    kernel_sigma: float | None = None
    keep_repeated: bool = False
    budget: MemoryBudget | None = None


def affinity(memory: Tensor, query: Tensor, rules: MemoryRules, norms: Tensor | None = None) -> Tensor:
    """Similarity of every query position to every memory position.

    Args:
        memory: [N, Ck]; query: [M, Ck]; norms: [N] squared lengths of `memory`, if already known.

    Returns:
        [M, N] float, without the term that is constant for a query position (it cancels in the softmax).
    """
    scale = rules.scale_dim**-0.5
    if rules.similarity == "dot":
        return (query * scale) @ memory.T
    norms = memory.square().sum(1) if norms is None else norms
    return torch.addmm(norms[None], query, memory.T, beta=-scale, alpha=2 * scale)


def read_top_k(similarity: Tensor, values: Tensor, top_k: int | None) -> Tensor:
    """Weighted mean of values: softmax over the k most similar positions, the others exactly zero.

    Args:
        similarity: [M, N]; values: [N, C].

    Returns:
        [M, C].
    """
    weights, index = top_k_weights(similarity, top_k)
    return read_weighted(weights, index, values)


def top_k_weights(similarity: Tensor, top_k: int | None) -> tuple[Tensor, Tensor | None]:
    """Softmax over the k most similar positions of each row of [M, N]: weights [M, k] and positions [M, k].

    With all positions (top_k None, or not fewer than N) weights are [M, N] and positions None.
    """
    if top_k is None or top_k >= similarity.shape[1]:
        return torch.softmax(similarity, dim=1), None
    best, index = torch.topk(similarity, top_k, dim=1, sorted=False)
    return torch.softmax(best, dim=1), index


def read_weighted(weights: Tensor, index: Tensor | None, values: Tensor) -> Tensor:
    """[M, C] from what `top_k_weights` gives and values [N, C]."""
    if index is None:
        return weights @ values
    # gathers k rows for each query position instead of multiplying by a mostly empty [M, N] matrix
    return F.embedding_bag(index, values, per_sample_weights=weights, mode="sum")


def best_positions(memory: Tensor, query: Tensor, rules: MemoryRules, norms: Tensor | None, block: int) -> Tensor:
    """The query position most similar to every memory position, [N] int32; arguments as in `affinity`.

    `block` query positions are compared at once.
    """
    highest = memory.new_full((memory.shape[0],), float("-inf"))
    best = torch.zeros(memory.shape[0], dtype=torch.int32, device=memory.device)
    for at in range(0, query.shape[0], block):
        rows = query[at : at + block]
        similarity = affinity(memory, rows, rules, norms)
        if rules.similarity == "l2":  # the omitted term differs between query positions
            similarity -= rows.square().sum(1, keepdim=True) * rules.scale_dim**-0.5
        value, index = similarity.max(dim=0)
        better = value > highest
        highest = torch.where(better, value, highest)
        best = torch.where(better, index.to(best.dtype) + at, best)
    return best


def log_kernel(best: Tensor, positions: Tensor, width: int, sigma: float) -> Tensor:
    """Logarithm of a Gaussian around the best query position of every memory position.

    Args:
        best: [N] int; positions: [M] int, both indices into a map of this width.

    Returns:
        [M, N] float, to be added to the similarity: a sum cannot underflow as the product of exponentials can.
    """
    distance = ((positions // width)[:, None] - (best // width)[None]).to(torch.float32).square_()
    distance += ((positions % width)[:, None] - (best % width)[None]).to(torch.float32).square_()
    return distance.mul_(-0.5 / sigma**2)


def difference_attention(
    memory_key: Tensor, query_key: Tensor, positive: Tensor, negative: Tensor, rules: MemoryRules
) -> Tensor:
    """Carries a mask difference from the interacted frame to another frame (MiVOS, section 3.3).

    Args:
        memory_key: [G, Ck, H, W] of the interacted frame; query_key: [1, Ck, H, W] of the other frame;
        positive, negative: [K, 1, h, w] what the interaction added and removed, 0..1.

    Returns:
        [K, 2, h, w]: positive channel first. Full softmax over memory positions, no top-k.
    """
    height, width = query_key.shape[-2:]
    size = positive.shape[-2:]
    difference = F.interpolate(torch.cat([positive, negative], dim=1), size=memory_key.shape[-2:], mode="area")
    difference = difference.flatten(2)  # (K, 2, N)
    query = query_key[0].flatten(1).T
    block = max(1, BLOCK_BYTES // (4 * difference.shape[2]))
    carried = []
    for group, key in enumerate(memory_key):
        rows, of_group = key.flatten(1).T, difference if rules.shared_keys else difference[group : group + 1]
        parts = [
            of_group @ torch.softmax(affinity(rows, query[at : at + block], rules), dim=1).T  # (K, 2, block)
            for at in range(0, len(query), block)
        ]
        carried.append(torch.cat(parts, dim=2))
    maps = torch.cat(carried).unflatten(2, (height, width))  # (K, 2, H, W)
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
