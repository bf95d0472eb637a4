"""What a training run begins with: a whole network, an earlier stage, ImageNet or VOC weights.

Words that `--start-from` takes beside weight files: "imagenet" (downloaded by torchvision), "none" (random), "nano".
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.networks.recognise import STEMS, adapt
from pipelines.networks.registry import MODELS, WEIGHTS, model_spec
from stores.checkpoints import read_checkpoint
from stores.errors import ModelError, UsageError

if TYPE_CHECKING:
    from pipelines.training.base import Recipe

log = logging.getLogger("mivos")
IMAGENET, NOTHING = "imagenet", "none"
RESNETS = {"resnet18": "layer1.0.conv1.weight", "resnet50": "layer1.0.conv3.weight"}
_LAYERS = ("layer1", "layer2", "layer3", "layer4")


def load_whole(network: nn.Module, recipe: Recipe, sources: tuple[str, ...]) -> None:
    """Loads one file (or a model's shipped weights, by its name) into the whole network.

    Raises:
        UsageError: several were given, or the model ships none. ModelError: it is of another network.
    """
    (source,) = _one(sources)
    if source in (NOTHING, IMAGENET):
        return
    network.load_state_dict(adapt(read_checkpoint(weights_of(source, recipe.part)), recipe.network, source))


def weights_of(source: str, part: str) -> Path:
    """The file that a word of `--start-from` means."""
    if source not in MODELS:
        return Path(source)
    shipped = model_spec(source).part(part).weights
    if not shipped:
        raise UsageError(f"model {source!r} ships no weights", hint="give the weight file itself")
    return WEIGHTS / shipped


def load_propagation_start(network: nn.Module, name: str, sources: tuple[str, ...]) -> None:
    """Begins STM or STCN: from an earlier stage, or its encoders from ImageNet.

    A file of stage 0 (one object) gets an orthogonally initialised channel for the other objects (training.md, 3.1).

    Args:
        name: the network as `recognise` knows it; sources: one file of it, ImageNet ResNet files, "imagenet", "none".

    Raises:
        ModelError: a file is of something else, or the download failed. UsageError: the files do not go together.
    """
    words = sources or (IMAGENET,)
    if NOTHING in words:
        return
    resnets: dict[str, dict[str, Tensor]] = {}
    for word in words:
        if word == IMAGENET:
            needed = {"resnet50"} | ({"resnet18"} if name == "propagation-stcn" else set())
            resnets |= {kind: download_resnet(kind) for kind in sorted(needed - resnets.keys())}
            continue
        state = read_checkpoint(Path(word))
        kind = _resnet_kind(state)
        if kind is not None:
            resnets[kind] = state
            continue
        _one(sources)
        load_stage(network, name, state, word)
        return
    for prefix, kind in _encoders(name).items():
        if kind not in resnets:
            raise UsageError(f"{name} begins with two ImageNet networks, {kind} is missing", hint=f"add {kind}'s file")
        load_resnet(network.get_submodule(prefix), resnets[kind])


def load_stage(network: nn.Module, name: str, state: dict[str, Tensor], source: str) -> None:
    """Loads the weights of an earlier stage into a network with four or five input channels of its mask encoder."""
    stem = STEMS[name]
    wanted = network.state_dict()[stem].shape[1]
    weight = state.get(stem)
    if weight is not None and weight.dim() == 4 and weight.shape[1] != wanted:
        if weight.shape[1] > wanted:
            raise ModelError(
                f"{source}: was trained with several objects, stage 0 has one", hint="take the recipe of a later stage"
            )
        extra = torch.empty_like(weight[:, :1])
        nn.init.orthogonal_(extra)
        state = {**state, stem: torch.cat([weight, extra], dim=1)}
    loaded = adapt(state, name, source)
    if wanted < loaded[stem].shape[1]:  # `adapt` completes stage 0
        loaded[stem] = loaded[stem][:, :wanted]
    network.load_state_dict(loaded)


def load_s2m_start(network: nn.Module, sources: tuple[str, ...]) -> None:
    """Begins S2M: from a DeepLabV3+ of 21 VOC classes, its own file, or an ImageNet ResNet-50.

    Tensors of another shape are made anew: a bias is zero, the classifier's row and the three further input channels
    are orthogonal (training.md, section 4).

    Raises:
        UsageError: nothing was given. ModelError: the file is of another network.
    """
    if not sources:
        raise UsageError(
            "S2M begins with a DeepLabV3+ of VOC classes, which has no address here",
            hint="--start-from FILE (key model_state), or: imagenet, none",
        )
    (source,) = _one(sources)
    if source == NOTHING:
        return
    state = download_resnet("resnet50") if source == IMAGENET else read_training_file(Path(source))
    if _resnet_kind(state) == "resnet50":
        load_resnet(network.get_submodule("backbone"), state)
        return
    wanted, made = network.state_dict(), {}
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(f"{source}: has no {missing[0]}", hint="give a DeepLabV3+ ResNet-50 of VOC classes")
    for key, value in wanted.items():
        given = state.get(key, value)
        made[key] = given if given.shape == value.shape else _reshaped(key, given, value, source)
    network.load_state_dict(made)


def _reshaped(key: str, given: Tensor, value: Tensor, source: str) -> Tensor:
    if value.dim() == 1:
        return torch.zeros_like(value)
    if value.shape[1:] == given.shape[1:]:
        return nn.init.orthogonal_(torch.empty_like(value))
    if value.shape[0] == given.shape[0] and value.shape[2:] == given.shape[2:] and value.shape[1] > given.shape[1]:
        extra = torch.empty_like(value[:, given.shape[1] :])
        return torch.cat([given, nn.init.orthogonal_(extra)], dim=1)
    raise ModelError(f"{source}: {key} is {list(given.shape)}, not {list(value.shape)}", hint="give a VOC DeepLabV3+")


def load_resnet(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """ImageNet weights in torchvision's (and timm's) names into an encoder of ours.

    Further input channels are orthogonal; biases, which ImageNet's convolutions lack, are zero.
    """
    made = {}
    for key, value in encoder.state_dict().items():
        name = key.replace("res2.", "layer1.")
        if name in state:
            given = state[name]
            made[key] = given if given.shape == value.shape else _reshaped(key, given, value, "the ImageNet weights")
        elif name.startswith(("conv1.", "bn1.", *_LAYERS)) and name.endswith(".weight"):
            raise ModelError(f"the ImageNet weights have no {name}", hint="give resnet50 or resnet18 of torchvision")
        elif name.endswith(".bias") and name.startswith(("conv1.", *_LAYERS)):
            made[key] = torch.zeros_like(value)
        else:
            made[key] = value  # what is no part of the ResNet, and counters
    encoder.load_state_dict(made)


def download_resnet(kind: str) -> dict[str, Tensor]:
    """ImageNet weights "resnet18" or "resnet50" through torchvision, from its cache where they are.

    Raises:
        ModelError: torchvision or the network is missing.
    """
    try:
        from torchvision.models import ResNet18_Weights, ResNet50_Weights
    except ImportError as error:
        raise ModelError("ImageNet weights need torchvision", hint='pip install "mivos[train]"') from error
    weights = {"resnet18": ResNet18_Weights.IMAGENET1K_V1, "resnet50": ResNet50_Weights.IMAGENET1K_V1}[kind]
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"cannot download {weights.url}: {error}",
            hint="download it elsewhere and give it: --start-from FILE, or begin at random: --start-from none",
        ) from error


def read_training_file(path: Path) -> dict[str, Tensor]:
    """Like `read_checkpoint`, also for DeepLab's training files: weights under "model_state", beside a numpy score."""
    try:
        scalar = [np._core.multiarray.scalar, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]  # type: ignore[attr-defined]
        with torch.serialization.safe_globals(scalar):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return read_checkpoint(path)  # it says what is wrong, and reads safetensors
    if isinstance(content, dict) and isinstance(content.get("model_state"), dict):
        return {key.removeprefix("module."): value.float() for key, value in content["model_state"].items()}
    return read_checkpoint(path)


def _resnet_kind(state: Mapping[str, Tensor]) -> str | None:
    """Which ImageNet ResNet a state dict is, None if it is none."""
    if "conv1.weight" not in state or RESNETS["resnet18"] not in state:
        return None
    return "resnet50" if RESNETS["resnet50"] in state else "resnet18"


def _encoders(name: str) -> dict[str, str]:
    """Submodule -> the ResNet it begins with."""
    if name == "propagation":
        return {"rgb_encoder": "resnet50", "mask_rgb_encoder": "resnet50"}
    return {"key_encoder": "resnet50", "value_encoder": "resnet18"}


def _one(sources: tuple[str, ...]) -> tuple[str, ...]:
    if len(sources) != 1:
        raise UsageError(f"one file to start from is needed, {len(sources)} were given", hint="give one")
    return sources
