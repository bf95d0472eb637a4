"""Training-free baselines of semi-supervised segmentation: what any trained network has to beat.

Each is a stream: frames in, one label map for every frame out, the first being the given mask itself. None of
them looks ahead, and none holds more than a fixed number of frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.training.imagenet import LITE0_MEAN, LITE0_NAME, LITE0_STD, load_lite0_imagenet
from stores.errors import MaskError

Baseline = Callable[[Iterable[np.ndarray], np.ndarray], Iterator[np.ndarray]]


@dataclass(frozen=True)
class LabelPropagation:
    """Settings of `propagate_labels`.

    Window, top-k, temperature and context are the protocol's. The features were chosen by J&F on the first 16
    frames of the dev sequences: 86.2 for 5 stages at stride 8 (dilated), 85.1 for 4, 77.9 for 3, and 76.6 for 5
    at their own stride 16 with a window of the same size in pixels.
    """

    blocks: int = 5
    """Stages of the encoder that are run; their last output is the feature."""
    stride: int = 8
    """Pixels per feature cell, 8 or 16; deeper stages are dilated to keep it."""
    radius: int = 12
    """Half the side of the square search window, in cells."""
    top_k: int = 7
    temperature: float = 0.07
    recent: int = 4
    """Previous frames in the context, beside the first frame."""


def copy_first_mask(frames: Iterable[np.ndarray], first_mask: np.ndarray) -> Iterator[np.ndarray]:
    """The given mask on every frame.

    Args:
        frames: uint8 [H, W, 3] RGB images.
        first_mask: uint8 [H, W] labels of the first of them.

    Yields:
        uint8 [H, W] labels, one for each frame.

    Raises:
        MaskError: the mask and a frame differ in size.
    """
    for image in frames:
        _check_size(image, first_mask)
        yield first_mask.copy()


def warp_by_flow(frames: Iterable[np.ndarray], first_mask: np.ndarray) -> Iterator[np.ndarray]:
    """Soft masks carried from frame to frame along DIS optical flow (Kroeger et al., ECCV 2016).

    The flow is taken from the new frame to the old one, so that every new pixel fetches its value (backward
    warping, bilinear). The soft masks are carried on, the argmax only leaves.

    Arguments, result and errors are those of `copy_first_mask`.
    """
    ids = np.unique(first_mask)
    soft = [(first_mask == label).astype(np.float32) for label in ids]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in first_mask.shape[::-1])), axis=-1)
    previous: np.ndarray | None = None
    for image in frames:
        _check_size(image, first_mask)
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if previous is None:
            yield first_mask.copy()
        else:
            source = grid + dis.calc(gray, previous, None)  # type: ignore[call-overload]
            soft = [_fetch(channel, source) for channel in soft]
            yield ids[np.argmax(soft, axis=0)].astype(np.uint8)
        previous = gray


def propagate_labels(
    frames: Iterable[np.ndarray],
    first_mask: np.ndarray,
    *,
    settings: LabelPropagation = LabelPropagation(),  # noqa: B008 (frozen)
    device: str = "cpu",
) -> Iterator[np.ndarray]:
    """Label propagation with ImageNet features, the protocol of self-supervised correspondence.

    Every cell of the new frame takes the mean of the labels of its `top_k` most similar cells (cosine,
    weighted by a softmax) inside a window around its own place, in the first and the `recent` previous
    frames; their labels are soft and are enlarged bilinearly. (Jabri et al., NeurIPS 2020; Caron et al.,
    ICCV 2021.)

    Arguments, result and errors are those of `copy_first_mask`.

    Raises:
        ModelError: the packages with the encoder or its ImageNet weights are missing.
    """
    ids = np.unique(first_mask)
    encoder = _Lite0Features(settings.blocks, settings.stride).to(device)
    height, width = first_mask.shape
    first: tuple[Tensor, Tensor] | None = None
    recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=settings.recent)
    for image in frames:
        _check_size(image, first_mask)
        with torch.inference_mode():
            features = encoder(torch.from_numpy(np.require(image, requirements=["C", "W"])).to(device))
            if first is None:
                one_hot = np.stack([first_mask == label for label in ids]).astype(np.float32)
                shares = F.interpolate(torch.from_numpy(one_hot)[None], features.shape[-2:], mode="area")[0]
                first = features, shares.to(device)
                result = first_mask.copy()
            else:
                labels = _match_labels(features, [first, *recent], settings)
                recent.append((features, labels))
                full = F.interpolate(labels[None], (height, width), mode="bilinear", align_corners=False)[0]
                result = ids[full.argmax(dim=0).cpu().numpy()].astype(np.uint8)
        yield result


BASELINES: dict[str, Baseline] = {
    "copy first mask": copy_first_mask,
    "DIS flow warping": warp_by_flow,
    "label propagation": propagate_labels,
}
"""Name -> baseline, in the order of reports."""


class _Lite0Features(nn.Module):
    """The first stages of EfficientNet-Lite0 with ImageNet weights, frozen."""

    mean: Tensor
    std: Tensor

    def __init__(self, blocks: int, stride: int) -> None:
        super().__init__()
        weights = load_lite0_imagenet()  # first: says clearly which package is missing
        import timm

        model: Any = timm.create_model(LITE0_NAME, pretrained=False, output_stride=stride)
        model.load_state_dict(weights)
        self.layers = nn.Sequential(model.conv_stem, model.bn1, *model.blocks[:blocks])
        self.register_buffer("mean", torch.tensor(LITE0_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(LITE0_STD).view(1, 3, 1, 1))
        self.to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> Tensor:
        """uint8 [H, W, 3] RGB -> float32 [C, h, w], unit length over C."""
        batch = (image.permute(2, 0, 1)[None].float() / 255 - self.mean) / self.std
        return F.normalize(self.layers(batch)[0], dim=0)


def _match_labels(query: Tensor, context: list[tuple[Tensor, Tensor]], settings: LabelPropagation) -> Tensor:
    """Soft labels float32 [K+1, h, w] of `query` [C, h, w] from a context of (features, labels)."""
    _, height, width = query.shape
    radius = settings.radius
    span, padded = 2 * radius + 1, width + 2 * radius
    # Columns are padded so that every query has a full band of keys; the padding itself must never win.
    keys = torch.stack([F.pad(features, (radius, radius)) for features, _ in context], dim=1)
    labels = torch.stack([F.pad(soft, (radius, radius)) for _, soft in context], dim=1)
    penalty = torch.zeros(padded, device=query.device)
    penalty[:radius] = penalty[width + radius :] = -4.0  # cosines end at -1
    columns = torch.arange(width, device=query.device)[:, None]
    rows_out = []
    for y in range(height):  # one row at a time bounds the memory, and only reads the rows in reach
        low, high = max(0, y - radius), min(height, y + radius + 1)
        near = keys[:, :, low:high].flatten(1)
        similar = (query[:, y].T @ near).view(width, -1, padded) + penalty
        lines = similar.shape[1]
        # Element [x, line, d] of the band is similar[x, line, x + d]: a diagonal view, nothing computed.
        band = similar.as_strided((width, lines, span), (lines * padded + 1, padded, 1))
        best, where = band.reshape(width, -1).topk(min(settings.top_k, lines * span), dim=1)
        weight = torch.softmax(best / settings.temperature, dim=1)
        flat = torch.div(where, span, rounding_mode="floor") * padded + columns + where % span
        taken = labels[:, :, low:high].flatten(1)[:, flat]
        rows_out.append((taken * weight).sum(dim=-1))
    return torch.stack(rows_out, dim=1)


def _fetch(values: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Bilinear values of float32 [H, W] at `source` float32 [H, W, 2] (x, y); outside, the border's."""
    x, y = cv2.split(source)
    return cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _check_size(image: np.ndarray, mask: np.ndarray) -> None:
    if image.shape[:2] != mask.shape:
        raise MaskError(
            f"the first mask is {mask.shape[1]}x{mask.shape[0]}, the frame {image.shape[1]}x{image.shape[0]}",
            hint="give a mask of the size of the frames",
        )
