"""What the pixels of a data set's mask mean, and what is said of masks that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stores.errors import DatasetError
from stores.labels import read_labels
from stores.masks import write_mask

VALUES = np.array([[0, 1, 255, 0], [2, 0, 7, 254]], np.uint8)


def test_a_palette_names_objects_and_void_is_background(tmp_path: Path) -> None:
    write_mask(tmp_path / "p.png", VALUES)
    labels = read_labels(tmp_path / "p.png")
    assert labels.dtype == np.uint8 and labels.tolist() == [[0, 1, 0, 0], [2, 0, 7, 254]]


@pytest.mark.parametrize("values", [VALUES, 255 * (VALUES > 0).astype(np.uint8), VALUES > 0], ids=["ids", "L", "1"])
def test_grey_is_one_object(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "l.png")
    labels = read_labels(tmp_path / "l.png")
    assert labels.dtype == np.uint8 and labels.tolist() == [[0, 1, 1, 0], [1, 0, 1, 1]]


@pytest.mark.parametrize("kind", ["cut", "header", "text", "empty", "missing", "folder", "colour", "16 bit"])
def test_other_files_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mask.png"
    write_mask(path, np.random.default_rng(0).integers(0, 9, (60, 80)))
    whole = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "colour":
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(path)
    elif kind == "16 bit":
        Image.fromarray(np.full((4, 5), 300, np.uint16)).save(path)
    elif kind != "missing":
        path.write_bytes({"cut": whole[:-400], "header": whole[:20], "text": b"no image", "empty": b""}[kind])
    with pytest.raises(DatasetError, match="mask.png: (cannot be read: |is a )") as caught:
        read_labels(path)
    assert "\n" not in str(caught.value) and caught.value.hint
