"""The authors' difference-aware fusion (Cheng et al. (MiVOS), CVPR 2021, section 3.3) at full resolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.networks.blocks import chain, conv, conv3x3

CHANNELS = 32
IMAGE_CHANNELS = 3


def _block() -> nn.Sequential:
    return nn.Sequential(conv3x3(CHANNELS, CHANNELS), nn.ReLU(), conv3x3(CHANNELS, CHANNELS))


class FusionNet(nn.Module):
    """Joins an older and a newer segmentation of each object, 39 905 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv3x3(9, CHANNELS))
        self.conv2 = _block()
        self.conv3 = _block()
        self.final_conv = conv3x3(CHANNELS, 1)

    def forward(self, image: Tensor, seg1: Tensor, seg2: Tensor, attention: Tensor, time: Tensor) -> Tensor:
        """Fuses K objects.

        Args:
            image: [1 or K, 3, h, w]; seg1, seg2: [K, 1, h, w] older and newer probabilities;
            attention: [K, 2, h, w] positive and negative difference carried to this frame;
            time: [K, 2] distances to the older and the newer interaction, summing to 1.

        Returns:
            [K, 1, h, w] logits of the fused probabilities.
        """
        stem = self.conv1[0]
        assert isinstance(stem, nn.Conv2d)
        planes = time[:, :, None, None].expand(-1, -1, *seg1.shape[-2:])
        objects = torch.cat([seg1, seg2, attention, planes], dim=1)  # (K, 6, h, w)
        x = conv(stem, objects, slice(IMAGE_CHANNELS, None))
        x = F.relu(x + conv(stem, image, slice(0, IMAGE_CHANNELS)))  # the image's part is computed once
        x = F.relu(x + chain(self.conv2, x))
        x = F.relu(x + chain(self.conv3, x))
        return conv(self.final_conv, x)
