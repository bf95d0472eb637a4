"""Weights that depend on a network's state-dict keys alone.

The same rule gives the same numbers everywhere, so outputs can be compared between implementations, and speed can
be measured, without a checkpoint. Activations keep about unit scale and masks are not trivial.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class FillRule:
    """What differs from the general rule.

    Attributes:
        gains: weight key -> factor.
        inputs: weight key -> (first, last + 1, factor) of input channels.
        constants: key -> value of all its elements.
    """

    gains: dict[str, float] = field(default_factory=dict)
    inputs: dict[str, tuple[tuple[int, int, float], ...]] = field(default_factory=dict)
    constants: dict[str, float] = field(default_factory=dict)


_ASPP = ("0.0", "1.0", "2.0", "3.0", "4.1")
_FUSION = ("conv1.0", "conv2.0", "conv2.2", "conv3.0", "conv3.2")

RULES: dict[str, FillRule] = {
    "s2m": FillRule(
        gains={
            **{f"classifier.aspp.convs.{branch}.weight": 2 for branch in _ASPP},
            "classifier.aspp.project.0.weight": 2,
            "classifier.classifier.3.weight": 8,
        },
        inputs={"backbone.conv1.weight": ((3, 4, 0.25), (4, 6, 15))},
        constants={"classifier.classifier.3.bias": 0},
    ),
    "propagation": FillRule(
        gains={"kv_m_f16.key_proj.weight": 2, "kv_q_f16.key_proj.weight": 2, "kv_m_f16.val_proj.weight": 4},
        inputs={"mask_rgb_encoder.conv1.weight": ((3, 5, 9),)},
        constants={"decoder.pred.bias": -5.5},
    ),
    "propagation_stcn": FillRule(
        gains={"key_proj.key_proj.weight": 2, "decoder.pred.weight": 3},
        inputs={"value_encoder.conv1.weight": ((3, 5, 12),)},
        constants={"decoder.pred.bias": -2.0},
    ),
    "fusion": FillRule(
        gains={**{f"{name}.weight": 1.4 for name in _FUSION}, "final_conv.weight": -2.1},
        inputs={"conv1.0.weight": ((3, 7, 4), (7, 9, 2))},
        constants={"final_conv.bias": -5.0},
    ),
}


def synthetic_state(network_name: str, module: nn.Module) -> dict[str, Tensor]:
    """A state dict for `module`.

    Args:
        network_name: one of `RULES`; a part of a network takes the name of the whole.

    Returns:
        The module's keys in its order, float32 (integer buffers keep their type).
    """
    rule = RULES[network_name]
    return {key: _entry(key, value, rule) for key, value in module.state_dict().items()}


def fill(module: nn.Module, network_name: str) -> nn.Module:
    """Loads `synthetic_state` into a module and returns it, in eval mode."""
    module.load_state_dict(synthetic_state(network_name, module))
    return module.eval()


def _entry(key: str, like: Tensor, rule: FillRule) -> Tensor:
    if not like.is_floating_point():
        return torch.zeros_like(like)
    if key in rule.constants:
        return torch.full_like(like, rule.constants[key])
    shape = tuple(like.shape)
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith(".running_var"):
        noise = 1 + 0.1 * np.abs(noise)
    elif key.endswith((".running_mean", ".bias")):
        noise = 0.1 * noise
    elif len(shape) == 1:
        noise = 1 + 0.1 * noise
    else:
        noise *= rule.gains.get(key, 1) / np.sqrt(np.prod(shape[1:]))
        for first, last, factor in rule.inputs.get(key, ()):
            noise[:, first:last] *= factor
    return torch.from_numpy(noise.astype(np.float32))
