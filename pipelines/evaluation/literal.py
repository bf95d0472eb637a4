"""The authors' propagation as its description reads, in plain eager PyTorch: the yardstick for `inference`.

Nothing here is for use: every object goes through every layer, BatchNorm is not folded, the affinity matrix is dense
and stays dense when it is multiplied with the values, memory is concatenated at each step, tensors are NCHW float32.
What it shares with the fast path: the layers and their weights, the ResNets and CBAM, padding, and soft aggregation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.networks.aggregate import aggregate_wbg
from pipelines.networks.blocks import Decoder, ResidualBlock, UpBlock
from pipelines.networks.stcn import STCN
from pipelines.networks.stm import STM
from pipelines.stages.tensors import Padding, image_tensor, mask_tensor

Memory = tuple[Tensor, Tensor]  # keys [K or 1, Ck, T, H, W], values [K, Cv, T, H, W]


class LiteralSTM:
    """One frame at a time with the STM form: separate affinities, previous frame always in memory."""

    top_k, temporary = 50, True

    def __init__(self, network: STM) -> None:
        self.network = network

    def query(self, image: Tensor) -> tuple[Tensor, ...]:
        """[1, 3, h, w] -> key, value, f8, f4."""
        net = self.network
        f4, f8, f16 = net.rgb_encoder(image)
        return net.kv_q_f16.key_proj(f16), net.kv_q_f16.val_proj(f16), f8, f4

    def memorise(self, image: Tensor, query: tuple[Tensor, ...], masks: Tensor) -> Memory:
        """[1, 3, h, w] and [K, 1, h, w] -> one frame of memory."""
        net = self.network
        features = net.mask_rgb_encoder(_planes(image, masks))[-1]
        return net.kv_m_f16.key_proj(features)[:, :, None], net.kv_m_f16.val_proj(features)[:, :, None]

    def affinity(self, keys: Tensor, query: Tensor) -> Tensor:
        """[G, Ck, T, H, W], [1, Ck, H, W] -> [G, THW, HW]."""
        flat = keys.flatten(2).transpose(1, 2)
        return flat @ (query.flatten(2) / math.sqrt(query.shape[1])).expand(len(keys), -1, -1)

    def read(self, memory: Memory, query: tuple[Tensor, ...]) -> Tensor:
        """Read-out [K, Cv, H, W]."""
        keys, values = memory
        scores = self.affinity(keys, query[0])  # (G, THW, HW)
        count = min(self.top_k, scores.shape[1])
        best, index = torch.topk(scores, count, dim=1)
        best = torch.exp(best - best[:, :1])
        best = best / best.sum(dim=1, keepdim=True)
        weights = scores.zero_().scatter_(1, index, best)
        read = values.flatten(2) @ weights.expand(len(values), -1, -1)  # (K, Cv, HW)
        return read.unflatten(2, query[0].shape[-2:])

    def segment(self, memory: Memory, query: tuple[Tensor, ...]) -> Tensor:
        """Independent probabilities [K, 1, h, w]."""
        readout = self.read(memory, query)
        count = len(readout)
        value, f8, f4 = (x.expand(count, -1, -1, -1) for x in query[1:4])
        return torch.sigmoid(_decode(self.network.decoder, torch.cat([readout, value], dim=1), f8, f4))


class LiteralSTCN(LiteralSTM):
    """The STCN form: keys of the image alone, one affinity for all objects, no temporary memory."""

    top_k, temporary = 20, False

    def __init__(self, network: STCN) -> None:
        self.net = network
        self.network = network  # type: ignore[assignment]

    def query(self, image: Tensor) -> tuple[Tensor, ...]:
        f4, f8, f16 = self.net.key_encoder(image)
        return self.net.key_proj.key_proj(f16), self.net.key_comp(f16), f8, f4, f16

    def memorise(self, image: Tensor, query: tuple[Tensor, ...], masks: Tensor) -> Memory:
        features = self.net.value_encoder(_planes(image, masks))[-1]
        fuser = self.net.value_encoder.fuser
        x = _residual(fuser.block1, torch.cat([features, query[4].expand(len(masks), -1, -1, -1)], dim=1))
        return query[0][:, :, None], _residual(fuser.block2, x + fuser.attention(x))[:, :, None]

    def affinity(self, keys: Tensor, query: Tensor) -> Tensor:
        flat, rows = keys.flatten(2).transpose(1, 2), query.flatten(2)
        norms = flat.square().sum(2, keepdim=True), rows.square().sum(1, keepdim=True)
        return (2 * (flat @ rows) - norms[0] - norms[1]) / math.sqrt(query.shape[1])


def _planes(image: Tensor, masks: Tensor) -> Tensor:
    """Image, own mask and the sum of the others' of every object: [K, 5, h, w]."""
    others = [sum((m for j, m in enumerate(masks) if j != i), torch.zeros_like(masks[0])) for i in range(len(masks))]
    return torch.cat([image.expand(len(masks), -1, -1, -1), masks, torch.stack(others)], dim=1)


def _residual(block: ResidualBlock, x: Tensor) -> Tensor:
    inner = block.conv2(F.relu(block.conv1(F.relu(x))))
    return inner + (x if block.downsample is None else block.downsample(x))


def _up(block: UpBlock, x: Tensor, features: Tensor) -> Tensor:
    if block.skip_block:
        skip = _residual(block.skip_conv2, block.skip_conv1(features))
    else:
        skip = block.skip_conv(features)
    return _residual(block.out_conv, skip + F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))


def _decode(decoder: Decoder, x: Tensor, f8: Tensor, f4: Tensor) -> Tensor:
    x = _residual(decoder.compress, x)
    x = _up(decoder.up_8_4, _up(decoder.up_16_8, x, f8), f4)
    return F.interpolate(decoder.pred(F.relu(x)), scale_factor=4, mode="bilinear", align_corners=False)


def literal(network: STM | STCN) -> LiteralSTM:
    """The literal reading of a network (unfolded, as a checkpoint has it)."""
    return LiteralSTCN(network) if isinstance(network, STCN) else LiteralSTM(network)


@torch.inference_mode()
def segment_literally(
    model: LiteralSTM, frames: Sequence[np.ndarray], labels: np.ndarray, *, every: int = 5
) -> Iterator[np.ndarray]:
    """Forward pass over a clip whose first frame's objects are given (inference.md, sections 3 and 4).

    Args:
        frames: uint8 [H, W, 3] RGB; labels: uint8 [H, W], ids 0..K; every: frames between permanent memory frames.

    Yields:
        float32 [K + 1, H, W] of frames 1, 2, ..., background first.
    """
    padding = Padding.of(*labels.shape)
    objects = np.stack([labels == k for k in range(1, int(labels.max()) + 1)])
    image = image_tensor(frames[0])
    permanent = model.memorise(image, model.query(image), mask_tensor(objects, padding))
    temporary: Memory | None = None
    for index in range(1, len(frames)):
        image = image_tensor(frames[index])
        query = model.query(image)
        memory = permanent if temporary is None else _join(permanent, temporary)
        joint = aggregate_wbg(model.segment(memory, query))
        yield padding.remove(joint)[:, 0].numpy()
        if index + 1 == len(frames):
            return
        if index % every == 0:
            permanent, temporary = _join(permanent, model.memorise(image, query, joint[1:])), None
        elif model.temporary:
            temporary = model.memorise(image, query, joint[1:])


def _join(a: Memory, b: Memory) -> Memory:
    return torch.cat([a[0], b[0]], dim=2), torch.cat([a[1], b[1]], dim=2)
