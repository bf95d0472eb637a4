"""Models by name: which networks make one up, how they use memory, where their weights come from.

To add a propagation network, write one file with an `nn.Module` of the form in `protocol.py`, and register it here
with its `MemoryRules`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipelines.networks.fusion import FusionNet
from pipelines.networks.nano import NanoFusion, NanoPropagation
from pipelines.networks.nano_s2m import NanoS2M
from pipelines.networks.reading import MemoryRules
from pipelines.networks.recognise import adapt, recognise
from pipelines.networks.resnet import fold_batch_norm
from pipelines.networks.s2m import S2M
from pipelines.networks.stcn import STCN
from pipelines.networks.stm import STM
from stores.checkpoints import read_checkpoint, sha256
from stores.errors import ModelError, UsageError

WEIGHTS = Path(__file__).parent / "weights"
PART_NAMES = PROPAGATION, INTERACTION, FUSION = ("propagation", "s2m", "fusion")


@dataclass(frozen=True)
class Part:
    """One network of a model.

    Attributes:
        build: makes it; network: its name in `recognise`; weights: file shipped in `weights/`, "" if none is.
        compiled: methods that OpenVINO runs faster than PyTorch (see `engine.py`).
    """

    build: Callable[[], nn.Module]
    network: str
    weights: str = ""
    compiled: frozenset[str] = frozenset({"encode_key", "encode_memory", "decode", "forward"})


@dataclass(frozen=True)
class ModelSpec:
    """One model: three networks and the rules of their memory.

    Attributes:
        engine: what runs it fastest on a CPU in float32 (see `engine.py`).
        prob_bits: bits of the probabilities kept in a session of this model.
        careful: interaction leaves objects empty that were never marked, and drops parts far from every stroke;
            without it the network's word is taken for every object, as the authors do.
    """

    name: str
    propagation: Part
    s2m: Part
    fusion: Part
    rules: MemoryRules
    engine: str = "winograd"
    prob_bits: int = 16
    careful: bool = False

    def part(self, name: str) -> Part:
        """The part "propagation", "s2m" or "fusion"."""
        return {PROPAGATION: self.propagation, INTERACTION: self.s2m, FUSION: self.fusion}[name]


STM_RULES = MemoryRules(
    top_k=50,
    every=5,
    temporary=True,
    shared_keys=False,
    similarity="dot",
    scale_dim=STM.key_scale_dim,
    keep_repeated=True,
)
STCN_RULES = MemoryRules(top_k=20, every=5, scale_dim=STCN.key_scale_dim, keep_repeated=True)
_S2M, _FUSION = Part(S2M, "s2m"), Part(FusionNet, "fusion")

MODELS: dict[str, ModelSpec] = {
    "nano": ModelSpec(
        name="nano",
        # the trunks only: for the thin decoders eager PyTorch is as fast
        propagation=Part(
            NanoPropagation, "nano-propagation", "nano_propagation.safetensors", frozenset({"encode_key"})
        ),
        s2m=Part(NanoS2M, "nano-s2m", "nano_s2m.safetensors"),
        fusion=Part(NanoFusion, "nano-fusion", "nano_fusion.safetensors", frozenset()),
        rules=MemoryRules(top_k=20, every=5, temporary=True, max_permanent=2, scale_dim=NanoPropagation.key_scale_dim),
        engine="openvino",
        prob_bits=8,
        careful=True,
    ),
    "mivos": ModelSpec(
        name="mivos", propagation=Part(STM, "propagation"), s2m=_S2M, fusion=_FUSION, rules=STM_RULES
    ),
    "mivos-stcn": ModelSpec(
        name="mivos-stcn", propagation=Part(STCN, "propagation-stcn"), s2m=_S2M, fusion=_FUSION, rules=STCN_RULES
    ),
}  # fmt: skip


def model_spec(name: str) -> ModelSpec:
    """The model of this name.

    Raises:
        UsageError: no such model.
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}", hint=f"choose one of: {', '.join(MODELS)}")
    return MODELS[name]


def assign(model: str, checkpoints: Sequence[Path]) -> dict[str, Path]:
    """Which part of a model each checkpoint file is for: part -> file.

    Raises:
        UsageError: a file holds no part of this model, or two hold the same. ModelError: a file cannot be used.
    """
    spec, found = model_spec(model), dict[str, Path]()
    parts = {spec.part(name).network: name for name in PART_NAMES}
    for path in checkpoints:
        network = recognise(read_checkpoint(path), path)
        if network not in parts:
            users = [
                other.name for other in MODELS.values() if any(other.part(p).network == network for p in PART_NAMES)
            ]
            raise UsageError(
                f"{path} holds the network {network!r}, which model {model!r} does not use",
                hint=f"add --model {' or '.join(users)}" if users else "leave it out",
            )
        part = parts[network]
        if part in found:
            raise UsageError(f"{found[part]} and {path} both hold the network {network!r}", hint="give one of them")
        found[part] = path
    return found


def weight_file(model: str, part: str, given: Path | None = None) -> Path:
    """The file with the weights of a part: `given`, or the shipped, or the downloaded one.

    Raises:
        ModelError: there is none.
    """
    from pipelines.known_checkpoints import PARTS
    from pipelines.models import installed  # with what it takes to download; training does without

    spec = model_spec(model)
    if given is not None:
        return given
    shipped = spec.part(part).weights
    path = WEIGHTS / shipped if shipped else installed(model, part)
    if path is None or not path.is_file():
        if shipped:
            raise ModelError(f"the weights {shipped} of model {model!r} are missing", hint="reinstall mivos")
        raise ModelError(
            f"model {model!r} has no weights for its {part} network here",
            hint=f"mivos models download {PARTS[model][part]}, mivos models import FILE, or --checkpoint FILE",
        )
    return path


def load_network(model: str, part: str, given: Path | None = None, *, fold: bool = True) -> nn.Module:
    """The network `part` ("propagation", "s2m" or "fusion") of a model with its weights, on CPU, in eval mode.

    Args:
        fold: fold BatchNorm into the convolutions: faster, and equal up to rounding.

    Raises:
        UsageError: unknown model. ModelError: weights missing, damaged or of another network.
    """
    path, entry = weight_file(model, part, given), model_spec(model).part(part)
    network = entry.build()
    state = adapt(read_checkpoint(path), entry.network, path)
    network.load_state_dict(state)
    network = network.eval().requires_grad_(False)
    network = fold_batch_norm(network) if fold else network
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def weights_digest(model: str, part: str, given: Path | None = None) -> str:
    """SHA-256 of the weight file of a part, hexadecimal."""
    path = weight_file(model, part, given)
    status = path.stat()
    return _digest(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _digest(path: Path, modified: int, size: int) -> str:
    return sha256(path)


def facts(model: str, given: dict[str, Path]) -> dict[str, Any]:
    """What a round's log keeps of a model: its name, rules and the digests of the weights that are there."""
    rules, digests = model_spec(model).rules, {}
    for part in PART_NAMES:
        try:
            digests[part] = weights_digest(model, part, given.get(part))[:16]
        except ModelError:
            continue  # a part that is never asked for may be missing
    return {"name": model, "top_k": rules.top_k, "memory_every": rules.every, "weights": digests}
