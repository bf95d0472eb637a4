"""YouTube-VOS trees, made small from the real frames and masks where present."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stores.davis import DavisDataset
from stores.errors import DatasetError
from stores.youtube import YouTubeDataset, YouTubeObject, write_youtube_video

IMAGE = np.full((20, 30, 3), 90, dtype=np.uint8)


def labels(*ids: int) -> np.ndarray:
    result = np.zeros((20, 30), dtype=np.uint8)
    for place, i in enumerate(ids):
        result[place * 5 : place * 5 + 4, :10] = i
    return result


def small(root: Path) -> YouTubeDataset:
    frames = [
        ("00005", IMAGE, labels(2)),
        ("00010", IMAGE, None),
        ("00015", IMAGE, labels(2, 7)),
    ]
    objects = [YouTubeObject(7, "dog", ("00015",)), YouTubeObject(2, "", ("00005", "00015"))]
    assert write_youtube_video(root, "valid", "0a49f5265b", frames, objects) == 3
    return YouTubeDataset(root)


def test_real_frames(shared_data: Path, tmp_path: Path) -> None:
    source = DavisDataset(shared_data)
    paths, truth = source.frames("chair")[:11:5], source.annotations("chair")[:11:5]
    rows = []
    for n, (image, mask) in enumerate(zip(paths, truth, strict=True)):
        with Image.open(image) as opened:
            rows.append((image.stem, np.asarray(opened), source.labels(mask).labels if n == 0 else None))
    write_youtube_video(tmp_path, "valid", "chair", rows, [YouTubeObject(1, "chair", ("00000", "00010"))])
    data = YouTubeDataset(tmp_path)
    assert [p.stem for p in data.frames("chair")] == ["00000", "00005", "00010"]
    assert data.first_appearance("chair") == {1: "00000"}
    np.testing.assert_array_equal(data.labels(data.annotations("chair")["00000"]).labels, rows[0][2])


def test_ids_and_stems_are_kept(tmp_path: Path) -> None:
    data = small(tmp_path)
    assert data.videos() == ["0a49f5265b"]
    assert [p.stem for p in data.frames("0a49f5265b")] == ["00005", "00010", "00015"]
    assert list(data.annotations("0a49f5265b")) == ["00005", "00015"]
    assert data.first_appearance("0a49f5265b") == {2: "00005", 7: "00015"}
    assert data.required_stems("0a49f5265b") == ["00005", "00015"]
    assert [o.object_id for o in data.objects("0a49f5265b")] == [2, 7]
    assert data.objects("0a49f5265b")[1].category == "dog"
    # The folder of one split serves as the root too.
    assert YouTubeDataset(tmp_path / "valid").videos() == ["0a49f5265b"]


def test_all_frames(tmp_path: Path) -> None:
    data = small(tmp_path)
    with pytest.raises(DatasetError, match="all_frames/valid_all_frames/JPEGImages: is missing"):
        data.all_frames("0a49f5265b")
    folder = tmp_path / "all_frames" / "valid_all_frames" / "JPEGImages" / "0a49f5265b"
    folder.mkdir(parents=True)
    for n in range(3):
        Image.fromarray(IMAGE).save(folder / f"{n + 5:05d}.jpg")
    assert [p.stem for p in data.all_frames("0a49f5265b")] == ["00005", "00006", "00007"]


def test_without_meta(tmp_path: Path) -> None:
    small(tmp_path)
    (tmp_path / "valid" / "meta.json").unlink()
    data = YouTubeDataset(tmp_path)
    assert data.videos() == ["0a49f5265b"]
    assert data.required_stems("0a49f5265b") == ["00005", "00010", "00015"]
    with pytest.raises(DatasetError, match=r"meta\.json"):
        data.objects("0a49f5265b")


def test_second_video_joins_meta(tmp_path: Path) -> None:
    small(tmp_path)
    write_youtube_video(tmp_path, "valid", "b", [("00000", IMAGE, labels(1))])
    assert YouTubeDataset(tmp_path).videos() == ["0a49f5265b", "b"]
    with pytest.raises(DatasetError, match="plain name"):
        write_youtube_video(tmp_path, "valid", "..", [])


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ("{", "not JSON"),
        (["videos"], "top level"),
        ({}, "videos is missing"),
        ({"videos": {}}, "videos is empty"),
        ({"videos": {"a": 1}}, r"videos\.a must be an object"),
        ({"videos": {"../a": {}}}, "plain name"),
        ({"videos": {"a": {}}}, r"videos\.a\.objects is missing"),
        ({"videos": {"a": {"objects": {"x": {}}}}}, r"objects\.x: the object id"),
        ({"videos": {"a": {"objects": {"255": {}}}}}, r"objects\.255: the object id"),
        ({"videos": {"a": {"objects": {"1": []}}}}, r"objects\.1 must be an object"),
        ({"videos": {"a": {"objects": {"1": {}}}}}, r"objects\.1\.frames must be a list"),
        ({"videos": {"a": {"objects": {"1": {"frames": [5]}}}}}, r"objects\.1\.frames must be a list"),
        ({"videos": {"a": {"objects": {"1": {"frames": [], "category": 3}}}}}, "category"),
    ],
)
def test_bad_meta_names_the_field(meta: Any, words: str, tmp_path: Path) -> None:
    data = small(tmp_path)
    (tmp_path / "valid" / "meta.json").write_text(meta if isinstance(meta, str) else json.dumps(meta))
    with pytest.raises(DatasetError, match=words) as caught:
        data.videos()
    assert "meta.json" in str(caught.value) and "\n" not in str(caught.value)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="valid/JPEGImages: is missing"):
        YouTubeDataset(tmp_path)
    data = small(tmp_path)
    with pytest.raises(DatasetError, match=r"videos\.nope is missing"):
        data.objects("nope")
    with pytest.raises(DatasetError, match="JPEGImages/nope"):
        data.frames("nope")
    (tmp_path / "valid/JPEGImages/0a49f5265b/00005.jpg").unlink()
    with pytest.raises(DatasetError, match=r"00005\.png: there is no frame 00005\.jpg"):
        data.annotations("0a49f5265b")
    for path in (tmp_path / "valid/Annotations/0a49f5265b").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="holds no masks"):
        data.annotations("0a49f5265b")
