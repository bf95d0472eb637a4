"""LVIS v1: objects of photographs, for S2M's training. Polygons are filled by OpenCV, so no package is needed."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stores.errors import DatasetError, ModelError

ANNOTATIONS, IMAGES = "lvis_v1_train.json", "train2017"
MIN_AREA, MIN_OTHER_AREA = 50 * 50, 30 * 30
_FINE = 4  # polygons are drawn so many times larger: OpenCV also fills the pixels that an edge touches
_SHIFT = 4  # and to a sixteenth of such a pixel


@dataclass(frozen=True)
class LvisObject:
    """One annotation: the image file, its size, the outline as LVIS has it, and pixels."""

    image: Path
    height: int
    width: int
    outline: Any
    area: float

    def mask(self) -> np.ndarray:
        """uint8 0/1 [height, width]."""
        return outline_mask(self.outline, self.height, self.width)


@dataclass(frozen=True)
class Lvis:
    """Objects large enough to train on, and for each the objects of the same image that may disturb it."""

    objects: tuple[LvisObject, ...]
    others: dict[Path, tuple[LvisObject, ...]]


def open_lvis(root: Path) -> Lvis:
    """Reads ``lvis_v1_train.json`` and takes the images of ``train2017``.

    Raises:
        DatasetError: the file is missing or not what it should be.
    """
    file = root / ANNOTATIONS
    try:
        content = json.loads(file.read_bytes())
        images = {
            entry["id"]: (root / IMAGES / entry["coco_url"].rpartition("/")[2], entry["height"], entry["width"])
            for entry in content["images"]
        }
        found = [
            LvisObject(*images[entry["image_id"]], entry["segmentation"], float(entry["area"]))
            for entry in content["annotations"]
        ]
    except FileNotFoundError as error:
        raise DatasetError(f"{file}: is missing", hint=f"LVIS v1: {ANNOTATIONS} and {IMAGES}/") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DatasetError(
            f"{file}: is not LVIS v1: {type(error).__name__} {error}", hint="download it again"
        ) from error
    objects = tuple(item for item in found if item.area > MIN_AREA)
    if not objects:
        raise DatasetError(f"{file}: has no object of more than {MIN_AREA} pixels")
    by_image: dict[Path, list[LvisObject]] = defaultdict(list)
    for item in found:
        if item.area > MIN_OTHER_AREA:
            by_image[item.image].append(item)
    return Lvis(objects, {path: tuple(items) for path, items in by_image.items()})


def outline_mask(outline: Any, height: int, width: int) -> np.ndarray:
    """Polygons [[x0, y0, x1, ...], ...] or COCO run lengths to uint8 0/1 [height, width].

    Raises:
        DatasetError: neither. ModelError: compressed run lengths, and pycocotools is not there.
    """
    if isinstance(outline, list):
        mask = np.zeros((height, width), np.uint8)
        for polygon in outline:
            _fill(mask, np.array(polygon, np.float64).reshape(-1, 2))
        return mask
    if isinstance(outline, dict) and isinstance(outline.get("counts"), list):
        counts = np.array(outline["counts"], np.int64)
        values = np.arange(len(counts)) % 2
        flat = np.repeat(values, counts)
        if flat.size == height * width:
            return flat.reshape(width, height).T.astype(np.uint8).copy()
    elif isinstance(outline, dict) and isinstance(outline.get("counts"), str | bytes):
        try:
            from pycocotools import mask as coco
        except ImportError as error:
            raise ModelError("compressed masks need pycocotools", hint="pip install pycocotools") from error
        counts = outline["counts"]
        encoded = counts.encode() if isinstance(counts, str) else counts
        return coco.decode({"size": [height, width], "counts": encoded})
    raise DatasetError("an outline is neither polygons nor run lengths of its image's size")


def _fill(mask: np.ndarray, polygon: np.ndarray) -> None:
    """Sets the pixels of a mask that lie by half in a polygon [n, 2] of x, y (corners, not centres, are whole)."""
    height, width = mask.shape
    low = np.floor(polygon.min(0)).astype(int).clip(0, (width - 1, height - 1))
    high = np.ceil(polygon.max(0)).astype(int).clip(low + 1, (width, height))
    size = high - low
    fine = np.zeros((size[1] * _FINE, size[0] * _FINE), np.uint8)
    points = ((polygon - low) * _FINE - 0.5) * (1 << _SHIFT)
    cv2.fillPoly(fine, [np.round(points).astype(np.int32)], 255, cv2.LINE_8, _SHIFT)
    part = cv2.resize(fine, (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA) > 127
    mask[low[1] : high[1], low[0] : high[0]] |= part.astype(np.uint8)
