"""The authors' propagation network of the STM family (Oh et al., ICCV 2019; MiVOS, CVPR 2021, section 3.2).

Memory keys and values both come from an encoder that sees image and mask, so every object has keys of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.networks.blocks import Decoder, KeyValueProjection
from pipelines.networks.protocol import Query
from pipelines.networks.resnet import Bottleneck, ResNet, image_encoder


class STMEncoders(nn.Module):
    """The part of STM before the memory; it is all that correspondences and fusion training need."""

    key_scale_dim = 128  # similarity is divided by sqrt of this
    value_dim = 512
    shared_keys = False
    similarity = "dot"

    def __init__(self) -> None:
        super().__init__()
        self.mask_rgb_encoder = ResNet(Bottleneck, (3, 4, 6), in_channels=5, bias=True)
        self.rgb_encoder = image_encoder()
        self.kv_m_f16 = KeyValueProjection(1024, self.key_scale_dim, self.value_dim)
        self.kv_q_f16 = KeyValueProjection(1024, self.key_scale_dim, self.value_dim)

    def encode_image(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 3, h, w] normalised -> f16 [B, 1024, H, W], f8 [B, 512, h/8, w/8], f4 [B, 256, h/4, w/4]."""
        f4, f8, f16 = self.rgb_encoder(image)
        return f16, f8, f4

    def encode_key(self, image: Tensor) -> Query:
        """Key and features of an image.

        Args:
            image: [B, 3, h, w] float, ImageNet-normalised.

        Returns:
            Query with key [B, 128, H, W] and features (v16 [B, 512, H, W], f8 [B, 512, h/8, w/8],
            f4 [B, 256, h/4, w/4]).
        """
        f16, f8, f4 = self.encode_image(image)
        return Query(self.kv_q_f16(f16), (self.kv_q_f16.value(f16), f8, f4))

    def encode_objects(self, image: Tensor, masks: Tensor, others: Tensor, owners: Tensor | None = None) -> Tensor:
        """Features of P objects on images, [P, 1024, H, W]; arguments as in `encode_memory`."""
        return self.mask_rgb_encoder(image, torch.cat([masks, others], dim=1), owners)[-1]

    def encode_memory(
        self, image: Tensor, query: Query, masks: Tensor, others: Tensor, owners: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Memory of P objects on images.

        Args:
            image: [B, 3, h, w]; query: unused here, part of the interface; masks: [P, 1, h, w] probabilities;
            others: [P, 1, h, w] sum of all other objects of the image;
            owners: [P] long, the batch row of each object; None when the batch is one image.

        Returns:
            Key [P, 128, H, W] and value [P, 512, H, W].
        """
        features = self.encode_objects(image, masks, others, owners)
        return self.kv_m_f16(features), self.kv_m_f16.value(features)


class STM(STMEncoders):
    """Propagation network of MiVOS, 53.7 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = Decoder(skip_block=True)

    def decode(self, readout: Tensor, query: Query, previous: Tensor, owners: Tensor | None = None) -> Tensor:
        """Object logits from what was read out of memory.

        Args:
            readout: [P, 512, H, W]; previous: unused here, part of the interface; owners as in `encode_memory`.

        Returns:
            [P, 1, h, w] logits.
        """
        v16, f8, f4 = query.features
        return self.decoder(readout, v16, f8, f4, owners)
