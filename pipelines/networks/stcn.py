"""The authors' propagation network STCN (Cheng et al., NeurIPS 2021).

Keys come from the image alone and are shared by all objects; a light encoder adds a value for each object. Its
attention is CBAM (Woo et al., ECCV 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.networks.blocks import Decoder, KeyProjection, ResidualBlock, conv, conv3x3
from pipelines.networks.protocol import Query
from pipelines.networks.resnet import BasicBlock, ResNet, image_encoder

REDUCTION = 16  # channels per hidden unit of CBAM's channel gate


class ChannelGate(nn.Module):
    """Weighs channels by their mean and maximum over the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3)))
        return x * torch.sigmoid(weight)[:, :, None, None]


class _Spatial(nn.Module):
    # only there because the state dict has a level of this name
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)


class SpatialGate(nn.Module):
    """Weighs positions by the maximum and mean over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = _Spatial()

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(conv(self.spatial.conv, summary))


class CBAM(nn.Module):
    """Channel gate, then spatial gate; any [N, C, H, W] to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        return self.SpatialGate(self.ChannelGate(x))


class Fuser(nn.Module):
    """Joins an object's features with the image's."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block1 = ResidualBlock(inputs, outputs)
        self.attention = CBAM(outputs)
        self.block2 = ResidualBlock(outputs, outputs)

    def forward(self, x: Tensor, f16: Tensor, owners: Tensor | None = None) -> Tensor:
        """[P, 256, H, W], [B, 1024, H, W] -> [P, 512, H, W]."""
        x = self.block1(x, f16, owners)
        return self.block2(x + self.attention(x))


class ValueEncoder(ResNet):
    """ResNet-18 on image and masks, fused with the image's own features."""

    def __init__(self) -> None:
        super().__init__(BasicBlock, (2, 2, 2), in_channels=5, bias=True)
        self.fuser = Fuser(256 + 1024, 512)

    def encode(self, image: Tensor, f16: Tensor, masks: Tensor, owners: Tensor | None = None) -> Tensor:
        """[B, 3, h, w], [B, 1024, H, W], mask and others [P, 2, h, w] -> [P, 512, H, W]."""
        return self.fuser(self(image, masks, owners)[-1], f16, owners)


class STCN(nn.Module):
    """Propagation network of MiVOS-STCN and of STCN itself, 54.4 M parameters."""

    key_scale_dim = 64  # similarity is divided by sqrt of this
    value_dim = 512
    shared_keys = True
    similarity = "l2"

    def __init__(self) -> None:
        super().__init__()
        self.value_encoder = ValueEncoder()
        self.key_encoder = image_encoder()
        self.key_proj = KeyProjection(1024, self.key_scale_dim)
        self.key_comp = conv3x3(1024, self.value_dim)
        self.decoder = Decoder(skip_block=False)

    def encode_image(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, h, w] normalised -> f16 [B, 1024, H, W], f8 [B, 512, h/8, w/8], f4 [B, 256, h/4, w/4]."""
        f4, f8, f16 = self.key_encoder(image)
        return f16, f8, f4

    def encode_key(self, image: Tensor) -> Query:
        """Key and features of an image.

        Args:
            image: [B, 3, h, w] float, ImageNet-normalised.

        Returns:
            Query with key [B, 64, H, W] and features (thin [B, 512, H, W], f16 [B, 1024, H, W],
            f8 [B, 512, h/8, w/8], f4 [B, 256, h/4, w/4]).
        """
        f16, f8, f4 = self.encode_image(image)
        return Query(self.key_proj(f16), (conv(self.key_comp, f16), f16, f8, f4))

    def encode_value(
        self, image: Tensor, query: Query, masks: Tensor, others: Tensor, owners: Tensor | None = None
    ) -> Tensor:
        """Memory values of P objects on images; `query` is the images' own.

        Args:
            image: [B, 3, h, w]; masks: [P, 1, h, w] probabilities; others: [P, 1, h, w] sum of all other objects of
                the image; owners: [P] long, the batch row of each object; None when the batch is one image.

        Returns:
            [P, 512, H, W].
        """
        return self.value_encoder.encode(image, query.features[1], torch.cat([masks, others], dim=1), owners)

    def encode_memory(
        self, image: Tensor, query: Query, masks: Tensor, others: Tensor, owners: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`query.key` [B, 64, H, W] itself, and the value of `encode_value`."""
        return query.key, self.encode_value(image, query, masks, others, owners)

    def decode(self, readout: Tensor, query: Query, previous: Tensor, owners: Tensor | None = None) -> Tensor:
        """Object logits from what was read out of memory.

        Args:
            readout: [P, 512, H, W]; previous: unused here, part of the interface; owners as in `encode_value`.

        Returns:
            [P, 1, h, w] logits.
        """
        thin, _, f8, f4 = query.features
        return self.decoder(readout, thin, f8, f4, owners)
