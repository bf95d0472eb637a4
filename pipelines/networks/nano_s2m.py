"""The embedded interaction-to-mask network: strokes and a previous mask to an object mask.

Same input and output as the authors' S2M (MiVOS, section 3.1). EfficientNet-Lite0 with six input channels and a
light top-down decoder; besides, the mean feature under the positive and under the negative strokes is compared with
every position, which tells the decoder "looks like what was marked" without having to learn it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.networks.nano import LightBlock, LiteTrunk, ResidualBlock

WIDTH = 96
WORKING_SIDE = 352  # larger images are seen at this shorter side: objects then have the size they had in training


def _mean_under(features: Tensor, weights: Tensor) -> Tensor:
    """[N, C, H, W], [N, 1, H, W] -> weighted mean [N, C, 1, 1]; zero where the weights are all zero."""
    total = weights.sum(dim=(2, 3), keepdim=True)
    return (features * weights).sum(dim=(2, 3), keepdim=True) / (total + 1e-4)


def _cosine(features: Tensor, mark: Tensor) -> Tensor:
    """[N, C, H, W], [N, C, 1, 1] -> [N, 1, H, W]; zero for a zero mark. Not every engine has it as an operator."""
    # the constant is inside the root, whose slope at zero is infinite
    squares = features.square().sum(1, keepdim=True) * mark.square().sum(1, keepdim=True)
    return (features * mark).sum(1, keepdim=True) / (squares + 1e-12).sqrt()


class NanoS2M(nn.Module):
    """[N, 6, h, w] (RGB normalised, previous mask, positive, negative strokes) -> logits [N, 1, h, w]."""

    reach = 4  # see `protocol.StrokeNetwork`

    def __init__(self) -> None:
        super().__init__()
        self.trunk = LiteTrunk(in_chans=6)
        self.context32 = nn.Conv2d(320, WIDTH, 1)
        self.pooled = nn.Conv2d(320, WIDTH, 1)
        self.block32 = ResidualBlock(WIDTH)
        self.side16 = nn.Conv2d(112, WIDTH, 1)
        self.marks16 = nn.Conv2d(2 * WIDTH, WIDTH, 1)
        self.similar16 = nn.Conv2d(5, WIDTH, 3, padding=1)
        self.block16 = ResidualBlock(WIDTH)
        self.side8 = nn.Conv2d(40, 64, 1)
        self.narrow8 = nn.Conv2d(WIDTH, 64, 1)
        self.block8 = ResidualBlock(64)
        self.side4 = nn.Conv2d(24, 32, 1)
        self.narrow4 = nn.Conv2d(64, 32, 1)
        self.strokes4 = nn.Conv2d(3, 32, 3, padding=1)
        self.block4 = ResidualBlock(32)
        self.light4 = LightBlock(32)
        self.pred = nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.enlarge(self.head(*self.features(x)), (int(x.shape[-2]), int(x.shape[-1])))

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the finest part of the decoder starts from, at the size [h', w'] at which the network sees images.

        Args:
            x: [N, 6, h, w].

        Returns:
            Decoder's map [N, 64, h'/8, w'/8]; image and stroke sides at stride 4, both [N, 32, h'/4, w'/4].
        """
        height, width = int(x.shape[-2]), int(x.shape[-1])
        shrink = WORKING_SIDE / min(height, width)
        if shrink < 1:
            size = (round(height * shrink / 16) * 16, round(width * shrink / 16) * 16)
            picture = F.interpolate(x[:, :4], size=size, mode="area")  # image and previous mask
            strokes = F.adaptive_max_pool2d(x[:, 4:], size)  # thin lines must not fade
            x = torch.cat([picture, strokes], dim=1)
        f4, f8, f16, f32 = self.trunk(x)
        marks = x[:, 3:6]  # previous, positive, negative
        size16, size8 = f16.shape[-2:], f8.shape[-2:]
        # maxima keep a one-pixel stroke visible at stride 16
        marks16 = F.adaptive_max_pool2d(marks, (int(size16[0]), int(size16[1])))
        wide = self.context32(f32) + self.pooled(f32.mean(dim=(2, 3), keepdim=True))
        wide = F.interpolate(self.block32(wide), size=size16, mode="bilinear", align_corners=False)
        y = self.side16(f16) + wide  # (N, 96, H, W)
        positive = _mean_under(y, marks16[:, 1:2])
        negative = _mean_under(y, marks16[:, 2:3])
        similar = torch.cat([_cosine(y, positive), _cosine(y, negative), marks16], dim=1)
        y = y + self.marks16(torch.cat([positive, negative], dim=1)) + self.similar16(similar)
        y = self.block16(y)
        y = F.interpolate(self.narrow8(F.relu(y)), size=size8, mode="bilinear", align_corners=False) + self.side8(f8)
        return self.block8(y), self.side4(f4), self.strokes4(F.max_pool2d(marks, 4))

    def head(self, y: Tensor, side4: Tensor, strokes4: Tensor) -> Tensor:
        """What `features` gave -> logits [N, 1, h'/4, w'/4]."""
        y = F.interpolate(self.narrow4(F.relu(y)), size=side4.shape[-2:], mode="bilinear", align_corners=False) + side4
        y = self.block4(y + strokes4)
        return self.pred(F.relu(self.light4(y)))

    def enlarge(self, logits: Tensor, size: tuple[int, ...]) -> Tensor:
        """[N, 1, h'/4, w'/4] -> [N, 1, *size]; over h' x w', as in training."""
        inner = (4 * int(logits.shape[-2]), 4 * int(logits.shape[-1]))
        logits = F.interpolate(logits, size=inner, mode="bilinear", align_corners=False)
        if inner == tuple(size):
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
