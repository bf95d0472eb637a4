"""Scenes: the published numbers over many seeds, independence of videos, files that are checked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blender.assets import Assets, Shelf
from blender.render import RenderOptions, render_bl30k
from blender.scene import SEPARATION, TRIES, Scene, sample_scene
from blender.scene_file import read_scene, write_scene
from blender.trajectories import evaluate, minimum_distance
from stores.errors import RenderError, UsageError

QUARTERS = np.linspace(0, 1, 5)


def shelf(kind: str, count: int) -> Shelf:
    return Shelf(kind, {f"{kind}/{i:03d}": f"/nowhere/{kind}/{i:03d}" for i in range(count)})


ASSETS = Assets(shelf("meshes", 40), shelf("textures", 30), shelf("skies", 7))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(11, index, ASSETS) for index in range(400)]


def controls(path: Any) -> np.ndarray:
    return evaluate(np.array(path), QUARTERS)


def test_defaults_and_counts(scenes: list[Scene]) -> None:
    assert all(scene.frames == 160 and scene.size == (768, 512) for scene in scenes)
    objects = np.bincount([len(scene.objects) for scene in scenes], minlength=6)
    lights = np.bincount([len(scene.lights) for scene in scenes], minlength=4)
    assert objects[:3].sum() == 0 and len(objects) == 6 and (np.abs(objects[3:] / len(scenes) - 1 / 3) < 0.07).all()
    assert lights[0] == 0 and len(lights) == 4 and (np.abs(lights[1:] / len(scenes) - 1 / 3) < 0.07).all()
    assert all([item.id for item in scene.objects] == list(range(1, len(scene.objects) + 1)) for scene in scenes)


def test_camera(scenes: list[Scene]) -> None:
    fov = np.array([scene.camera.fov for scene in scenes])
    assert fov.min() >= 0.7 and fov.max() <= 0.8 and fov.mean() == pytest.approx(0.75, abs=0.005)
    place = np.array([controls(scene.camera.location) for scene in scenes])
    target = np.array([controls(scene.camera.look_at) for scene in scenes])
    for points, middle in ((place, [0.0, -5.5, 0.0]), (target, [0.0, 3.5, 0.0])):
        half = [0.3, 0.5, 0.3] if points is place else [0.5, 0.5, 0.5]
        assert (np.abs(points - middle) <= np.array(half) + 1e-9).all()
        np.testing.assert_allclose(points[:, 0].mean(0), middle, atol=0.05)
        np.testing.assert_allclose(points[:, 0].std(0), np.array(half) / np.sqrt(3), rtol=0.1)
    # The camera rests with both at once, in about one step of ten and a bit.
    rests = (np.abs(np.diff(place, axis=1)) < 1e-9).all(-1)
    np.testing.assert_array_equal(rests, (np.abs(np.diff(target, axis=1)) < 1e-9).all(-1))
    assert rests[:, 0].mean() == pytest.approx(0.10, abs=0.035)


def test_objects_start_in_the_view_and_drift_as_published(scenes: list[Scene]) -> None:
    items = [item for scene in scenes for item in scene.objects]
    place, turn, size = (
        np.array([controls(getattr(item, key)) for item in items]) for key in ("location", "rotation", "scale")
    )
    y = place[..., 1]
    assert y.min() >= -2 - 1e-9 and y.max() <= 5 + 1e-9
    assert (np.abs(place[..., 0]) <= 1.05 * (y.max() + 6) / 4 + 1e-9).all()
    start = place[:, 0]
    bound = 1.05 * (start[:, 1] + 6) / 4
    for axis in (0, 2):
        assert (np.abs(start[:, axis]) <= bound + 1e-9).all()
        assert (start[:, axis] / bound).std() == pytest.approx(1 / np.sqrt(3), rel=0.08)
    assert turn[:, 0].min() >= 0 and turn[:, 0].max() <= 2 * np.pi
    assert size[:, 0].min() >= 1.25 and size[:, 0].max() <= 3.0
    assert size[:, 0].mean() == pytest.approx(2.125, abs=0.05)
    moving = np.abs(np.diff(place, axis=1)).max(-1) > 1e-9
    steps = np.diff(turn, axis=1)[moving]
    assert steps.std() == pytest.approx(0.8, rel=0.05) and abs(steps.mean()) < 0.05
    factors = (size[:, 1:] / size[:, :-1])[moving]
    assert factors.min() >= 0.8**0.25 - 1e-9 and factors.max() <= 1.25**0.25 + 1e-9
    # A step up of an axis is at most |N(0, 1.2)|: its distribution has that tail; a step down has none.
    up = np.diff(place, axis=1)[moving][:, 1]
    assert (up > 3.0).mean() < 0.01 < (up < -3.0).mean()


def test_lights_and_sky(scenes: list[Scene]) -> None:
    lights = [light for scene in scenes for light in scene.lights]
    energy, places = np.array([light.energy for light in lights]), np.array([light.location for light in lights])
    assert energy.min() >= 1000 and energy.max() <= 15000 and energy.mean() == pytest.approx(8000, rel=0.05)
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), 11.0)
    np.testing.assert_allclose(places.mean(0), 0.0, atol=0.7)
    colours = np.array([light.color for light in lights])
    np.testing.assert_allclose(colours.max(1), 1.0)
    assert colours.min() >= 0.5
    strength = np.array([scene.sky.strength for scene in scenes])
    assert strength.min() >= 0.1 and strength.max() <= 1.0 and strength.mean() == pytest.approx(0.55, abs=0.04)


def test_separation(scenes: list[Scene]) -> None:
    retried = 0
    for scene in scenes[:200]:
        for i, item in enumerate(scene.objects):
            paths = [np.array(other.location) for other in scene.objects[:i]]
            nearest = min((minimum_distance(np.array(item.location), path) for path in paths), default=None)
            assert item.separation == (None if nearest is None else pytest.approx(nearest))
            assert 1 <= item.tries <= TRIES
            assert not item.collides or item.tries == TRIES
            assert nearest is None or nearest >= SEPARATION or item.collides
            retried += item.tries > 1
    assert retried > 50  # the test does something


def test_a_video_does_not_depend_on_the_others() -> None:
    assert sample_scene(11, 37, ASSETS) == sample_scene(11, 37, ASSETS)
    assert sample_scene(11, 37, ASSETS) != replace(sample_scene(12, 37, ASSETS), seed=11)
    assert sample_scene(11, 37, ASSETS).camera != sample_scene(11, 38, ASSETS).camera


def test_files_are_used_evenly(scenes: list[Scene]) -> None:
    skies = [scene.sky.image for scene in scenes[: 7 * 50]]
    assert all(skies.count(name) == 50 for name in ASSETS.skies.files)
    assert all(len(set(skies[i : i + 7])) == 7 for i in range(0, 350, 7))
    models = [item.model for scene in scenes for item in scene.objects]
    counts = np.array([models.count(name) for name in ASSETS.meshes.files])
    assert counts.min() > 0.7 * counts.mean() and counts.max() < 1.3 * counts.mean()
    keep = np.mean([item.keep_own for scene in scenes for item in scene.objects])
    assert keep == pytest.approx(0.5, abs=0.03)


def test_spares_are_other_files_first(scenes: list[Scene]) -> None:
    for scene in scenes[:50]:
        assert set(scene.spares) == {"meshes", "textures", "skies"}
        used = {item.model for item in scene.objects}
        spares = scene.spares["meshes"]
        assert len(spares) == len(set(spares)) > 8 and set(spares[-len(used) :]) == used
        assert scene.spares["skies"][-1] == scene.sky.image


def test_written_and_read(tmp_path: Path, scenes: list[Scene]) -> None:
    path = tmp_path / "scenes" / "00003.json"
    write_scene(path, scenes[3])
    assert read_scene(path) == scenes[3]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("schema", "else", "is not a scene"),
        ("version", 7, "has version 7"),
        ("frames", 0, "frames is 0, not in 1"),
        ("frames", "3", "frames is not int"),
        ("size", [768], "size is not"),
        ("objects", [], "objects: 0 of them"),
        ("objects", [{"id": 1}], "objects[0].model is missing"),
        ("camera", {"fov": 0.7}, "camera.location is missing"),
        ("camera", {"fov": None}, "camera.fov is no finite number"),
        ("lights", [{"energy": 5, "color": [1, 1], "location": [0, 0, 0]}], "lights[0].color is not [x, y, z]"),
        ("sky", None, "sky is not dict"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, scenes: list[Scene], field: str, value: Any, words: str) -> None:
    path = tmp_path / "00000.json"
    write_scene(path, scenes[0])
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(RenderError) as caught:
        read_scene(path)
    assert words in str(caught.value) and str(path) in str(caught.value) and caught.value.hint


def test_half_a_file_is_no_scene(tmp_path: Path, scenes: list[Scene]) -> None:
    path = tmp_path / "00000.json"
    write_scene(path, scenes[0])
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(RenderError, match="not JSON"):
        read_scene(path)


def test_shards_write_the_scenes_of_one_run(tmp_path: Path) -> None:
    options = RenderOptions(videos=5, frames=3, size=(64, 48), seed=4, start=2)
    render_bl30k(tmp_path / "whole", options, scenes_only=True)
    for k in (2, 1, 3):
        render_bl30k(tmp_path / "out", replace(options, shard=(k, 3)), scenes_only=True)
    whole, parts = ({p.name: p.read_bytes() for p in (tmp_path / n / "scenes").iterdir()} for n in ("whole", "out"))
    assert parts == whole and sorted(parts) == [f"{k:05d}.json" for k in range(2, 7)]
    assert sorted(i for k in (1, 2, 3) for i in replace(options, shard=(k, 3)).indices) == options.indices
    with pytest.raises(UsageError, match="--shard"):
        RenderOptions(shard=(4, 3))
