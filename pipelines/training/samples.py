"""Training clips: three frames and their label maps, from real videos, from stills set in motion, and from pastes.

Every sample is a function of (seed, index) alone, so a resumed run sees the data an uninterrupted one would.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipelines.training.augment import Colour, Motion, bend, warp
from stores.errors import DatasetError
from stores.labels import read_labels
from stores.source import working_size

CACHE_BYTES = 2 * 10**9  # of decoded frames, in all loader processes together


@dataclass(frozen=True)
class Clip:
    """Frames with label maps: a video, or a still (one frame)."""

    name: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame `index` through a cache of decoded frames. Not to be changed.

        Returns:
            uint8 [H, W, 3] RGB and uint8 [H, W] labels; void 255 becomes background, binary masks become 1.

        Raises:
            DatasetError: the image or its mask cannot be read, or they differ in size.
        """
        return _cache.read(self.images[index], self.labels[index])


class FrameCache:
    """The frames and label maps that were read last, as many as fit into `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._pairs: OrderedDict[tuple[Path, Path], tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, image: Path, label: Path) -> tuple[np.ndarray, np.ndarray]:
        """As `Clip.read`."""
        found = self._pairs.get((image, label))
        if found is not None:
            self._pairs.move_to_end((image, label))
            return found
        pair = _read_pair(image, label)
        self._pairs[image, label] = pair
        self.used += _bytes(pair)
        while self.used > self.limit:
            self.used -= _bytes(self._pairs.popitem(last=False)[1])
        return pair


_cache = FrameCache(CACHE_BYTES)


def share_cache(processes: int) -> None:
    """Limits this process to its part of the cache, where so many read frames."""
    _cache.limit = CACHE_BYTES // max(1, processes)


def _bytes(pair: tuple[np.ndarray, np.ndarray]) -> int:
    return pair[0].nbytes + pair[1].nbytes


def _read_pair(image: Path, label: Path) -> tuple[np.ndarray, np.ndarray]:
    bgr = cv2.imread(str(image), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DatasetError(f"{image}: not a readable image")
    labels = read_labels(label)
    if labels.shape != bgr.shape[:2]:
        raise DatasetError(f"{label}: size {labels.shape} differs from its image's {bgr.shape[:2]}")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), labels


def find_videos(root: Path, split: str = "train") -> list[Clip]:
    """The sequences of ``ImageSets/2017/<split>.txt`` in a DAVIS-layout root that are annotated in every frame."""
    inner = (root, root / "trainval", root / "2017" / "trainval")  # the last two: DAVIS as it is published
    root = next((top for top in inner if (top / "ImageSets" / "2017").is_dir()), root)
    listing = root / "ImageSets" / "2017" / f"{split}.txt"
    if not listing.is_file():
        raise DatasetError(f"{listing} is missing", hint="give a root in DAVIS layout: see `mivos train --help`")
    clips = []
    for name in listing.read_text().split():
        images = tuple(sorted((root / "JPEGImages" / "480p" / name).glob("*.jpg")))
        labels = tuple(root / "Annotations" / "480p" / name / f"{path.stem}.png" for path in images)
        if not images or not all(path.is_file() for path in labels):
            raise DatasetError(f"{root}: sequence {name} lacks images or annotations")
        clips.append(Clip(name, images, labels))
    return clips


def find_synthetic(*roots: Path) -> list[Clip]:
    """The videos of BL30K-layout roots (``JPEGImages/<id>``, ``Annotations/<id>``) whose frames all have masks."""
    clips: list[Clip] = []
    for root in roots:
        before = len(clips)
        for folder in sorted(path for path in (root / "JPEGImages").glob("*") if path.is_dir()):
            images = tuple(sorted(folder.glob("*.jpg")))
            labels = tuple(root / "Annotations" / folder.name / f"{path.stem}.png" for path in images)
            if len(images) > 2 and all(path.is_file() for path in labels):
                clips.append(Clip(folder.name, images, labels))
        if len(clips) == before:
            raise DatasetError(f"{root}: no whole video in BL30K layout", hint="make some with `mivos render-bl30k`")
    return clips


def find_stills(root: Path) -> list[Clip]:
    """Every ``NAME.jpg`` with a ``NAME.png`` beside it below ``<root>/static``."""
    pairs = [(path, path.with_suffix(".png")) for path in sorted((root / "static").rglob("*.jpg"))]
    return [Clip(image.stem, (image,), (label,)) for image, label in pairs if label.is_file()]


@dataclass(frozen=True)
class ClipRecipe:
    """How clips are mixed. `size` is the side of the square crop in pixels.

    `synthetic_share` of the clips are rendered ones, if there are any; of the others, `still_share` are stills.
    """

    size: int = 224
    frames: int = 3
    still_share: float = 0.35
    synthetic_share: float = 0.3
    max_jump: int = 12
    paste_share: float = 0.45
    min_scale: float = 0.42
    max_scale: float = 1.1
    min_area: int = 80


class ClipSampler:
    """Draws clips of `recipe.frames` frames with up to two objects."""

    def __init__(
        self, videos: list[Clip], stills: list[Clip], recipe: ClipRecipe, seed: int, synthetic: Sequence[Clip] = ()
    ) -> None:
        if not videos and not stills:
            raise DatasetError("no training data: neither sequences nor still pairs were found")
        self.videos, self.stills, self.recipe, self.seed = videos, stills, recipe, seed
        self.synthetic = list(synthetic)

    def sample(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sample number `index`.

        Returns:
            images uint8 [F, s, s, 3]; objects float32 [F, 2, s, s], one plane per object; present float32 [2],
            0 for an empty second slot.
        """
        rng = np.random.default_rng((self.seed, index))
        for _ in range(6):
            images, labels = self._clip(rng)
            if rng.random() < self.recipe.paste_share:
                self._paste(rng, images, labels)
            ids, counts = np.unique(labels[0], return_counts=True)
            usable = [int(i) for i, n in zip(ids, counts, strict=True) if i > 0 and n >= self.recipe.min_area]
            if usable:
                break
        chosen = list(rng.permutation(usable)[:2]) if usable else [255]
        objects = np.zeros((len(images), 2, *labels[0].shape), np.float32)
        for slot, label in enumerate(chosen):
            for frame, plane in enumerate(labels):
                objects[frame, slot] = plane == label
        colour = Colour.sample(rng, 1.0)
        pictures = [Colour.sample(rng, 0.15).apply(colour.apply(image)) for image in images]
        return np.stack(pictures), objects, np.array([1.0, float(len(chosen) > 1)], np.float32)

    def _clip(self, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        r = self.recipe
        rendered = bool(self.synthetic) and rng.random() < r.synthetic_share
        still = not rendered and (not self.videos or (bool(self.stills) and rng.random() < r.still_share))
        pool = self.synthetic if rendered else self.stills if still else self.videos
        clip = pool[rng.integers(len(pool))]
        indices = self._indices(rng, len(clip.images))
        frames = [clip.read(i) for i in dict.fromkeys(indices)]
        lookup = dict(zip(dict.fromkeys(indices), frames, strict=True))
        first_image, first_labels = lookup[indices[0]]
        height, width = first_labels.shape
        # bring stills of any size near the scale of 480p video before the random scale, without blurring small ones
        scale = 480 / max(min(height, width), 360) * np.exp(rng.uniform(np.log(r.min_scale), np.log(r.max_scale)))
        ys, xs = np.nonzero(first_labels)
        if len(ys):
            k = rng.integers(len(ys))
            spread = 0.3 * r.size / scale
            centre = (xs[k] + rng.normal(0, spread), ys[k] + rng.normal(0, spread))
        else:
            centre = (width / 2, height / 2)
        half = min(r.size / scale / 2, width / 2), min(r.size / scale / 2, height / 2)
        centre = (
            float(np.clip(centre[0], half[0], width - half[0])),
            float(np.clip(centre[1], half[1], height - half[1])),
        )
        flip = bool(rng.random() < 0.5)
        motion = Motion(rng.normal(0, 0.08), scale, rng.normal(0, 0.06))
        strength = float(rng.uniform(0.2, 1.2)) if still else float(rng.uniform(0, 0.25))
        bent = still and rng.random() < 0.5
        images, labels = [], []
        for i in indices:
            matrix = motion.matrix(centre, (r.size / 2, r.size / 2), flip)
            image, label = warp(*lookup[i], matrix, r.size)
            if bent:
                image, label = bend(rng, image, label, 0.02)
            images.append(image)
            labels.append(label)
            motion = motion.moved(rng, strength, r.size)
        return images, labels

    def _indices(self, rng: np.random.Generator, length: int) -> list[int]:
        if length < self.recipe.frames:  # a still, or too short to choose from
            return [min(index, length - 1) for index in range(self.recipe.frames)]
        longest = min(self.recipe.max_jump, max(length // 6, 1))  # short clips span time faster
        jumps = rng.integers(1, longest + 1, self.recipe.frames - 1)
        if rng.random() < 0.3:  # neighbours, as in real propagation
            jumps[1:] = 1
        while jumps.sum() >= length:
            jumps = np.maximum(jumps // 2, 1)
        start = int(rng.integers(0, length - jumps.sum()))
        indices = [start, *(start + np.cumsum(jumps)).tolist()]
        return indices[::-1] if rng.random() < 0.5 else indices

    def _paste(self, rng: np.random.Generator, images: list[np.ndarray], labels: list[np.ndarray]) -> None:
        """Pastes one to three moving cut-outs onto the clip, in place: new objects, occluders or distractors."""
        size = self.recipe.size
        for _ in range(int(rng.integers(1, 4))):
            pool = self.stills if self.stills and (not self.videos or rng.random() < 0.7) else self.videos
            clip = pool[rng.integers(len(pool))]
            image, label = clip.read(int(rng.integers(len(clip.images))))
            ids = [int(i) for i in np.unique(label) if i > 0]
            if not ids:
                continue
            mask = (label == ids[rng.integers(len(ids))]).astype(np.uint8)
            x, y, w, h = cv2.boundingRect(mask)
            if w < 12 or h < 12:
                continue
            image, mask = image[y : y + h, x : x + w], mask[y : y + h, x : x + w]
            target = size * float(rng.uniform(0.15, 0.7))
            motion = Motion(rng.normal(0, 0.2), target / max(w, h), rng.normal(0, 0.08))
            place = tuple(rng.uniform(0.1, 0.9, 2) * size)
            drift = rng.normal(0, 0.06 * size, 2)
            strength, flip = float(rng.uniform(0.2, 1.0)), bool(rng.random() < 0.5)
            colour = Colour.sample(rng, 0.7)
            new_id = 100 + int(rng.integers(100)) if rng.random() < 0.65 else 0
            for k in range(len(images)):
                at = (float(place[0] + k * drift[0]), float(place[1] + k * drift[1]))
                cut, cut_mask = warp(image, mask, motion.matrix((w / 2, h / 2), at, flip), size)
                alpha = cv2.GaussianBlur(cut_mask.astype(np.float32), (3, 3), 0.7)[..., None]
                images[k] = (colour.apply(cut) * alpha + images[k] * (1 - alpha)).astype(np.uint8)
                labels[k] = np.where(cut_mask > 0, np.uint8(new_id), labels[k])
                motion = motion.moved(rng, strength, size)


def resized_pair(clip: Clip, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame and labels of a clip with the shorter side brought down to `size` (area / nearest)."""
    image, labels = clip.read(index)
    height, width = working_size(labels.shape[0], labels.shape[1], size)
    if (height, width) == labels.shape:
        return image, labels
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image, cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
