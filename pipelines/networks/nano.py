"""The embedded propagation network: an STCN (Cheng et al., NeurIPS 2021) small enough for a laptop.

One EfficientNet-Lite0 trunk sees the image only; its features give the key, the decoder's skips and the image side
of the value, each computed once per frame whatever the number of objects. What an object adds is a thin value
encoder on its mask and a thin decoder. Three departures from STCN, all for learning from little data:

* the value carries the mask itself, packed from stride 4 into 16 channels, so a read-out is label propagation from
  the first training step on and the decoder learns to correct it;
* keys are unit vectors times a learned length, followed by two position channels, so that L2 similarity prefers
  nearby memory (the weight is learned);
* the decoder also sees the mask of the previously segmented frame.

Notation: K objects, h x w padded image size (multiples of 16), H = h / 16, W = w / 16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.networks.blocks import of_objects, upsample
from pipelines.networks.protocol import Query

KEY_DIM = 64
VALUE_DIM = 96
SHRINK, SHRINK_FROM = 0.9, 400  # images of this shorter side or more are seen a little smaller: a fifth less work
PACKED = 16  # a 4 x 4 patch of the stride-4 mask in every stride-16 cell
CONTEXT = 128


class LiteTrunk(nn.Module):
    """EfficientNet-Lite0 features at strides 4, 8, 16 and 32 (24, 40, 112 and 320 channels).

    BatchNorm is folded into the convolutions from the start: training keeps its statistics frozen anyway, and what
    is left is a fifth less work and nothing to fold later.
    """

    def __init__(self, in_chans: int = 3) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.net = self._unfolded()
        fold_batch_norm(self.net)

    def _unfolded(self) -> nn.Module:
        import timm  # takes two seconds, which other models do without

        return timm.create_model(
            "tf_efficientnet_lite0",
            pretrained=False,
            features_only=True,
            out_indices=(1, 2, 3, 4),
            in_chans=self.in_chans,
        )

    def load_unfolded(self, state: dict[str, Tensor]) -> None:
        """Takes timm's weights of the whole classifier (BatchNorm included); what is not of the trunk is ignored."""
        net = self._unfolded()
        net.load_state_dict({key: state[key] for key in net.state_dict()})
        fold_batch_norm(net)
        self.net.load_state_dict(net.state_dict())

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, in_chans, h, w] -> [B, 24, h/4, w/4], [B, 40, h/8, w/8], [B, 112, H, W], [B, 320, h/32, w/32]."""
        return self.net(x)


def fold_batch_norm(module: nn.Module) -> None:
    """Folds every timm BatchNorm + activation into the convolution registered before it, in place."""
    conv_name = ""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            conv_name = name
        elif isinstance(child, nn.BatchNorm2d):
            conv = getattr(module, conv_name)
            assert child.running_mean is not None and child.running_var is not None
            scale = child.weight / torch.sqrt(child.running_var + child.eps)
            shift = (child.bias - child.running_mean * scale).detach()
            conv.bias = nn.Parameter(shift, requires_grad=False)  # stays, like the statistics it comes from
            conv.weight = nn.Parameter((conv.weight * scale[:, None, None, None]).detach())
            setattr(module, name, child.act)
        else:
            fold_batch_norm(child)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), the second convolution starting at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        _zero(self.conv2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


def _zero(conv: nn.Conv2d) -> None:
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)


class LightBlock(nn.Module):
    """x + pointwise(relu(depthwise5x5(x))): wide view at little cost, for the finest map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pointwise(F.relu(self.depthwise(x)))


def pack_mask(mask: Tensor) -> tuple[Tensor, Tensor]:
    """[P, 1, h, w] -> its area average at stride 4 [P, 1, h/4, w/4], and that packed to [P, 16, H, W]."""
    quarter = F.avg_pool2d(mask, 4)
    return quarter, F.pixel_unshuffle(quarter, 4)


def _inner_size(x: Tensor) -> tuple[int, int]:
    """The size, a multiple of 16, at which the network sees a [.., h, w] input."""
    height, width = int(x.shape[-2]), int(x.shape[-1])
    if min(height, width) < SHRINK_FROM:
        return height, width
    return round(SHRINK * height / 16) * 16, round(SHRINK * width / 16) * 16


