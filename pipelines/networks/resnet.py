"""ResNet (He et al., CVPR 2016) in the three forms the authors' networks use.

* image encoders: three input channels, no convolution has a bias;
* mask encoders: five input channels (image, one object's mask, the other objects' masks), every convolution has one;
* the interaction network's backbone: six input channels and a fourth stage that dilates instead of striding.

Strides sit on the 3 x 3 convolution of a bottleneck and on the first one of a basic block.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.networks.blocks import chain, conv, of_objects

IMAGE_CHANNELS = 3
STAGES = ("layer1", "layer2", "layer3", "layer4")


def conv_norm(module: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """A convolution and its BatchNorm, which is an identity once folded. The result may be overwritten."""
    return norm(conv(module, x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut; four times as many channels out as inside."""

    expansion = 4

    def __init__(self, inputs: int, width: int, *, stride: int = 1, dilation: int = 1, bias: bool = False) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, bias=bias)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=bias)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride, bias)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else chain(self.downsample, x)
        y = F.relu_(conv_norm(self.conv1, self.bn1, x))
        y = F.relu_(conv_norm(self.conv2, self.bn2, y))
        return F.relu_(conv_norm(self.conv3, self.bn3, y).add_(shortcut))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, *, stride: int = 1, dilation: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=dilation, dilation=dilation, bias=bias)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride, bias)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else chain(self.downsample, x)
        y = F.relu_(conv_norm(self.conv1, self.bn1, x))
        return F.relu_(conv_norm(self.conv2, self.bn2, y).add_(shortcut))


def _shortcut(inputs: int, outputs: int, stride: int, bias: bool) -> nn.Sequential | None:
    if inputs == outputs and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=bias), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Stem and three or four stages of a ResNet, without pooling and classifier."""

    def __init__(
        self,
        block: type[Bottleneck] | type[BasicBlock],
        depths: Sequence[int],
        *,
        in_channels: int = IMAGE_CHANNELS,
        bias: bool = False,
        first_stage: str = STAGES[0],
    ) -> None:
        """
        Args:
            depths: blocks of each stage; a fourth stage keeps stride 16 and dilates by 2 from its second block on.
            bias: whether convolutions have one; first_stage: its name in the state dict.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, padding=3, bias=bias)
        self.bn1 = nn.BatchNorm2d(64)
        self.stages = (first_stage, *STAGES[1 : len(depths)])
        inputs, width = 64, 64
        for stage, (name, depth) in enumerate(zip(self.stages, depths, strict=True)):
            stride, dilation = (2, 1) if stage in (1, 2) else (1, 2 if stage == 3 else 1)
            blocks: list[nn.Module] = [block(inputs, width, stride=stride, bias=bias)]
            inputs = width * block.expansion
            blocks += [block(inputs, width, dilation=dilation, bias=bias) for _ in range(1, depth)]
            self.add_module(name, nn.Sequential(*blocks))
            width *= 2

    def forward(self, image: Tensor, masks: Tensor | None = None, owners: Tensor | None = None) -> list[Tensor]:
        """The output of every stage.

        Args:
            image: [B, in_channels, h, w], or [B, 3, h, w] and
            masks: [P, in_channels - 3, h, w] further input channels of P objects, where B = 1, B = P, or
            owners: [P] long gives the image of each object.

        Returns:
            [P, C', h/4, w/4], [.., h/8, w/8], [.., h/16, w/16] and, with a fourth stage, [.., h/16, w/16].
        """
        if masks is None:
            x = conv(self.conv1, image)
        else:
            x = conv(self.conv1, masks, slice(IMAGE_CHANNELS, None))
            x = x + of_objects(conv(self.conv1, image, slice(0, IMAGE_CHANNELS)), owners)
        x = F.max_pool2d(F.relu(self.bn1(x)), 3, stride=2, padding=1)
        features = []
        for name in self.stages:
            x = getattr(self, name)(x)
            features.append(x)
        return features


def image_encoder() -> ResNet:
    """ResNet-50 up to stride 16 (256, 512, 1024 channels) whose first stage is named res2."""
    return ResNet(Bottleneck, (3, 4, 6), first_stage="res2")


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Folds every BatchNorm into the convolution registered before it, in place, for inference.

    Args:
        module: in eval mode. Folded BatchNorms become identities, their convolutions get biases; the state dict is no
            longer that of a checkpoint, so weights are loaded before.

    Returns:
        `module` itself.

    Raises:
        ValueError: it is in training mode, or a BatchNorm follows no convolution.
    """
    if module.training:
        raise ValueError("BatchNorm can be folded in eval mode only")
    before: nn.Module | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            if not isinstance(before, nn.Conv2d):
                raise ValueError(f"BatchNorm {name!r} follows no convolution")
            _fold(before, child)
            setattr(module, name, nn.Identity())
        else:
            fold_batch_norm(child)
        before = child
    return module


@torch.no_grad()
def _fold(module: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    # in float64, so that folding rounds once
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = 0.0 if module.bias is None else module.bias.double()
    shift = norm.bias.double() + (bias - norm.running_mean.double()) * scale
    module.weight.copy_((module.weight.double() * scale[:, None, None, None]).to(module.weight.dtype))
    module.bias = nn.Parameter(shift.to(module.weight.dtype), requires_grad=module.weight.requires_grad)
