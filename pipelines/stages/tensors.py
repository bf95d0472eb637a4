"""Between numpy images of any size and network tensors whose sides are multiples of 16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
STRIDE = 16
Map = TypeVar("Map", Tensor, np.ndarray)


@dataclass(frozen=True)
class Padding:
    """Zeros around a [.., h, w] map up to the next multiples of 16; an odd pixel goes right and down."""

    left: int
    right: int
    top: int
    bottom: int

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Left, right, top, bottom."""
        return self.left, self.right, self.top, self.bottom

    @classmethod
    def of(cls, height: int, width: int) -> Padding:
        dh, dw = -height % STRIDE, -width % STRIDE
        return cls(dw // 2, dw - dw // 2, dh // 2, dh - dh // 2)

    def add(self, x: Tensor) -> Tensor:
        """[.., h, w] -> [.., h', w']."""
        if not (self.left or self.right or self.top or self.bottom):
            return x
        return F.pad(x, (self.left, self.right, self.top, self.bottom))

    def remove(self, x: Map) -> Map:
        """[.., h', w'] -> [.., h, w], a view."""
        height, width = x.shape[-2:]
        return x[..., self.top : height - self.bottom, self.left : width - self.right]


def image_tensor(image: np.ndarray) -> Tensor:
    """uint8 [h, w, 3] RGB -> float32 [1, 3, h', w'], ImageNet-normalised, then padded with zeros (the mean colour)."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None].to(torch.float32)
    mean = torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1) * 255
    std = torch.tensor(IMAGE_STD).view(1, 3, 1, 1) * 255
    return Padding.of(*image.shape[:2]).add((x - mean) / std)


def mask_tensor(objects: np.ndarray, padding: Padding) -> Tensor:
    """float [K, h, w] -> float32 [K, 1, h', w'], zeros in the padding."""
    return padding.add(torch.from_numpy(np.ascontiguousarray(objects, dtype=np.float32))[:, None])
