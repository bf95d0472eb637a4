"""Which network a state dict belongs to, by its keys and shapes.

A tell-tale key picks the candidate, then every key and shape is compared with the network itself, built on the meta
device (no memory, no initialisation). Two networks with equal keys and shapes are one name here: both fusion networks
of the authors are "fusion".
"""

from __future__ import annotations

import importlib
import logging
from functools import lru_cache

import torch
from torch import Tensor

from stores.errors import ModelError

log = logging.getLogger("mivos")

# name -> (module, class, a key that no other network has)
NETWORKS: dict[str, tuple[str, str, str]] = {
    "s2m": ("s2m", "S2M", "classifier.aspp.convs.0.0.weight"),
    "propagation": ("stm", "STM", "kv_m_f16.key_proj.weight"),
    "propagation-stcn": ("stcn", "STCN", "key_comp.weight"),
    "fusion": ("fusion", "FusionNet", "final_conv.weight"),
    "nano-propagation": ("nano", "NanoPropagation", "position_scale"),
    "nano-s2m": ("nano_s2m", "NanoS2M", "marks16.weight"),
    "nano-fusion": ("nano", "NanoFusion", "block3.depthwise.weight"),
}

# The first convolution over image and masks. Files of training stage 0 (one object) have no channel for the other
# objects' masks, the last of five.
STEMS = {"propagation": "mask_rgb_encoder.conv1.weight", "propagation-stcn": "value_encoder.conv1.weight"}
COUNTER = "num_batches_tracked"  # of BatchNorm; unused in inference and left out of some files
UNKNOWN = 0.1  # a network with less than this share of keys in common is not worth naming


def recognise(state: dict[str, Tensor], source: object = "checkpoint") -> str:
    """The name of the network that `state` belongs to.

    Args:
        source: the file, for messages.

    Returns:
        "s2m", "propagation" (STM), "propagation-stcn", "fusion", or "nano-" and a part of the embedded model.

    Raises:
        ModelError: no known network, or keys or shapes differ from the nearest one.
    """
    name = next((name for name, (_, _, key) in NETWORKS.items() if key in state), None) or _nearest(state)
    if name is None:
        some = ", ".join(sorted(state)[:3])
        raise ModelError(
            f"{source}: is of no network known here; its keys begin {some}",
            hint=f"known are: {', '.join(NETWORKS)}",
        )
    problems = _differences(_extended(state, name), expected_shapes(name))
    if problems:
        raise ModelError(
            f"{source}: is nearest to {name!r}, but {'; '.join(problems)}",
            hint="it belongs to a changed version of that network, or the file is incomplete",
        )
    return name


def adapt(state: dict[str, Tensor], name: str, source: object = "checkpoint") -> dict[str, Tensor]:
    """`state` as the network `name` loads it strictly: in its order, complete and with a stem for several objects.

    A stem of training stage 0 gets a zero channel, as STCN's evaluation does; missing BatchNorm counters become 0.

    Raises:
        ModelError: keys or shapes are not those of `name`.
    """
    wanted = expected_shapes(name)
    extended = _extended(state, name)
    problems = _differences(extended, wanted)
    if problems:
        raise ModelError(f"{source}: is not of network {name!r}: {'; '.join(problems)}", hint="see `mivos models list`")
    if extended is not state:
        log.warning("%s: trained with one object only; a zero channel for the others was added to %s", source, name)
    return {key: extended[key] if key in extended else torch.zeros((), dtype=torch.int64) for key in wanted}


@lru_cache(maxsize=len(NETWORKS))
def expected_shapes(name: str) -> dict[str, torch.Size]:
    """Keys and shapes of a network's state dict, in its order.

    Raises:
        KeyError: no network of this name.
    """
    module, cls, _ = NETWORKS[name]
    build = getattr(importlib.import_module(f"pipelines.networks.{module}"), cls)
    with torch.device("meta"):
        return {key: value.shape for key, value in build().state_dict().items()}


def _extended(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """`state` itself, or a copy with the fifth stem channel where a stage 0 file lacks it."""
    stem = STEMS.get(name)
    if stem is None or stem not in state:
        return state
    weight = state[stem]
    if weight.dim() != 4 or weight.shape[1] != 4:
        return state
    return {**state, stem: torch.cat([weight, torch.zeros_like(weight[:, :1])], dim=1)}


def _differences(state: dict[str, Tensor], wanted: dict[str, torch.Size]) -> list[str]:
    missing = [key for key in wanted if key not in state and not key.endswith(COUNTER)]
    unexpected = [key for key in state if key not in wanted]
    shapes = [key for key in wanted if key in state and state[key].shape != wanted[key]]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(wanted)} keys are missing, the first is {missing[0]}")
    if unexpected:
        problems.append(f"{len(unexpected)} keys are unexpected, the first is {unexpected[0]}")
    if shapes:
        key = shapes[0]
        problems.append(f"{len(shapes)} shapes differ: {key} is {_size(state[key].shape)}, not {_size(wanted[key])}")
    return problems


def _nearest(state: dict[str, Tensor]) -> str | None:
    """The network with the largest share of keys in common."""

    def share(name: str) -> float:
        wanted = expected_shapes(name).keys()
        return len(state.keys() & wanted) / len(state.keys() | wanted)

    best = max(NETWORKS, key=share)
    return best if share(best) >= UNKNOWN else None


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "a scalar"
