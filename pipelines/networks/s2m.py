"""The authors' interaction network S2M (Cheng et al. (MiVOS), CVPR 2021, section 3.1): strokes to an object mask.

DeepLabV3+ (Chen et al., ECCV 2018) with ResNet-50, output stride 16, six input channels and one output channel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.networks.blocks import chain
from pipelines.networks.resnet import Bottleneck, ResNet

DILATIONS = (6, 12, 18)


def _layers(inputs: int, outputs: int, size: int = 1, dilation: int = 1) -> list[nn.Module]:
    """Convolution without bias, BatchNorm, ReLU."""
    padding = dilation * (size // 2)
    convolution = nn.Conv2d(inputs, outputs, size, padding=padding, dilation=dilation, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class PyramidPooling(nn.Module):
    """Atrous spatial pyramid pooling: one map seen with five fields of view."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        branches = [nn.Sequential(*_layers(inputs, 256))]
        branches += [nn.Sequential(*_layers(inputs, 256, 3, dilation)) for dilation in DILATIONS]
        branches.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), *_layers(inputs, 256)))
        self.convs = nn.ModuleList(branches)
        self.project = nn.Sequential(*_layers(len(branches) * 256, 256), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, 256, H, W]."""
        *local, pooled = (chain(branch, x) for branch in self.convs)  # type: ignore[arg-type]
        wide = pooled.expand(-1, -1, *x.shape[-2:])  # resizing one pixel is repeating it
        return chain(self.project, torch.cat([*local, wide], dim=1))


class DeepLabHead(nn.Module):
    """Joins coarse and fine features to logits at stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Sequential(*_layers(256, 48))
        self.aspp = PyramidPooling(2048)
        self.classifier = nn.Sequential(*_layers(304, 256, 3), nn.Conv2d(256, 1, 1))

    def features(self, f4: Tensor, f16: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 256, h/4, w/4], [N, 2048, H, W] -> coarse [N, 256, H, W], fine [N, 48, h/4, w/4]."""
        fine = chain(self.project, f4)
        return self.aspp(f16), fine

    def join(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """What `features` gave -> logits [N, 1, h/4, w/4]."""
        coarse = _resize(coarse, fine.shape[-2:])
        return chain(self.classifier, torch.cat([fine, coarse], dim=1))

    def forward(self, f4: Tensor, f16: Tensor) -> Tensor:
        """[N, 256, h/4, w/4], [N, 2048, H, W] -> logits [N, 1, h/4, w/4]."""
        return self.join(*self.features(f4, f16))


class S2M(nn.Module):
    """[N, 6, h, w] (RGB normalised, previous mask, positive, negative strokes) -> logits [N, 1, h, w]."""

    reach = 1  # see `protocol.StrokeNetwork`

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet(Bottleneck, (3, 4, 6, 3), in_channels=6)
        self.classifier = DeepLabHead()

    def forward(self, x: Tensor) -> Tensor:
        return self.enlarge(self.head(*self.features(x)), x.shape[-2:])

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 6, h, w] -> the pyramid's output [N, 256, H, W] and fine features [N, 48, h/4, w/4]."""
        f4, _, _, f16 = self.backbone(x)
        return self.classifier.features(f4, f16)

    def head(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """What `features` gave -> logits [N, 1, h/4, w/4]."""
        return self.classifier.join(coarse, fine)

    def enlarge(self, logits: Tensor, size: tuple[int, ...]) -> Tensor:
        """[N, 1, h/4, w/4] -> [N, 1, *size]."""
        return _resize(logits, size)
