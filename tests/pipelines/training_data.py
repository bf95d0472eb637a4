"""Small training sets of every layout, made from a real video."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np

from stores.masks import write_mask
from stores.video import read_frames

FRAMES, HEIGHT, WIDTH = 12, 120, 150


def frames_and_masks(video: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """RGB frames with two moving objects, 1 and 3, and some void."""
    pairs = []
    for frame in itertools.islice(read_frames(video, size=None), FRAMES):
        image = cv2.resize(frame.image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.ellipse(labels, (60 + frame.index, 65), (26, 34), 0, 0, 360, 1, -1)
        cv2.rectangle(labels, (100, 20), (132, 60 + frame.index), 3, -1)
        labels[:20, :40] = 255
        pairs.append((image, labels))
    return pairs


def _write(root: Path, kind: tuple[str, ...], name: str, stem: str, image: np.ndarray, labels: np.ndarray) -> None:
    for top, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        folder = root.joinpath(top, *kind, name)
        folder.mkdir(parents=True, exist_ok=True)
        if suffix == "jpg":
            cv2.imwrite(str(folder / f"{stem}.jpg"), image[..., ::-1])
        else:
            write_mask(folder / f"{stem}.png", labels)


def make_sets(video: Path, root: Path) -> Path:
    """Below `root`: DAVIS layout itself, static/, youtube/, bl30k/, lvis/ and fusion/ (made-up propagated maps)."""
    pairs = frames_and_masks(video)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    for split in ("train", "val"):
        (root / "ImageSets" / "2017" / f"{split}.txt").write_text("car\n")
    for index, (image, labels) in enumerate(pairs):
        _write(root, ("480p",), "car", f"{index:05d}", image, labels)
        _write(root / "youtube" / "train_480p", (), "0a49f5265b", f"{5 * index:05d}", image, labels)
        _write(root / "bl30k", (), "v1", f"{index:05d}", image, np.where(labels == 255, 0, labels))
    for folder, index in (("fss/cup", 0), ("fss/pan", 3), ("BIG_small", 6)):
        place = root / "static" / folder
        place.mkdir(parents=True)
        image, labels = pairs[index]
        cv2.imwrite(str(place / "1.jpg"), image[..., ::-1])
        cv2.imwrite(str(place / "1.png"), np.where(labels == 1, 255, 0).astype(np.uint8))
    _write_lvis(root / "lvis", pairs[0][0])
    _write_fusion(root / "fusion" / "car", pairs)
    return root


def _write_lvis(root: Path, image: np.ndarray) -> None:
    (root / "train2017").mkdir(parents=True)
    cv2.imwrite(str(root / "train2017" / "000000000007.jpg"), image[..., ::-1])
    outlines = ([20, 20, 90, 20, 90, 90, 20, 90], [80, 60, 140, 60, 140, 110, 80, 110], [1, 1, 9, 1, 9, 9, 1, 9])
    areas = (4900, 3000, 64)
    content = {
        "images": [{"id": 7, "coco_url": "http://x/train2017/000000000007.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": [
            {"image_id": 7, "segmentation": [line], "area": area} for line, area in zip(outlines, areas, strict=True)
        ],
    }
    (root / "lvis_v1_train.json").write_text(json.dumps(content))


def _write_fusion(root: Path, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Every fourth frame as a reference; the farther a frame, the more its map is shifted and blurred."""
    for reference, frame in itertools.product(range(0, FRAMES, 4), range(FRAMES)):
        for label in (1, 3):
            away = abs(reference - frame)
            mask = np.roll((pairs[frame][1] == label).astype(np.float32), 2 * away, axis=1)
            mask = cv2.GaussianBlur(mask, (0, 0), 0.5 + away)
            folder = root / f"{reference:05d}" / f"{label:05d}"
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{frame:05d}.png"), np.floor(mask * 255).astype(np.uint8))
