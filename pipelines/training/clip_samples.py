"""Samples of the published propagation recipes: three frames of a video, or three pseudo-frames of a still.

Geometry and colours are torchvision's transforms v2 on PIL images (the only ones it warps bicubically) and masks.
Facts: training.md, 3.3 to 3.7. Every sample is a function of seed and index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from pipelines.training.augment import MEAN_COLOUR
from pipelines.training.base import Batch
from pipelines.training.deform import thin_plate
from pipelines.training.order import Epochs, drawing
from pipelines.training.samples import Clip
from pipelines.training.sets import VideoItem, read_image, read_still_mask
from stores.labels import read_labels

FRAMES, TRIES = 3, 5
JUMPS = ((0.1, 10), (0.2, 15), (0.3, 20), (0.4, 25))  # share of the epochs from which on max_jump is ...
FIRST_JUMP = LAST_JUMP = 5
WARP_SHARE = 0.33
FULL_CROP = 384  # BL30K's areas in pixels are meant for this crop
BICUBIC, NEAREST = v2.InterpolationMode.BICUBIC, v2.InterpolationMode.NEAREST
FILL: dict[Any, Any] = {Image.Image: MEAN_COLOUR, tv_tensors.Mask: 0}


def max_jump(epoch: int, epochs: int, back_at: float) -> int:
    """The curriculum of skipped frames: it grows from 5 to 25 and falls back to 5 at the share `back_at`."""
    jump = FIRST_JUMP
    for share, value in (*JUMPS, (back_at, LAST_JUMP)):
        if epoch >= round(epochs * share):
            jump = value
    return jump


def three_frames(rng: np.random.Generator, length: int, jump: int) -> list[int]:
    """Numbers of three frames; the authors' caps can make them coincide (quirk, 3.3)."""
    jump = min(length, jump)
    s = int(rng.integers(0, length - jump + 1))
    first = min(s + int(rng.integers(1, jump + 2)), length - jump, length - 1)
    second = min(first + int(rng.integers(1, jump + 2)), length - jump // 2, length - 1)
    frames = [s, max(first, 0), max(second, 0)]
    return frames[::-1] if rng.random() < 0.5 else frames


def usable(labels: np.ndarray, rendered: bool) -> list[int]:
    """Ids that may be picked from [3, s, s] labels: those of the first frame; rendered ones not if they get small."""
    ids = [int(i) for i in np.unique(labels[0]) if i != 0]
    if not rendered:
        return ids
    unit = (labels.shape[-1] / FULL_CROP) ** 2
    kept = []
    for i in ids:
        first, *others = ((plane == i).sum() / unit for plane in labels)
        if first > 100 and (first > 900 or all(area < 400 for area in others)):
            kept.append(i)
    return kept


@lru_cache(maxsize=4)
def _video_transforms(crop: int, min_scale: float) -> tuple[v2.Transform, v2.Transform]:
    """One for all frames, one for each frame."""
    shared = v2.Compose([
        v2.RandomHorizontalFlip(0.5),
        v2.RandomResizedCrop((crop, crop), scale=(min_scale, 1.0), ratio=(3 / 4, 4 / 3), interpolation=BICUBIC),
        v2.ColorJitter(0.1, 0.03, 0.03, 0),
        v2.RandomGrayscale(0.05),
    ])  # fmt: skip
    each = v2.Compose([
        v2.RandomAffine(15, shear=10, interpolation=BICUBIC, fill=FILL),
        v2.ColorJitter(0.01, 0.01, 0.01, 0),
    ])  # fmt: skip
    return shared, each


@dataclass(frozen=True)
class VideoSamples:
    """Three frames with up to two objects.

    Attributes:
        iterations: of the run, for the curriculum; min_scale: smallest area of the crop, 0.36 or 0.25 (BL30K);
        back_at: share of epochs where jumps get short again.
    """

    items: Sequence[VideoItem]
    epochs: Epochs
    crop: int
    iterations: int
    min_scale: float = 0.36
    back_at: float = 0.9

    def __call__(self, index: int) -> Batch:
        """Images uint8 [3, s, s, 3], masks of frame 0 float [2, s, s], labels uint8 [3, s, s] with 0, 1, 2, and
        which of the two objects there are, float [2]."""
        rng = np.random.default_rng((self.epochs.seed, index))
        epoch, number = self.epochs.place(index)
        item = self.items[number]
        jump = max_jump(epoch, self.epochs.total(self.iterations), self.back_at) // item.step
        picked: list[int] = []
        for _ in range(TRIES):
            frames = three_frames(rng, len(item.clip.images), max(jump, 1))
            images, labels = self._augmented(rng, item.clip, frames)
            ids = usable(labels, item.rendered)
            if ids:
                picked = [int(i) for i in rng.permutation(ids)[:2]]
                break
        classes = np.zeros_like(labels)
        for slot, i in enumerate(picked, start=1):
            classes[labels == i] = slot
        given = np.stack([classes[0] == 1, classes[0] == 2]).astype(np.float32)
        present = np.array([1.0, float(len(picked) > 1)], np.float32)
        return tuple(map(torch.from_numpy, (images, given, classes, present)))

    def _augmented(self, rng: np.random.Generator, clip: Clip, frames: list[int]) -> tuple[np.ndarray, np.ndarray]:
        images = [read_image(clip.images[i]) for i in frames]
        masks = [tv_tensors.Mask(torch.from_numpy(read_labels(clip.labels[i]))[None]) for i in frames]
        shared, each = _video_transforms(self.crop, self.min_scale)
        with drawing(rng):
            images, masks = shared(images, masks)
            pairs = [each(image, mask) for image, mask in zip(images, masks, strict=True)]
        pictures = np.stack([np.asarray(image) for image, _ in pairs])
        return pictures, np.stack([mask[0].numpy() for _, mask in pairs])


@dataclass(frozen=True)
class StillSamples:
    """Three pseudo-frames of one still and its mask, one object."""

    items: Sequence[Clip]
    epochs: Epochs
    crop: int

    def __call__(self, index: int) -> Batch:
        """As `VideoSamples`, with one object: masks of frame 0 are grey (0..1) [1, s, s], present [1]."""
        rng = np.random.default_rng((self.epochs.seed, index))
        clip = self.items[self.epochs.place(index)[1]]
        image, mask = read_image(clip.images[0]), read_still_mask(clip.labels[0], rng)
        with drawing(rng):
            shape = v2.RandomAffine(0, scale=(0.8, 1.5), interpolation=NEAREST)
            image, mask = _affine(shape, image, mask, NEAREST)
            if torch.rand(1) < 0.5:
                image, mask = TF.hflip(image), TF.hflip(mask)
            image = v2.RandomGrayscale(0.05)(v2.ColorJitter(0.1, 0.05, 0.05, 0.05)(image))
            pairs = [self._frame(rng, image, mask) for _ in range(FRAMES)]
        images, planes = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
        given = planes[:1].astype(np.float32) / 255
        classes = (planes > 127).astype(np.uint8)
        return tuple(map(torch.from_numpy, (images, given, classes, np.ones(1, np.float32))))

    def _frame(self, rng: np.random.Generator, image: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
        moved = _affine(v2.RandomAffine(20, scale=(0.9, 1.1), shear=10), image, mask, BICUBIC)
        frame, plane = TF.resize(moved[0], [self.crop], BICUBIC), TF.resize(moved[1], [self.crop], NEAREST)
        cut = v2.RandomCrop((self.crop, self.crop), pad_if_needed=True, fill=FILL)
        frame, label = cut(frame, tv_tensors.Mask(TF.pil_to_tensor(plane)))
        pixels = np.asarray(v2.ColorJitter(0.1, 0.05, 0.05, 0)(frame))
        if rng.random() < WARP_SHARE:
            return thin_plate(rng, pixels, label[0].numpy(), MEAN_COLOUR)
        return pixels, label[0].numpy()


def _affine(draw: v2.RandomAffine, image: Any, mask: Any, mode: v2.InterpolationMode) -> tuple[Any, Any]:
    """The same drawn motion of an RGB and a grey image; masks of stills are warped bicubically like their image."""
    params = draw.make_params([image])
    moved = TF.affine(image, **params, interpolation=mode, fill=list(MEAN_COLOUR))
    return moved, TF.affine(mask, **params, interpolation=mode, fill=[0])
