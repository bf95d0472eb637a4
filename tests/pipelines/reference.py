"""The authors' networks with the weights of the golden vectors, and inputs as those were made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.networks.fusion import FusionNet
from pipelines.networks.protocol import PropagationNetwork, Query
from pipelines.networks.reading import MemoryRules
from pipelines.networks.s2m import S2M
from pipelines.networks.stcn import STCN
from pipelines.networks.stm import STM
from pipelines.networks.synthetic_weights import fill
from pipelines.stages.tensors import image_tensor

NETWORKS: dict[str, type[nn.Module]] = {"s2m": S2M, "propagation": STM, "propagation_stcn": STCN, "fusion": FusionNet}
FEATURES, SMALL = {"atol": 3e-4, "rtol": 0.0}, {"atol": 5e-5, "rtol": 0.0}


@lru_cache(maxsize=4)
def network(name: str) -> nn.Module:
    """Filled, in eval mode, without gradients. Filling takes seconds, so they are kept until `network.cache_clear`."""
    return fill(NETWORKS[name](), name).requires_grad_(False)


def load(path: Path) -> dict[str, Tensor]:
    """Arrays of an npz file as tensors of their own type."""
    with np.load(path) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def image(frame: Tensor) -> Tensor:
    """uint8 [h, w, 3] -> [1, 3, h', w']."""
    return image_tensor(frame.numpy())


def planes(labels: Tensor, *objects: int) -> Tensor:
    """uint8 [h, w] -> float [K, 1, h, w]."""
    return torch.stack([(labels == k).float()[None] for k in objects])


def others(masks: Tensor) -> Tensor:
    """[K, 1, h, w] -> sum of the other objects' masks."""
    return masks.sum(0, keepdim=True) - masks


@dataclass(frozen=True)
class Propagation:
    """A propagation network as stages use it, without an engine around it."""

    network: PropagationNetwork
    rules: MemoryRules

    def encode_key(self, image: Tensor) -> Query:
        return self.network.encode_key(image)

    def encode_memory(self, image: Tensor, query: Query, masks: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.encode_memory(image, query, masks, others(masks))

    def decode(self, readout: Tensor, query: Query, previous: Tensor) -> Tensor:
        return torch.sigmoid(self.network.decode(readout, query, previous))
