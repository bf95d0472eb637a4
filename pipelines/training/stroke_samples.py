"""Samples of S2M's published recipe: an image, a previous mask, simulated scribbles, and the true mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from pipelines.training.augment import MEAN_COLOUR
from pipelines.training.base import Batch
from pipelines.training.lvis import Lvis, LvisObject
from pipelines.training.order import Epochs, drawing
from pipelines.training.samples import Clip
from pipelines.training.scribbles import perturbed, scribbles
from pipelines.training.sets import read_image, read_still_mask

FROM_ZERO_SHARE, OTHER_SHARE = 0.33, 0.75
OTHER_IOU = 0.6
FILL: dict[Any, Any] = {Image.Image: MEAN_COLOUR, tv_tensors.Mask: 0}


def _transform(crop: int, largest: float) -> v2.Transform:
    """Geometry of images and masks, colours of images; `largest` scale of the affine motion."""
    bilinear = v2.InterpolationMode.BILINEAR
    return v2.Compose([
        v2.RandomAffine(20, scale=(0.8, largest), shear=10, interpolation=bilinear, fill=FILL),
        v2.Resize(crop, interpolation=bilinear),
        v2.RandomCrop((crop, crop), pad_if_needed=True, fill=FILL),
        v2.RandomHorizontalFlip(0.5),
        v2.ColorJitter(0.1, 0.03, 0.03, 0),
        v2.RandomGrayscale(0.05),
    ])  # fmt: skip


@dataclass(frozen=True)
class ScribbleSamples:
    """Stills and, where there is LVIS, its objects.

    Attributes:
        clicks: share of strokes that are small disks, 0 as published.
    """

    stills: tuple[Clip, ...]
    lvis: Lvis | None
    epochs: Epochs
    crop: int
    clicks: float = 0.0

    def __call__(self, index: int) -> Batch:
        """Image uint8 [s, s, 3]; previous mask, positive and negative strokes uint8 [3, s, s]; truth uint8 [s, s]."""
        rng = np.random.default_rng((self.epochs.seed, index))
        number = self.epochs.place(index)[1]
        other = None
        if number < len(self.stills):
            clip = self.stills[number]
            image = read_image(clip.images[0])
            masks, largest = [np.asarray(read_still_mask(clip.labels[0], rng)) > 127], 1.25
        else:
            assert self.lvis is not None
            found = self.lvis.objects[number - len(self.stills)]
            image, masks, largest = read_image(found.image), [found.mask()], 1.0
            other = self._other(rng, found)
        if other is not None:
            masks.append(other.mask())
        stacked = tv_tensors.Mask(torch.from_numpy(np.stack(masks).astype(np.uint8)))
        with drawing(rng):
            image, stacked = _transform(self.crop, largest)(image, stacked)
        truth, *disturbing = np.ascontiguousarray(stacked.numpy())
        planes = self._interaction(rng, truth, disturbing[0] if disturbing else None)
        pixels = torch.from_numpy(np.array(image))
        return pixels, torch.from_numpy(np.stack(planes)), torch.from_numpy(truth.copy())

    def _other(self, rng: np.random.Generator, found: LvisObject) -> LvisObject | None:
        if self.lvis is None or rng.random() >= OTHER_SHARE:
            return None
        choices = self.lvis.others.get(found.image, ())
        drawn = choices[rng.integers(len(choices))] if choices else found
        return None if drawn is found else drawn

    def _interaction(
        self, rng: np.random.Generator, truth: np.ndarray, other: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from_zero = bool(rng.random() < FROM_ZERO_SHARE)
        previous = np.zeros_like(truth) if from_zero else perturbed(rng, truth, rng.uniform(0.40, 0.95))
        marked = np.zeros_like(truth)
        if other is not None and not from_zero:
            if rng.random() < 0.5:  # the other object is marked as wrong, or is wrongly in the previous mask
                marked, _ = scribbles(rng, other, np.zeros_like(other), from_zero=True, clicks=self.clicks)
            else:
                previous |= perturbed(rng, other, OTHER_IOU)
        positive, negative = scribbles(rng, truth, previous, from_zero=from_zero, clicks=self.clicks)
        return previous, positive, negative | marked
