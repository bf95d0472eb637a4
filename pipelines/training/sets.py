"""The published recipes' data: which videos and stills there are, and how often each is taken.

An item of an epoch is a whole video or still, as in the authors' code (training.md, 3.2).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipelines.training.samples import Clip, find_synthetic, find_videos
from stores.errors import DatasetError
from stores.labels import open_image
from stores.youtube import YouTubeDataset

log = logging.getLogger("mivos")
MIN_FRAMES = 3
DAVIS_TIMES = 5
# small sets of high resolution are taken five times
STATIC_TIMES = {"BIG_small": 5, "HRSOD_small": 5}
YOUTUBE_STEP = 5  # only every fifth frame is annotated, so jumps shrink by it
YOUTUBE_SPLITS = ("train_480p", "train")
YOUTUBE_LIST = "yv_subset.txt"  # the authors' list of usable videos; taken where it lies in the root


@dataclass(frozen=True)
class VideoItem:
    """A video of an epoch; jumps are divided by `step`; `rendered`: BL30K's rule for small objects holds."""

    clip: Clip
    step: int = 1
    rendered: bool = False


def davis_items(root: Path) -> list[VideoItem]:
    """The 60 training videos of DAVIS 2017 (or of any root in its layout), five times."""
    return _long([VideoItem(clip) for clip in find_videos(root)], root) * DAVIS_TIMES


def youtube_items(root: Path) -> list[VideoItem]:
    """YouTube-VOS ``train_480p`` (else ``train``, else the root itself), its annotated frames.

    Raises:
        DatasetError: no videos.
    """
    split = next((name for name in YOUTUBE_SPLITS if (root / name / "JPEGImages").is_dir()), YOUTUBE_SPLITS[0])
    dataset = YouTubeDataset(root, split)
    names, listing = dataset.videos(), root / YOUTUBE_LIST
    if listing.is_file():
        wanted = set(listing.read_text().split())
        names = [name for name in names if name in wanted]
    items = []
    for name in names:
        images, labels = dataset.base / "JPEGImages" / name, dataset.base / "Annotations" / name
        pairs = [(images / f"{path.stem}.jpg", path) for path in sorted(labels.glob("*.png"))]
        pairs = [pair for pair in pairs if pair[0].is_file()]
        if pairs:
            items.append(VideoItem(Clip(name, *map(tuple, zip(*pairs, strict=True))), YOUTUBE_STEP))
    return _long(items, root)


def rendered_items(roots: tuple[Path, ...]) -> list[VideoItem]:
    """The videos of roots in BL30K layout."""
    return [VideoItem(clip, rendered=True) for clip in find_synthetic(*roots)]


def _long(items: list[VideoItem], root: Path) -> list[VideoItem]:
    kept = [item for item in items if len(item.clip.images) >= MIN_FRAMES]
    if not kept:
        raise DatasetError(f"{root}: has no annotated video of {MIN_FRAMES} frames", hint="check --data and --youtube")
    return kept


def static_items(root: Path) -> list[Clip]:
    """Stills ``NAME.jpg`` + ``NAME.png`` below a root: FSS-1000's class folders, DUTS-TR, DUTS-TE, ecssd and others.

    Raises:
        DatasetError: there are none.
    """
    images = sorted(path for path in root.rglob("*") if path.suffix.lower() == ".jpg")
    clips: list[Clip] = []
    for path in images:
        label = path.with_suffix(".png")
        if label.is_file():
            times = STATIC_TIMES.get(path.relative_to(root).parts[0], 1)
            clips += [Clip(path.stem, (path,), (label,))] * times
    if not clips:
        raise DatasetError(f"{root}: holds no NAME.jpg with NAME.png", hint="give the folder of the sets: --static")
    return clips


def read_image(path: Path) -> Image.Image:
    """An image as RGB.

    Raises:
        DatasetError: it cannot be read.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DatasetError(f"{path}: not a readable image")
    return Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


def read_still_mask(path: Path, rng: np.random.Generator) -> Image.Image:
    """The grey mask (0..255) of a still; of a picture with several object ids one object is drawn.

    Raises:
        DatasetError: it cannot be read.
    """
    with open_image(path) as picture:
        picture.load()
        if picture.mode != "P":
            return picture.convert("L")  # also stretches "1" to 0 and 255
        labels = np.asarray(picture)
    ids = [int(i) for i in np.unique(labels) if i not in (0, 255)]
    chosen = ids[rng.integers(len(ids))] if ids else 255
    return Image.fromarray(np.where(labels == chosen, 255, 0).astype(np.uint8))
