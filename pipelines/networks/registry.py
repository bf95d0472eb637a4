"""Models by name: which networks make one up, how they use memory, where their weights come from.

To add a propagation network, write one file with an `nn.Module` that has `encode_key`, `encode_value` and `decode`
as in `nano.py`, and register it here with its `MemoryRules`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipelines.networks.memory import MemoryRules
from pipelines.networks.nano import NanoFusion, NanoPropagation
from pipelines.networks.nano_s2m import NanoS2M
from stores.errors import ModelError, UsageError

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ModelSpec:
    """One model: three networks and the rules of their memory.

    Attributes:
        prob_bits: bits of the probabilities kept in a session of this model.
        keep_far_parts: whether interaction may mark parts far from every stroke (see `drop_far_parts`).
        weights: module name -> weight file shipped in `weights/`.
        compiled: module name -> methods that a compiling CPU engine runs faster than PyTorch (measured on 2 cores
            without AVX-512: trunk 55 to 80 ms, interaction 77 to 100; decoder 29 to 24, fusion 22 to 17).
    """

    name: str
    propagation: Callable[[], nn.Module]
    s2m: Callable[[], nn.Module]
    fusion: Callable[[], nn.Module]
    rules: MemoryRules
    weights: dict[str, str] = field(default_factory=dict)
    compiled: dict[str, frozenset[str]] = field(default_factory=dict)
    prob_bits: int = 8
    keep_far_parts: bool = True

    def facts(self) -> dict[str, Any]:
        """What a round's log keeps of the model: names, rules and weight digests."""
        digests = {part: _digest(WEIGHTS / file)[:16] for part, file in self.weights.items()}
        return {"name": self.name, "top_k": self.rules.top_k, "memory_every": self.rules.every, "weights": digests}


MODELS: dict[str, ModelSpec] = {
    "nano": ModelSpec(
        name="nano",
        propagation=NanoPropagation,
        s2m=NanoS2M,
        fusion=NanoFusion,
        rules=MemoryRules(top_k=20, every=5, temporary=True, max_permanent=2, scale_dim=NanoPropagation.key_scale_dim),
        weights={
            "propagation": "nano_propagation.safetensors",
            "s2m": "nano_s2m.safetensors",
            "fusion": "nano_fusion.safetensors",
        },
        keep_far_parts=False,
        compiled={"propagation": frozenset({"encode_key"}), "s2m": frozenset({"forward"})},
    ),
}


def model_spec(name: str) -> ModelSpec:
    """The model of this name.

    Raises:
        UsageError: no such model.
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}", hint=f"choose one of: {', '.join(MODELS)}")
    return MODELS[name]


@lru_cache(maxsize=6)
def load_network(model: str, part: str) -> nn.Module:
    """The network `part` ("propagation", "s2m" or "fusion") of a model with its shipped weights, on CPU, in eval mode.

    Raises:
        UsageError: unknown model. ModelError: weights missing, damaged or of another network.
    """
    spec = model_spec(model)
    build = {"propagation": spec.propagation, "s2m": spec.s2m, "fusion": spec.fusion}[part]
    path = WEIGHTS / spec.weights[part]
    if not path.is_file():
        raise ModelError(f"the weights {path.name} of model {model!r} are missing", hint="reinstall mivos")
    network = build()
    try:
        state = load_file(path)
        network.load_state_dict({key: value.float() for key, value in state.items()})
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path.name} cannot be loaded as {part} of {model!r}: {reason}") from error
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@lru_cache(maxsize=16)
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights_digest(model: str, part: str) -> str:
    """SHA-256 of a shipped weight file, hexadecimal."""
    return _digest(WEIGHTS / model_spec(model).weights[part])
