"""DAVIS trees: the real flat one, and small ones of every published shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stores.davis import DavisDataset, write_davis_sequence
from stores.errors import DatasetError
from stores.masks import write_mask
from stores.scribbles import read_scribbles

IMAGE = np.full((20, 30, 3), 90, dtype=np.uint8)
LABELS = np.zeros((20, 30), dtype=np.uint8)
LABELS[5:10, 5:10], LABELS[12:, 12:] = 1, 3


def small(root: Path, sequence: str = "cow", count: int = 3) -> Path:
    write_davis_sequence(root, sequence, [(IMAGE, LABELS)] * count)
    return root


def test_shared_data(shared_data: Path) -> None:
    data = DavisDataset(shared_data)
    names = data.sequences()
    assert len(names) == 6 and "chair" in names
    frames, annotations = data.frames("chair"), data.annotations("chair")
    assert len(frames) == len(annotations) == 60
    assert [p.stem for p in frames] == [p.stem for p in annotations]
    assert data.object_ids("chair") == (1,)
    scribbles = data.scribbles("chair")
    assert [p.name for p in scribbles] == ["001.json", "002.json", "003.json"]
    assert read_scribbles(scribbles[0], num_frames=60).sequence == "chair"
    assert len(DavisDataset(shared_data, split="train").sequences()) == 22
    assert len(DavisDataset(shared_data, split="trainval").sequences()) == 28


@pytest.mark.parametrize("inner", ["", "2017/trainval", "trainval", "DAVIS/2017/trainval", "DAVIS", "2017"])
def test_2017_roots(inner: str, tmp_path: Path) -> None:
    small(tmp_path / inner)
    data = DavisDataset(tmp_path)
    assert data.sequences() == ["cow"]
    assert data.object_ids("cow") == (1, 3)
    assert len(data.frames("cow")) == 3


def test_2016_uses_the_list_of_2017(tmp_path: Path) -> None:
    folder = tmp_path / "2016" / "Annotations" / "480p" / "cow"
    small(tmp_path / "2016")
    for path in folder.iterdir():
        write_mask(path, (LABELS > 0) * np.uint8(255))
    data = DavisDataset(tmp_path, year="2016")
    with pytest.raises(DatasetError, match=r"ImageSets/2016/val\.txt"):
        data.sequences()
    lists = tmp_path / "2017" / "trainval" / "ImageSets" / "2016"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("cow\n\n")
    assert data.sequences() == ["cow"]
    mask = data.labels(data.annotations("cow")[0])
    np.testing.assert_array_equal(mask.labels, LABELS > 0)


def test_test_dev_has_first_masks_only(tmp_path: Path) -> None:
    root = tmp_path / "2017" / "test-dev"
    write_davis_sequence(root, "cow", [(IMAGE, LABELS), (IMAGE, None)], split="test-dev")
    data = DavisDataset(tmp_path, split="test-dev")
    assert data.sequences() == ["cow"]
    assert [p.name for p in data.annotations("cow")] == ["00000.png"]
    data.annotations("cow")[0].unlink()
    with pytest.raises(DatasetError, match=r"00000\.png: is missing"):
        data.annotations("cow")


def test_void_is_background(tmp_path: Path) -> None:
    small(tmp_path)
    data = DavisDataset(tmp_path)
    path = data.annotations("cow")[0]
    void = LABELS.copy()
    void[0] = 255
    write_mask(path, void)
    np.testing.assert_array_equal(data.labels(path).labels, LABELS)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no JPEGImages/480p"):
        DavisDataset(tmp_path)
    small(tmp_path)
    data = DavisDataset(tmp_path)
    with pytest.raises(DatasetError, match="no JPEGImages/Full-Resolution"):
        DavisDataset(tmp_path, resolution="Full-Resolution")
    with pytest.raises(DatasetError, match="2018"):
        DavisDataset(tmp_path, year="2018")
    with pytest.raises(DatasetError, match=r"ImageSets/2017/train\.txt"):
        DavisDataset(tmp_path, split="train").sequences()
    with pytest.raises(DatasetError, match="JPEGImages/480p/dog: is missing"):
        data.frames("dog")
    with pytest.raises(DatasetError, match="plain name"):
        data.frames("../cow")
    with pytest.raises(DatasetError, match="Scribbles/cow"):
        data.scribbles("cow")
    (tmp_path / "Annotations/480p/cow/00001.png").unlink()
    with pytest.raises(DatasetError, match=r"Annotations/480p/cow/00001\.png: is missing"):
        data.annotations("cow")
    (tmp_path / "JPEGImages/480p/cow/00001.jpg").unlink()
    with pytest.raises(DatasetError, match=r"cow/00001\.jpg: is missing"):
        data.frames("cow")
    listing = tmp_path / "ImageSets/2017/val.txt"
    for text, words in (("", "lists no sequences"), ("cow\n/JPEGImages/480p/cow/00000.jpg x\n", "line 2")):
        listing.write_text(text)
        with pytest.raises(DatasetError, match=words):
            data.sequences()


def test_writer(tmp_path: Path) -> None:
    small(tmp_path, "cow")
    small(tmp_path, "ant")
    small(tmp_path, "cow", count=1)
    assert DavisDataset(tmp_path).sequences() == ["cow", "ant"]
    with Image.open(tmp_path / "JPEGImages/480p/ant/00000.jpg") as image:
        assert image.size == (30, 20) and abs(np.asarray(image).astype(int) - 90).max() <= 2
    with pytest.raises(DatasetError, match="plain name"):
        write_davis_sequence(tmp_path, "../x", [])
