"""Layers that the authors' STM and STCN share: convolution helper, residual block, projections, decoder.

What depends on the image alone is computed once with the image's batch and then broadcast over its objects. A
convolution over two concatenated inputs is the sum of two convolutions with slices of its weight, so its image half
is computed once, too.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.networks.winograd import FAST, applies


def conv(
    module: nn.Conv2d, x: Tensor, inputs: slice | None = None, *, relu: bool = False, add: Tensor | None = None
) -> Tensor:
    """Applies a convolution, or the part of it that sees only some input channels.

    Modules prepared by `winograd.attach` go the fast way wherever it applies.

    Args:
        x: [B, C, h, w]; inputs: which of the module's input channels `x` holds, all if None. The bias is part of the
            result only if they begin at channel 0, so that the parts add up to the whole.
        relu: clips `x` below at zero first; add: added to the result, of its shape.

    Returns:
        [B, C', h', w'].
    """
    bias = None if inputs is not None and inputs.start else module.bias
    fast = module.__dict__.get(FAST)
    if fast is not None and applies(x):
        return fast(x, bias, inputs, relu, add)
    weight = module.weight if inputs is None else module.weight[:, inputs]
    y = F.conv2d(F.relu(x) if relu else x, weight, bias, module.stride, module.padding, module.dilation)
    return y if add is None else y.add_(add)  # nothing else holds the convolution's own result


def chain(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Applies layers in order, convolutions by `conv`."""
    for layer in layers:
        x = conv(layer, x) if isinstance(layer, nn.Conv2d) else layer(x)
    return x


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """3 x 3 convolution of stride 1 with a bias that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def of_objects(x: Tensor, owners: Tensor | None) -> Tensor:
    """Image maps for each object: row `owners[p]` of [B, ...]; unchanged (and later broadcast) if None."""
    return x if owners is None else x[owners]


def upsample(x: Tensor, factor: int) -> Tensor:
    """[B, C, h, w] -> [B, C, factor * h, factor * w], bilinear."""
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """shortcut(x) + conv2(relu(conv1(relu(x)))); the shortcut is a convolution where the channel count changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.downsample = None if inputs == outputs else conv3x3(inputs, outputs)
        self.conv1 = conv3x3(inputs, outputs)
        self.conv2 = conv3x3(outputs, outputs)

    def forward(self, x: Tensor, image: Tensor | None = None, owners: Tensor | None = None) -> Tensor:
        """The block on `x`, or on the concatenation of `x` and `image` along channels.

        Args:
            x: [P, C, H, W]; image: [B, C', H, W] the channels after those of `x`, with B = 1, B = P, or any B and
                owners: [P] long, the batch row of each object.

        Returns:
            [P, outputs, H, W].
        """
        if image is None:
            shortcut = x if self.downsample is None else conv(self.downsample, x)
            inner = conv(self.conv1, x, relu=True)
        else:
            if self.downsample is None:
                raise ValueError("only a block that changes the channel count takes two inputs")
            shortcut = _split(self.downsample, x, image, owners)
            inner = _split(self.conv1, x, image, owners, relu=True)
        return conv(self.conv2, inner, relu=True, add=shortcut)


def _split(module: nn.Conv2d, x: Tensor, image: Tensor, owners: Tensor | None, *, relu: bool = False) -> Tensor:
    """`module` on [x, image] along channels."""
    shared = of_objects(conv(module, image, slice(x.shape[1], None), relu=relu), owners)
    return conv(module, x, slice(0, x.shape[1]), relu=relu, add=shared.expand(len(x), -1, -1, -1))


class KeyProjection(nn.Module):
    """f16 [B, 1024, H, W] -> key [B, Ck, H, W]."""

    def __init__(self, inputs: int, key_dim: int) -> None:
        super().__init__()
        self.key_proj = conv3x3(inputs, key_dim)

    def forward(self, x: Tensor) -> Tensor:
        return conv(self.key_proj, x)


class KeyValueProjection(KeyProjection):
    """f16 [B, 1024, H, W] -> key [B, Ck, H, W] (forward) and value [B, Cv, H, W]."""

    def __init__(self, inputs: int, key_dim: int, value_dim: int) -> None:
        super().__init__(inputs, key_dim)
        self.val_proj = conv3x3(inputs, value_dim)

    def value(self, x: Tensor) -> Tensor:
        return conv(self.val_proj, x)


class UpBlock(nn.Module):
    """Doubles the resolution with the help of image features at the finer scale."""

    def __init__(self, inputs: int, outputs: int, *, skip_block: bool) -> None:
        """
        Args:
            skip_block: the image features pass a residual block after their convolution (STM); not in STCN.
        """
        super().__init__()
        self.skip_block = skip_block
        if skip_block:
            self.skip_conv1 = conv3x3(inputs, inputs)
            self.skip_conv2 = ResidualBlock(inputs, inputs)
        else:
            self.skip_conv = conv3x3(inputs, inputs)
        self.out_conv = ResidualBlock(inputs, outputs)

    def forward(self, x: Tensor, features: Tensor, owners: Tensor | None = None) -> Tensor:
        """[P, inputs, H, W], features [B, inputs, 2H, 2W] -> [P, outputs, 2H, 2W]."""
        if self.skip_block:
            skip = self.skip_conv2(conv(self.skip_conv1, features))
        else:
            skip = conv(self.skip_conv, features)
        return self.out_conv(upsample(x, 2) + of_objects(skip, owners))


class Decoder(nn.Module):
    """Read-out and image features to logits (STM, section 3.3, with 512 and 256 channels)."""

    def __init__(self, *, skip_block: bool) -> None:
        super().__init__()
        self.compress = ResidualBlock(1024, 512)
        self.up_16_8 = UpBlock(512, 256, skip_block=skip_block)
        self.up_8_4 = UpBlock(256, 256, skip_block=skip_block)
        self.pred = conv3x3(256, 1)

    def forward(self, readout: Tensor, f16: Tensor, f8: Tensor, f4: Tensor, owners: Tensor | None = None) -> Tensor:
        """Logits of P objects.

        Args:
            readout: [P, 512, H, W]; f16: [B, 512, H, W], f8: [B, 512, h/8,
                w/8], f4: [B, 256, h/4, w/4]; owners as in `ResidualBlock`.

        Returns:
            [P, 1, h, w].
        """
        x = self.compress(readout, f16, owners)
        x = self.up_16_8(x, f8, owners)
        x = self.up_8_4(x, f4, owners)
        return upsample(conv(self.pred, x, relu=True), 4)
