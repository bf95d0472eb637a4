"""Finding meshes and pictures, walking through them, and painting what nobody gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blender.assets import BUILTIN, LUMPS, PRIMITIVES, Shelf, find_assets
from blender.procedural import SKIES, TEXTURES, paint, picture
from stores.errors import DatasetError


def test_shapenet_trees_and_folders(tmp_path: Path) -> None:
    for name in ("02691156/a1/models/model_normalized.obj", "02691156/a1/models/model_normalized.mtl"):
        path = tmp_path / "ShapeNetCore.v2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "ShapeNetCore.v2" / "taxonomy.json").touch()
    (tmp_path / "more" / ".hidden").mkdir(parents=True)
    for name in ("b10.glb", "b2.GLB", "note.txt", ".hidden/c.glb"):
        (tmp_path / "more" / name).touch()
    assets = find_assets([tmp_path / "ShapeNetCore.v2", tmp_path / "more"], None, None, tmp_path / "work")
    assert list(assets.meshes.files) == [
        "ShapeNetCore.v2/02691156/a1/models/model_normalized.obj",
        "more/b2.GLB",
        "more/b10.glb",
    ]
    assert assets.file("meshes", "more/b2.GLB") == str(tmp_path / "more/b2.GLB")
    with pytest.raises(DatasetError, match="more/gone.glb"):
        assets.file("meshes", "more/gone.glb")


def test_folders_of_one_name_stay_apart(tmp_path: Path) -> None:
    for top in ("x", "y"):
        (tmp_path / top / "meshes").mkdir(parents=True)
        (tmp_path / top / "meshes" / "a.glb").touch()
    assets = find_assets([tmp_path / "x/meshes", tmp_path / "y/meshes"], None, None, tmp_path / "work")
    assert assets.meshes.files == {
        "meshes/a.glb": str(tmp_path / "x/meshes/a.glb"),
        "meshes~2/a.glb": str(tmp_path / "y/meshes/a.glb"),
    }


def test_empty_and_missing_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty: holds no meshes"):
        find_assets([tmp_path / "empty"], None, None, tmp_path / "work")
    with pytest.raises(DatasetError, match="empty: holds no images"):
        find_assets([], tmp_path / "empty", None, tmp_path / "work")
    with pytest.raises(DatasetError, match="gone: cannot be read"):
        find_assets([], None, tmp_path / "gone", tmp_path / "work")


def test_the_embedded_set(tmp_path: Path) -> None:
    assets = find_assets([], None, None, tmp_path)
    assert len(assets.meshes.files) == len(PRIMITIVES) + len(LUMPS)
    assert all(path == name and name.startswith(BUILTIN) for name, path in assets.meshes.files.items())
    for kind in ("textures", "skies"):
        names = list(getattr(assets, kind).files)
        assert len(names) >= 30 and not Path(getattr(assets, kind).files[names[0]]).exists()
        assert Path(assets.file(kind, names[0])).stat().st_size > 2_000


def test_pictures_follow_from_the_seed_and_differ(tmp_path: Path) -> None:
    for name in (*TEXTURES[::6], *SKIES[::6]):  # one of each kind
        image = picture(name, 5)
        assert image.dtype == np.uint8 and image.shape == (512, 1024 if name in SKIES else 512, 3)
        assert image.std() > 4, name
    for name in (TEXTURES[0], SKIES[0]):
        np.testing.assert_array_equal(picture(name, 5), picture(name, 5))
        assert (picture(name, 5) != picture(name, 6)).mean() > 0.1
    path = tmp_path / "made" / "noise0.png"
    paint("noise0", path, 1)
    made = path.stat().st_mtime_ns
    paint("noise0", path, 1)
    assert path.stat().st_mtime_ns == made


def test_a_walk_is_even_and_the_same_from_everywhere() -> None:
    walk = Shelf("meshes", {str(i): "" for i in range(7)}).walk(3, 5)
    places = [name for video in range(21) for name in walk(video, 0)]
    for turn in range(15):
        assert sorted(places[turn * 7 : turn * 7 + 7]) == [str(i) for i in range(7)]
    assert walk(2, 4) == places[10:19]
    assert [Shelf("skies", {"a": ""}).walk(0, 1)(9, 3)] == [["a"] * 4]
