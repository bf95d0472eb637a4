"""BL30K trees on disk: what is read and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stores.bl30k import Bl30kDataset
from stores.errors import DatasetError
from stores.masks import write_mask


def tree(root: Path, videos: int = 2, frames: int = 3) -> Path:
    for video in range(videos):
        images, masks = (root / kind / f"{video:05d}" for kind in ("JPEGImages", "Annotations"))
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for i in range(frames):
            Image.new("RGB", (12, 8), (30 * i, 0, 0)).save(images / f"{i:05d}.jpg")
            labels = np.zeros((8, 12), np.uint8)
            labels[2:4, i : i + 3] = 1
            labels[5:7] = 4
            write_mask(masks / f"{i:05d}.png", labels)
    return root


def test_what_is_there(tmp_path: Path) -> None:
    data = Bl30kDataset(tree(tmp_path))
    assert data.videos() == ["00000", "00001"]
    assert [path.name for path in data.frames("00001")] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    masks = data.annotations("00001")
    assert [path.stem for path in masks] == ["00000", "00001", "00002"]
    labels = data.labels(masks[2])
    assert labels.ids == (1, 4)  # a gap is fine
    assert labels.labels[2, 2:5].tolist() == [1, 1, 1]


def test_missing_files_are_named(tmp_path: Path) -> None:
    data = Bl30kDataset(tree(tmp_path))
    mask, image = tmp_path / "Annotations/00000/00001.png", tmp_path / "JPEGImages/00001/00001.jpg"
    mask.unlink()
    image.unlink()
    with pytest.raises(DatasetError, match="Annotations/00000/00001.png: is missing"):
        data.annotations("00000")
    with pytest.raises(DatasetError, match=r"JPEGImages/00001/00001.jpg: is missing, the next frame is 00002.jpg"):
        data.frames("00001")


def test_a_mask_without_its_frame_is_named(tmp_path: Path) -> None:
    data = Bl30kDataset(tree(tmp_path))
    write_mask(tmp_path / "Annotations/00000/00003.png", np.zeros((8, 12), np.uint8))
    with pytest.raises(DatasetError, match="00003.png: there is no frame 00003.jpg"):
        data.annotations("00000")


def test_roots_and_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="JPEGImages: is missing"):
        Bl30kDataset(tmp_path)
    data = Bl30kDataset(tree(tmp_path, videos=1))
    for name in ("../00000", "", "00007"):
        with pytest.raises(DatasetError):
            data.frames(name)
    for path in (tmp_path / "JPEGImages/00000").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="holds no frames"):
        data.frames("00000")
