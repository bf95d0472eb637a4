"""Frozen parts of a propagation network that make fusion's attention maps in training.

Their state-dict keys are a subset of the propagation checkpoint's, so `load_propagation` takes that checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipelines.networks.blocks import KeyProjection
from pipelines.networks.reading import MemoryRules, difference_attention
from pipelines.networks.resnet import image_encoder
from pipelines.networks.stcn import STCN
from pipelines.networks.stm import STMEncoders
from stores.errors import ModelError


def load_propagation(reader: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads a reader from the state dict of a whole propagation network.

    Raises:
        ModelError: an entry is missing or has another shape.
    """
    wanted = reader.state_dict()
    missing = next((key for key in wanted if key not in state), None)
    hint = "give the propagation checkpoint of the same kind (STM or STCN)"
    if missing is not None:
        raise ModelError(f"the propagation checkpoint has no entry {missing!r}", hint=hint)
    wrong = next((key for key in wanted if state[key].shape != wanted[key].shape), None)
    if wrong is not None:
        shapes = f"{list(state[wrong].shape)}, expected {list(wanted[wrong].shape)}"
        raise ModelError(f"entry {wrong!r} of the propagation checkpoint has shape {shapes}", hint=hint)
    reader.load_state_dict({key: state[key] for key in wanted})


class AttentionReadSTM(STMEncoders):
    """Attention of two objects by the STM form: each object has its own affinity."""

    rules = MemoryRules(top_k=None, shared_keys=False, similarity="dot", scale_dim=STMEncoders.key_scale_dim)

    @torch.no_grad()
    def forward(
        self, image: Tensor, old1: Tensor, new1: Tensor, old2: Tensor, new2: Tensor, query: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Differences of two objects on reference images, carried to query images.

        Args:
            image, query: [B, 3, h, w] normalised; old1, new1, old2, new2: [B, 1, h, w] masks on `image`, 0..1.

        Returns:
            Two [B, 2, h, w], one for each object, positive channel first.
        """
        owners = torch.arange(len(image), device=image.device).repeat(2)
        features = self.encode_objects(image, torch.cat([new1, new2]), torch.cat([new2, new1]), owners)
        keys = self.kv_m_f16(features).unflatten(0, (2, len(image))).transpose(0, 1)  # (B, 2, Ck, H, W)
        query_keys = self.kv_q_f16(self.encode_image(query)[0])
        return _attention(keys, query_keys, torch.stack([old1, old2]), torch.stack([new1, new2]), self.rules)


class AttentionReadSTCN(nn.Module):
    """Attention of two objects by the STCN form: one affinity for both."""

    rules = MemoryRules(top_k=None, scale_dim=STCN.key_scale_dim)

    def __init__(self) -> None:
        super().__init__()
        self.key_encoder = image_encoder()
        self.key_proj = KeyProjection(1024, STCN.key_scale_dim)

    @torch.no_grad()
    def forward(
        self, image: Tensor, old1: Tensor, new1: Tensor, old2: Tensor, new2: Tensor, query: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `AttentionReadSTM.forward`."""
        keys, query_keys = (self.key_proj(self.key_encoder(x)[-1]) for x in (image, query))
        return _attention(keys[:, None], query_keys, torch.stack([old1, old2]), torch.stack([new1, new2]), self.rules)


def _attention(keys: Tensor, query_keys: Tensor, old: Tensor, new: Tensor, rules: MemoryRules) -> tuple[Tensor, Tensor]:
    """[B, G, Ck, H, W], [B, Ck, H, W], old and new [2, B, 1, h, w] -> two [B, 2, h, w]."""
    change = new - old
    maps = [
        difference_attention(key, query_key[None], change[:, b].clamp(0, 1), (-change[:, b]).clamp(0, 1), rules)
        for b, (key, query_key) in enumerate(zip(keys, query_keys, strict=True))
    ]
    first, second = torch.stack(maps, dim=1)  # (2, B, 2, h, w)
    return first, second
