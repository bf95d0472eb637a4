"""Samples of the published fusion recipes: two propagations of one or two objects at a target frame.

Facts: training.md, section 5.1. Data is that of `generate_fusion`: ``<run>/<video>/<ref>/<object>/<frame>.png``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from pipelines.training.base import Batch
from pipelines.training.order import Epochs, drawing
from pipelines.training.samples import Clip
from pipelines.training.sets import read_image
from stores.errors import DatasetError
from stores.labels import read_labels

PER_VIDEO = 100  # items of an epoch for each video
# The authors end after 20 attempts, and the run with it; where data is sparse some samples need more.
ATTEMPTS, SAME_VIDEO, STRICT = 200, 5, 15
MIN_DIFFERENT, DIFFERENT = 100, 0.1
FULL_CROP = 384  # the number of different pixels is meant for this crop


@dataclass(frozen=True)
class FusionVideo:
    """A video and the runs that propagated it."""

    clip: Clip
    folders: tuple[Path, ...]


def fusion_videos(clips: Sequence[Clip], runs: Sequence[Path]) -> list[FusionVideo]:
    """The videos of which some run has two references.

    Raises:
        DatasetError: there are none.
    """
    videos = []
    for clip in clips:
        folders = [run / clip.name for run in runs]
        folders = [folder for folder in folders if len(_numbered(folder)) > 1]
        if folders:
            videos.append(FusionVideo(clip, tuple(folders)))
    if not videos:
        where = ", ".join(map(str, runs)) or "--fusion-data"
        raise DatasetError(f"{where}: no video with two propagated references", hint="run `mivos gen-fusion` first")
    return videos


@dataclass(frozen=True)
class PairSamples:
    """Two references' maps of up to two objects, the second reference's true masks, and the true target."""

    videos: Sequence[FusionVideo]
    epochs: Epochs
    crop: int

    def __call__(self, index: int) -> Batch:
        """Target and second reference uint8 [s, s, 3]; maps float [2, 3, s, s] of each object: reference 1's at the
        target, reference 2's, reference 1's at reference 2; labels uint8 [2, s, s] at target and reference 2, with
        0, 1, 2; distances float [2]; which objects there are, float [2]."""
        rng = np.random.default_rng((self.epochs.seed, index))
        video = self.videos[self.epochs.place(index)[1] % len(self.videos)]
        for attempt in range(ATTEMPTS):
            if attempt >= SAME_VIDEO:
                video = self.videos[int(rng.integers(len(self.videos)))]
            batch = self._draw(rng, video, strict=attempt < STRICT)
            if batch is not None:
                return batch
        raise DatasetError(
            f"{video.folders[0]}: no usable sample in {ATTEMPTS} attempts", hint="propagate more references"
        )

    def _draw(self, rng: np.random.Generator, video: FusionVideo, *, strict: bool) -> Batch | None:
        folder = video.folders[rng.integers(len(video.folders))]
        references = _numbered(folder)
        first = references[rng.integers(len(references))]
        objects = _numbered(folder / first)
        if not objects:
            return None
        chosen = objects[rng.integers(len(objects))]
        targets = [path.stem for path in sorted((folder / first / chosen).glob("*.png"))]
        if not targets:
            return None
        target = targets[rng.integers(len(targets))]

        def has(reference: str, item: str, frame: str) -> bool:
            return (folder / reference / item / f"{frame}.png").is_file()

        seconds = [r for r in references if r != first and has(first, chosen, r) and has(r, chosen, target)]
        if not seconds:
            return None
        second = seconds[rng.integers(len(seconds))]
        needed = ((first, target), (second, target), (first, second))
        others = [o for o in objects if o != chosen and all(has(r, o, frame) for r, frame in needed)]
        pair = [chosen] + ([others[rng.integers(len(others))]] if others else [])
        maps = np.stack([np.stack([_map(folder / r / o / f"{frame}.png") for r, frame in needed]) for o in pair])
        cut = self._cut(rng, maps.shape[-2:], folder)
        maps = cut.of(maps).astype(np.float32) / 255
        unit = (self.crop / FULL_CROP) ** 2
        if strict and (np.abs(maps[0, 0] - maps[0, 1]) > DIFFERENT).sum() < MIN_DIFFERENT * unit:
            return None
        return self._batch(rng, video.clip, (int(first), int(second), int(target)), pair, maps, cut)

    def _batch(
        self,
        rng: np.random.Generator,
        clip: Clip,
        frames: tuple[int, int, int],
        pair: list[str],
        maps: np.ndarray,
        cut: _Cut,
    ) -> Batch:
        first, second, target = frames
        images, labels = [], []
        for frame in (target, second):
            image, plane = cut.frame(clip, frame)
            classes = np.zeros_like(plane)
            for slot, name in enumerate(pair, start=1):
                classes[plane == int(name)] = slot
            images.append(Image.fromarray(image))
            labels.append(classes)
        with drawing(rng):
            images = v2.ColorJitter(0.1, 0.03, 0.03, 0.01)(images)
        both = np.zeros((2, *maps.shape[1:]), np.float32)
        both[: len(pair)] = maps
        span = abs(first - second)
        time = np.array([abs(first - target) / span, abs(second - target) / span], np.float32)
        present = np.array([1.0, float(len(pair) > 1)], np.float32)
        arrays = (np.array(images[0]), np.array(images[1]), both, np.stack(labels), time, present)
        return tuple(map(torch.from_numpy, arrays))

    def _cut(self, rng: np.random.Generator, size: tuple[int, ...], folder: Path) -> _Cut:
        height, width = size
        if min(height, width) < self.crop:
            raise DatasetError(f"{folder}: maps of {width} x {height} are smaller than the crop of {self.crop}")
        top, left = int(rng.integers(height - self.crop + 1)), int(rng.integers(width - self.crop + 1))
        box = np.s_[top : top + self.crop, left : left + self.crop]
        return _Cut((height, width), box, -1 if rng.random() < 0.5 else 1)


@dataclass(frozen=True)
class _Cut:
    """The same square of every map and image, mirrored where `flip` is -1. `size` is that of whole maps."""

    size: tuple[int, int]
    box: tuple[slice, slice]
    flip: int

    def of(self, maps: np.ndarray) -> np.ndarray:
        """[..., H, W] to [..., s, s]."""
        return np.ascontiguousarray(maps[(..., *self.box)][..., :: self.flip])

    def frame(self, clip: Clip, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The square of a frame uint8 [s, s, 3] and of its labels uint8 [s, s]; brought to the maps' size before."""
        image, labels = np.asarray(read_image(clip.images[index])), read_labels(clip.labels[index])
        size = (self.size[1], self.size[0])
        if labels.shape != self.size:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        return np.ascontiguousarray(image[self.box][:, :: self.flip]), self.of(labels)


def _numbered(folder: Path) -> list[str]:
    """Names of the folders that are numbers."""
    return sorted(path.name for path in folder.glob("[0-9]*")) if folder.is_dir() else []


def _map(path: Path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if found is None:
        raise DatasetError(f"{path}: not a readable map", hint="generate the fusion data again")
    return found
