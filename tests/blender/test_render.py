"""Real rendering: masks fit the pictures, things are where their polynomials say, runs continue."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from blender.render import render_bl30k
from blender.scene import Scene
from blender.scene_file import read_scene
from blender.trajectories import evaluate, frame_times
from stores.bl30k import Bl30kDataset
from stores.errors import RenderError, UsageError
from stores.mask_colours import davis_palette
from tests.blender.conftest import FRAMES, SIZE, Rendered, designed
from tests.mivos_cli.conftest import start_mivos


def masks(out: Path, video: str) -> np.ndarray:
    data = Bl30kDataset(out)
    return np.stack([data.labels(path).labels for path in data.annotations(video)])


def pictures(out: Path, video: str) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in Bl30kDataset(out).frames(video)])


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def project(scene: Scene, points: np.ndarray) -> np.ndarray:
    """World points [T, 3], one per frame, to pixels [T, 2]; computed from the scene alone."""
    times = frame_times(scene.frames)
    eye, target = (evaluate(np.array(path), times) for path in (scene.camera.location, scene.camera.look_at))
    forward = (target - eye) / np.linalg.norm(target - eye, axis=1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    up = np.cross(right, forward)
    x, y, depth = ((axis * (points - eye)).sum(1) for axis in (right, up, forward))
    width, height = scene.size
    focal = max(width, height) / 2 / np.tan(scene.camera.fov / 2)
    return np.stack([width / 2 + focal * x / depth, height / 2 - focal * y / depth], axis=1)


def test_layout(rendered: Rendered) -> None:
    data = Bl30kDataset(rendered.out)
    assert data.videos() == ["00000", "00001"]
    for video in data.videos():
        assert [path.name for path in data.frames(video)] == [f"{i:05d}.jpg" for i in range(FRAMES)]
        for image, mask in zip(data.frames(video), data.annotations(video), strict=True):
            with Image.open(image) as picture, Image.open(mask) as labels:
                assert picture.size == labels.size == SIZE and picture.format == "JPEG"
                assert labels.mode == "P" and labels.getpalette() == davis_palette().ravel().tolist()
    assert not list((rendered.out / "work").glob("0*")), "nothing unfinished is left behind"


def test_masks_are_the_silhouettes(rendered: Rendered) -> None:
    labels, images = masks(rendered.out, "00000"), pictures(rendered.out, "00000").astype(int)
    assert set(np.unique(labels)) == {0, 1, 2}
    for mask, image in zip(labels, images, strict=True):
        red, green, blue = image[..., 0], image[..., 1], image[..., 2]
        # The sky is pure blue; in the shadow the boxes are black, which is not blue either.
        sky = blue > np.maximum(red, green) + 60
        assert iou(mask > 0, ~sky) > 0.95
        for number, here, there in ((1, red, green), (2, green, red)):
            assert (here > there)[mask == number].mean() > 0.97, "ids belong to their objects"
            assert (mask == number).sum() > 200


def test_objects_move_as_their_polynomials_say(rendered: Rendered) -> None:
    scene, labels = designed(), masks(rendered.out, "00000")
    assert read_scene(rendered.out / "scenes" / "00000.json") == scene
    truth = project(scene, evaluate(np.array(scene.objects[0].location), frame_times(FRAMES)))
    for mask, centre in zip(labels, truth, strict=True):
        y, x = np.nonzero(mask == 1)
        assert np.hypot(x.mean() + 0.5 - centre[0], y.mean() + 0.5 - centre[1]) < 1.0  # pixels
    assert np.linalg.norm(truth[-1] - truth[0]) > 60


def test_meshes_are_brought_to_the_size_of_shapenet(rendered: Rendered) -> None:
    """The ball of radius 3 about (8, 8, 8) gets a box of diagonal 1, radius 1 / sqrt(12), times the scale of 2.4."""
    scene, labels = designed(), masks(rendered.out, "00000")
    times = frame_times(FRAMES)
    eye, target = (evaluate(np.array(path), times) for path in (scene.camera.location, scene.camera.look_at))
    away = evaluate(np.array(scene.objects[0].location), times) - eye
    depth = (away * (target - eye)).sum(1) / np.linalg.norm(target - eye, axis=1)
    focal, radius = SIZE[0] / 2 / np.tan(scene.camera.fov / 2), 2.4 / np.sqrt(12)
    # A ball beside the axis is seen as an ellipse; this is its area.
    nearest = depth**2 - radius**2
    areas = np.pi * (focal * radius) ** 2 / nearest * np.sqrt(((away**2).sum(1) - radius**2) / nearest)
    for mask, area in zip(labels, areas, strict=True):
        assert (mask == 1).sum() == pytest.approx(area, rel=0.03)


def test_bad_meshes_are_replaced_and_noted(rendered: Rendered) -> None:
    lines = [json.loads(line) for line in (rendered.out / "manifest.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["00000", "00001"]
    plain, sampled = lines
    assert plain["replaced"] == [] and [item["texture"] for item in plain["objects"]] == [
        "textures/red.png",
        "textures/green.png",
    ]
    assert (sampled["frames"], sampled["size"], sampled["samples"], sampled["seed"]) == (FRAMES, list(SIZE), 4, 1)
    good = {"meshes/ball.obj", "meshes/cube.obj", "meshes/two parts.obj"}
    assert {item["model"] for item in sampled["objects"]} <= good
    wanted = [item.model for item in read_scene(rendered.out / "scenes" / "00001.json").objects]
    bad = {name for name in wanted if name not in good}
    assert bad and {entry["file"] for entry in sampled["replaced"]} == bad
    assert rendered.report.replaced == sampled["replaced"]
    reasons = {
        "meshes/garbage.glb": "cannot be read",
        "meshes/empty.obj": "",
        "meshes/points.obj": "has no faces",
        "meshes/line.obj": "has no extent",
    }
    for name, why in sampled["unusable"].items():
        assert why.startswith(reasons[name]) and why
        assert any(name in warning and why in warning for warning in rendered.warnings)
    assert set(np.unique(masks(rendered.out, "00001"))) > {0}


def test_the_same_seed_gives_the_same_masks(rendered: Rendered, tmp_path: Path) -> None:
    """Video 1 alone, in another folder, without video 0 before it."""
    options = replace(rendered.options, videos=1, start=1)
    render_bl30k(tmp_path, options)
    assert Bl30kDataset(tmp_path).videos() == ["00001"]
    np.testing.assert_array_equal(masks(tmp_path, "00001"), masks(rendered.out, "00001"))
    difference = pictures(tmp_path, "00001").astype(int) - pictures(rendered.out, "00001")
    assert np.abs(difference).max() <= 1


def test_what_is_done_is_not_rendered_again(rendered: Rendered) -> None:
    times = {path: path.stat().st_mtime_ns for path in rendered.out.rglob("0000?.*")}
    seen: list[tuple[int, int]] = []
    report = render_bl30k(rendered.out, rendered.options, progress=lambda done, total: seen.append((done, total)))
    assert (report.rendered, report.already_done, report.frames) == (0, 2, 0)
    assert seen == [(2 * FRAMES, 2 * FRAMES)]
    assert times == {path: path.stat().st_mtime_ns for path in rendered.out.rglob("0000?.*")}


def test_other_options_are_refused(rendered: Rendered) -> None:
    with pytest.raises(UsageError, match="was begun with --samples 4, not 5"):
        render_bl30k(rendered.out, replace(rendered.options, samples=5))
    with pytest.raises(UsageError, match="was begun with --meshes 7 files"):
        render_bl30k(rendered.out, replace(rendered.options, meshes=()))


def test_a_lost_record_is_made_again(rendered: Rendered) -> None:
    record = rendered.out / "records" / "00001.json"
    before = json.loads(record.read_text())
    record.unlink()
    report = render_bl30k(rendered.out, rendered.options)
    assert (report.rendered, report.frames) == (1, 0)
    after = json.loads(record.read_text())
    assert {**after, "seconds": 0} == {**before, "seconds": 0}
    assert json.loads((rendered.out / "manifest.jsonl").read_text().splitlines()[1]) == after


def test_a_broken_texture_is_replaced(rendered: Rendered, tmp_path: Path) -> None:
    textures = tmp_path / "textures"
    textures.mkdir()
    (textures / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    Image.new("RGB", (16, 16), "white").save(textures / "good.png")
    options = replace(rendered.options, videos=1, frames=1, meshes=(), skies=None, textures=textures, samples=1)
    render_bl30k(tmp_path / "out", options)
    (line,) = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert {item["texture"] for item in json.loads(line)["objects"]} == {"textures/good.png"}
    assert json.loads(line)["unusable"] == {"textures/broken.jpg": "is no image"}


def test_nothing_usable_is_one_clear_line(rendered: Rendered, tmp_path: Path) -> None:
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    (meshes / "points.obj").write_text("v 0 0 0\n")
    with pytest.raises(RenderError, match="meshes/points.obj: has no faces, and none of the meshes") as caught:
        render_bl30k(tmp_path / "out", replace(rendered.options, videos=1, frames=1, meshes=(meshes,)))
    assert "logs/00000.log" in str(caught.value.hint)


def arguments(rendered: Rendered, out: Path) -> list[str]:
    options = rendered.options
    line = f"render-bl30k --out {out} --videos 1 --start 1 --frames {FRAMES} --size 192x128 --samples 4 --seed 1"
    folders = ["--meshes", str(options.meshes[0]), "--textures", str(options.textures), "--skies", str(options.skies)]
    return [*line.split(), "--workers", "1", *folders]


def wait_for(what: str, found: object, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not found():  # type: ignore[operator]
        assert time.monotonic() < end, f"no {what} in {seconds} s"
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_a_killed_run_continues_at_its_frame(rendered: Rendered, tmp_path: Path) -> None:
    images = tmp_path / "work" / "00001" / "JPEGImages"
    with start_mivos(*arguments(rendered, tmp_path)) as process:
        wait_for("first picture", lambda: any(images.glob("*.jpg")))
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    psutil.wait_procs(children, timeout=60)
    assert not any(child.is_running() for child in children), "the renderer ends with its parent"
    there = {path.name: path.stat().st_mtime_ns for path in images.glob("*.jpg")}
    assert 0 < len(there) < FRAMES and not (tmp_path / "JPEGImages").exists(), "the kill came in between"
    with start_mivos(*arguments(rendered, tmp_path)) as process:
        assert process.wait(timeout=240) == 0
    final = tmp_path / "JPEGImages" / "00001"
    assert there.items() <= {path.name: path.stat().st_mtime_ns for path in final.iterdir()}.items()
    np.testing.assert_array_equal(masks(tmp_path, "00001"), masks(rendered.out, "00001"))
    difference = pictures(tmp_path, "00001").astype(int) - pictures(rendered.out, "00001")
    assert np.abs(difference).max() <= 1


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_the_death_of_the_renderer_is_one_line(rendered: Rendered, tmp_path: Path) -> None:
    with start_mivos(*arguments(rendered, tmp_path), stderr=-1) as process:
        wait_for("mask", lambda: any((tmp_path / "work" / "00001" / "Annotations").glob("*.png")))
        for child in psutil.Process(process.pid).children(recursive=True):
            os.kill(child.pid, signal.SIGKILL)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    lines = [line for line in error.splitlines() if line.startswith(("error:", "hint:"))]
    assert lines[0] == "error: 00001: the renderer was ended by SIGKILL before it was done"
    assert "memory" in lines[1] and str(tmp_path / "logs" / "00001.log") in lines[1]
    assert "Traceback" not in error
