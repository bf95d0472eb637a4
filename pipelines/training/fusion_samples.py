"""Samples for fusion training: two propagated versions of a frame and what the second interaction corrected.

Sample assembly follows MiVOS (section 3.3 and its training code): reference 1 is the older interaction, reference 2
the new one, the target lies anywhere between (or beside) them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipelines.training.augment import Colour
from pipelines.training.samples import Clip, resized_pair
from stores.errors import DatasetError

MIN_DIFFERENT = 100  # pixels whose two maps differ by more than 0.1
ATTEMPTS, STRICT = 200, 15  # each draws a video anew; only the first ones insist on a difference


@dataclass(frozen=True)
class FusionSample:
    """One object on one target frame; s is the crop size.

    Attributes:
        target, reference: uint8 [s, s, 3] the target image and the image at reference 2;
        maps: float32 [3, s, s]: reference 1's map at the target, reference 2's, and reference 1's at reference 2;
        truth: float32 [2, s, s] true masks at the target and at reference 2;
        time: float32 [2] distances of the target to reference 1 and 2, over the distance of the two.
    """

    target: np.ndarray
    reference: np.ndarray
    maps: np.ndarray
    truth: np.ndarray
    time: np.ndarray


class FusionSampler:
    """Draws samples from runs of `generate_fusion`; sample i is a function of (seed, i)."""

    def __init__(self, clips: list[Clip], runs: Sequence[Path], size: int, crop: int, seed: int) -> None:
        self.size, self.crop, self.seed = size, crop, seed
        self.where = ", ".join(str(run) for run in runs)
        self.items: list[tuple[Clip, Path, list[int]]] = []
        for clip in clips:
            for folder in (run / clip.name for run in runs):
                refs = sorted(int(p.name) for p in folder.glob("[0-9]*")) if folder.is_dir() else []
                if len(refs) > 1:
                    self.items.append((clip, folder, refs))
        if not self.items:
            raise DatasetError(
                f"{self.where}: no video with two propagated references", hint="run `mivos gen-fusion` first"
            )

    def sample(self, index: int) -> FusionSample:
        rng = np.random.default_rng((self.seed, index))
        for attempt in range(ATTEMPTS):
            drawn = self._draw(rng, strict=attempt < STRICT)
            if drawn is not None:
                return drawn
        raise DatasetError(
            f"{self.where}: no usable sample found in {ATTEMPTS} tries", hint="generate more fusion data"
        )

    def _draw(self, rng: np.random.Generator, *, strict: bool) -> FusionSample | None:
        clip, folder, refs = self.items[rng.integers(len(self.items))]
        first, *others = (int(r) for r in rng.permutation(refs))
        # in random order: the first one that fits is any of them
        pairs = ((other, _shared_objects(folder, first, other)) for other in others)
        second, objects = next(((other, names) for other, names in pairs if names), (first, []))
        if not objects:
            return None
        name = objects[rng.integers(len(objects))]
        low, high = min(first, second), max(first, second)
        reached = _frames(folder, first, name) & _frames(folder, second, name)
        anywhere = [frame for frame in range(len(clip.images)) if frame in reached]
        between = [frame for frame in anywhere if low < frame < high]
        outside = rng.random() < 0.15  # training covers frames beyond the two, as the published data does
        targets = anywhere if outside or not between else between  # neighbours have nothing between them
        if not targets:
            return None
        target = targets[rng.integers(len(targets))]
        maps = [_map(folder, ref, name, at) for ref, at in ((first, target), (second, target), (first, second))]
        if any(m is None for m in maps):
            return None
        image, labels = resized_pair(clip, target, self.size)
        ref_image, ref_labels = resized_pair(clip, second, self.size)
        planes = np.stack([*maps, labels == int(name), ref_labels == int(name)]).astype(np.float32)  # type: ignore[list-item]
        planes[:3] /= 255
        if strict and (np.abs(planes[0] - planes[1]) > 0.1).sum() < MIN_DIFFERENT:
            return None
        crop = self._crop(rng, planes)
        if crop is None:
            return None
        rows, cols = crop
        flip = 1 if rng.random() < 0.5 else -1
        colour = Colour.sample(rng, 0.5)
        span = abs(first - second)
        return FusionSample(
            colour.apply(np.ascontiguousarray(image[rows, cols][:, ::flip])),
            colour.apply(np.ascontiguousarray(ref_image[rows, cols][:, ::flip])),
            np.ascontiguousarray(planes[:3, rows, cols][:, :, ::flip]),
            np.ascontiguousarray(planes[3:, rows, cols][:, :, ::flip]),
            np.array([abs(first - target) / span, abs(second - target) / span], np.float32),
        )

    def _crop(self, rng: np.random.Generator, planes: np.ndarray) -> tuple[slice, slice] | None:
        """A square crop that holds a pixel where the maps differ, if there is one."""
        height, width = planes.shape[1:]
        if min(height, width) < self.crop:
            raise DatasetError(f"{self.where}: maps of {width} x {height} are smaller than the crop of {self.crop}")
        ys, xs = np.nonzero(np.abs(planes[0] - planes[1]) > 0.1)
        y, x = height // 2, width // 2
        if len(ys):
            k = int(rng.integers(len(ys)))
            y, x = int(ys[k]), int(xs[k])
        top = int(np.clip(y - rng.integers(0, self.crop), 0, height - self.crop))
        left = int(np.clip(x - rng.integers(0, self.crop), 0, width - self.crop))
        return slice(top, top + self.crop), slice(left, left + self.crop)


def _shared_objects(folder: Path, first: int, second: int) -> list[str]:
    """The objects of both references that the first one followed to the second."""
    names = sorted(path.name for path in (folder / f"{first:05d}").glob("[0-9]*"))
    held = ((folder / f"{first:05d}" / name / f"{second:05d}.png", folder / f"{second:05d}" / name) for name in names)
    return [name for name, (reached, own) in zip(names, held, strict=True) if reached.is_file() and own.is_dir()]


def _frames(folder: Path, ref: int, name: str) -> set[int]:
    """The frames to which a reference's object was propagated."""
    return {int(path.stem) for path in (folder / f"{ref:05d}" / name).glob("[0-9]*.png")}


def _map(folder: Path, ref: int, name: str, frame: int) -> np.ndarray | None:
    return cv2.imread(str(folder / f"{ref:05d}" / name / f"{frame:05d}.png"), cv2.IMREAD_GRAYSCALE)