def _inner(x: Tensor) -> Tensor:
    size = _inner_size(x)
    if size == tuple(x.shape[-2:]):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class NanoPropagation(nn.Module):
    """Propagation network of the embedded model (2.9 M parameters in the trunk, 1.1 M beside it)."""

    key_scale_dim = KEY_DIM  # similarity is divided by sqrt of this, as in STCN
    value_dim = VALUE_DIM + PACKED
    shared_keys = True
    similarity = "l2"

    def __init__(self) -> None:
        super().__init__()
        self.trunk = LiteTrunk()
        self.context32 = nn.Conv2d(320, CONTEXT, 1)
        self.context16 = nn.Conv2d(112, CONTEXT, 1)
        self.key_proj = nn.Conv2d(112 + CONTEXT, KEY_DIM, 1)
        self.key_length = nn.Parameter(torch.tensor(7.5))
        self.position_scale = nn.Parameter(torch.tensor(0.35))
        # value encoder: mask side per object, image side shared
        self.value_mask4 = nn.Conv2d(2 * PACKED, 32, 3, padding=1)
        self.value_image4 = nn.Conv2d(24, 32, 1)
        self.value_down8 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.value_image8 = nn.Conv2d(40, 64, 1)
        self.value_down16 = nn.Conv2d(64, VALUE_DIM, 3, stride=2, padding=1)
        self.value_image16 = nn.Conv2d(CONTEXT, VALUE_DIM, 1)
        self.value_block = ResidualBlock(VALUE_DIM)
        # decoder
        self.thin = nn.Conv2d(CONTEXT, 112, 3, padding=1)
        self.skip8 = nn.Conv2d(40, 64, 1)
        self.skip4 = nn.Conv2d(24, 32, 1)
        self.compress = nn.Conv2d(self.value_dim + PACKED, 112, 3, padding=1)
        self.block16 = ResidualBlock(112)
        self.narrow8 = nn.Conv2d(112, 64, 1)
        self.block8 = ResidualBlock(64)
        self.narrow4 = nn.Conv2d(64, 32, 1)
        self.mask4 = nn.Conv2d(2, 32, 3, padding=1)
        self.block4 = ResidualBlock(32)
        self.light4 = LightBlock(32)
        self.pred = nn.Conv2d(32, 1, 3, padding=1)
        self.prior = nn.Parameter(torch.tensor(4.0))
        nn.init.orthogonal_(self.key_proj.weight)
        nn.init.zeros_(self.key_proj.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.context32.weight, std=0.02)

    def encode_key(self, image: Tensor) -> Query:
        """Key and features of an image.

        Args:
            image: [B, 3, h, w] float, ImageNet-normalised.

        Returns:
            Query with key [B, 66, H, W] and features (context [B, 128, H, W], thin [B, 112, H, W],
            skip8 [B, 64, h/8, w/8], skip4 [B, 32, h/4, w/4], and the value's image sides at strides 4, 8, 16).
        """
        f4, f8, f16, f32 = self.trunk(_inner(image))
        wide = F.interpolate(self.context32(f32), size=f16.shape[-2:], mode="bilinear", align_corners=False)
        context = F.relu(self.context16(f16) + wide)
        key = F.normalize(self.key_proj(torch.cat([f16, 0.1 * context], dim=1)), dim=1) * self.key_length
        rows = torch.arange(f16.shape[-2], device=key.device, dtype=key.dtype)
        cols = torch.arange(f16.shape[-1], device=key.device, dtype=key.dtype)
        grid = torch.stack(torch.meshgrid(rows, cols, indexing="ij")) * self.position_scale  # (2, H, W)
        key = torch.cat([key, grid[None].expand(key.shape[0], -1, -1, -1)], dim=1)
        return Query(
            key,
            (
                self.thin(context),
                self.skip8(f8),
                self.skip4(f4),
                self.value_image4(f4),
                self.value_image8(f8),
                self.value_image16(context),
            ),
        )

    def encode_value(
        self, image: Tensor, query: Query, masks: Tensor, others: Tensor, owners: Tensor | None = None
    ) -> Tensor:
        """Memory values of objects on an image; `query` is that image's own.

        Args:
            image: unused here (its features are in `query`); part of the interface.
            masks: [P, 1, h, w] float probabilities of P objects; others: the same of all other objects together.
            owners: [P] long, the batch row of each object; None when the batch is one image.

        Returns:
            [P, 112, H, W]: 96 learned channels and the packed mask.
        """
        masks, others = _inner(masks), _inner(others)
        _, packed = pack_mask(masks)
        fine = torch.cat([F.pixel_unshuffle(masks, 4), F.pixel_unshuffle(others, 4)], dim=1)  # (P, 32, h/4, w/4)
        image4, image8, image16 = (of_objects(f, owners) for f in query.features[3:])
        x = F.relu(self.value_mask4(fine) + image4)
        x = F.relu(self.value_down8(x) + image8)
        x = self.value_block(self.value_down16(x) + image16)
        return torch.cat([x, packed], dim=1)

    def encode_memory(self, image: Tensor, query: Query, masks: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """`query.key` [1, 66, H, W] itself, and the value of `encode_value`."""
        return query.key, self.encode_value(image, query, masks, others)

    def decode(self, readout: Tensor, query: Query, previous: Tensor, owners: Tensor | None = None) -> Tensor:
        """Object logits from what was read out of memory.

        Args:
            readout: [P, 112, H, W]; previous: [P, 1, h, w] masks of the frame segmented before this one.

        Returns:
            [P, 1, h, w] logits.
        """
        size = previous.shape[-2:]
        previous = _inner(previous)
        thin, skip8, skip4 = (of_objects(f, owners) for f in query.features[:3])
        previous4, packed = pack_mask(previous)
        read4 = F.pixel_shuffle(readout[:, VALUE_DIM:], 4)  # (P, 1, h/4, w/4)
        x = self.block16(self.compress(torch.cat([readout, packed], dim=1)) + thin)
        x = self.block8(upsample(self.narrow8(F.relu(x)), 2) + skip8)
        x = self.block4(upsample(self.narrow4(F.relu(x)), 2) + skip4 + self.mask4(torch.cat([read4, previous4], dim=1)))
        logits = self.pred(F.relu(self.light4(x))) + self.prior * (2 * read4 - 1)
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


class NanoFusion(nn.Module):
    """Difference-aware fusion (MiVOS, section 3.3) at stride 4: where to trust the new result.

    Same inputs and output as the authors' FusionNet, but the network only predicts a blending weight on a map of a
    quarter of the resolution; edges come from the two segmentations themselves.
    """

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(10, channels, 3, padding=1)
        self.block1 = ResidualBlock(channels)
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.block2 = ResidualBlock(channels)
        self.block3 = LightBlock(channels)
        self.weight = nn.Conv2d(channels, 1, 3, padding=1)
        _zero(self.weight)

    def forward(self, image: Tensor, seg1: Tensor, seg2: Tensor, attention: Tensor, time: Tensor) -> Tensor:
        """Fuses K objects.

        Args:
            image: [1 or K, 3, h, w]; seg1, seg2: [K, 1, h, w] older and newer probabilities;
            attention: [K, 2, h, w] positive and negative difference carried to this frame;
            time: [K, 2] distances to the older and the newer interaction, summing to 1.

        Returns:
            [K, 1, h, w] logits of the fused probabilities.
        """
        count, size = seg1.shape[0], (seg1.shape[-2] // 4, seg1.shape[-1] // 4)
        image4 = F.interpolate(image, size=size, mode="area").expand(count, -1, -1, -1)
        maps4 = F.avg_pool2d(torch.cat([seg1, seg2, attention], dim=1), 4)  # (K, 4, h/4, w/4)
        change = (maps4[:, 1:2] - maps4[:, :1]).abs()
        planes = time[:, :, None, None].expand(count, 2, *size)
        x = self.block1(self.stem(torch.cat([image4, maps4, change, planes], dim=1)))
        y = self.block3(self.block2(self.down(F.relu(x))))
        # the prior is the rule of thumb "nearer interaction wins"; the network learns the exceptions
        near = 4 * (time[:, :1] - time[:, 1:])[:, :, None, None]
        coarse = self.weight(F.relu(y)) + near
        weight = torch.sigmoid(F.interpolate(coarse, size=seg1.shape[-2:], mode="bilinear", align_corners=False))
        fused = (weight * seg2 + (1 - weight) * seg1).clamp(1e-6, 1 - 1e-6)
        return torch.log(fused / (1 - fused))
