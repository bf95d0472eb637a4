"""Limits against files that were made to harm: each refuses in one line that says the limit and how to go on."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blender.assets import find_assets
from blender.scene_file import read_scene
from pipelines.editing.actions import Action
from pipelines.evaluation.records import read_record
from stores import checkpoints, davis, json_files, scribbles, strokes, video, youtube
from stores.errors import DatasetError, UsageError, one_line
from stores.files import check_name, read_limited
from stores.labels import read_labels
from stores.masks import read_annotation, read_mask
from tests.fuzz.pictures import encoded
from tests.stores.refusals import refusal

Read = Callable[[Path], Any]


# ---- messages


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb\r\n\tc", "a b c"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("x\u202egnp", "x\\u202egnp"),
        ("\udcff", "\\udcff"),
        ("\x9b2J\u2028", "\\x9b2J"),
        ("größe 猫", "größe 猫"),
    ],
)
def test_a_message_does_nothing_to_a_terminal(text: str, line: str) -> None:
    assert one_line(text) == line
    error = UsageError(text, hint=text)
    assert str(error) == error.hint == line


def test_a_message_of_megabytes_is_shortened() -> None:
    assert len(one_line("x" * 10**7)) <= 5000 and one_line("a" + "x" * 10**6 + "b")[::4996] == "ab"


NAMES = ["a\nb", "\x1b]0;x\x07", "caf\udce9", "x" * 240, "a b", "-o", "'\"$(id)"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_reach_the_message_unharmed_and_harmless(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"nothing")
    for read in (
        scribbles.read_scribbles,
        read_mask,
        video.probe,
        checkpoints.read_checkpoint,
        read_scene,
        read_labels,
    ):
        refusal(lambda read=read: read(path), one_line(path))


def test_a_name_that_no_file_system_takes(tmp_path: Path) -> None:
    for path in (tmp_path / ("x" * 5000), tmp_path / "a\0b", tmp_path / "\ud800"):
        for read in (scribbles.read_scribbles, checkpoints.read_checkpoint, video.probe, read_mask):
            refusal(lambda read=read, path=path: read(path))


# ---- devices and pipes

READERS: dict[str, Read] = {
    "scribbles": scribbles.read_scribbles,
    "mask": read_mask,
    "annotation": read_annotation,
    "labels": read_labels,
    "checkpoint": checkpoints.read_checkpoint,
    "sha256": checkpoints.sha256,
    "scene": read_scene,
    "record": read_record,
    "video": video.probe,
    "fingerprint": video.fingerprint,
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("reader", READERS)
def test_devices_and_pipes_are_refused_at_once(tmp_path: Path, reader: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null"), Path("/dev/tty")):
        refusal(lambda path=path: READERS[reader](path), str(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.timeout(20)
def test_pipes_in_folders_are_refused_or_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(encoded("JPEG"))
    os.mkfifo(folder / "2.jpg")
    assert len(list(video.read_frames(folder))) == 1


# ---- JSON


def test_json_is_bounded_in_values_depth_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    monkeypatch.setattr(json_files, "MAX_JSON_VALUES", 50)
    path.write_text("[" + "[]," * 60 + "[]]")
    assert refusal(lambda: json_files.read_json(path, UsageError), "more than 50 JSON values").hint
    for depth in (101, 5000, 10**6):
        path.write_text("[" * depth + "]" * depth)
        monkeypatch.setattr(json_files, "MAX_JSON_VALUES", 10**7)
        refusal(lambda: json_files.read_json(path, UsageError), "nested too deeply")
    path.write_text("[" * 100 + "]" * 100)
    json_files.read_json(path, UsageError)
    assert refusal(lambda: read_limited(path, 99, UsageError), "larger than").hint


def test_reading_a_small_file_reserves_little(tmp_path: Path) -> None:
    """Python reserves what is asked for: once the limit, 256 MB, for a file of a few bytes."""
    path = tmp_path / "small"
    path.write_bytes(b"abc")
    tracemalloc.start()
    try:
        assert read_limited(path, 2**30, UsageError) == b"abc"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_scribbles_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.json"

    def refused(frames: list[Any], *words: str) -> None:
        path.write_text(json.dumps({"sequence": "x", "scribbles": frames}))
        assert refusal(lambda: scribbles.read_scribbles(path), *words).hint

    stroke = {"path": [[0.5, 0.5]], "object_id": 1}
    refused([[stroke | {"path": [[0.5, 0.5]] * (strokes.MAX_POINTS + 1)}]], "100001 points, 100000 are the most")
    monkeypatch.setattr(scribbles, "MAX_STROKES", 3)
    refused([[stroke] * 4], "more than 3 strokes")
    monkeypatch.setattr(scribbles, "MAX_FRAMES", 5)
    refused([[stroke], [], [], [], [], []], "has 6 frames, 5 are the most")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": 10**9}, "frames is 1000000000, not in 1..100000"),
        ({"size": [10**6, 10]}, "at most 16384 pixels"),
        ({"size": [True, 10]}, "size is not"),
        ({"camera": {"fov": 10**400}}, "fov is no finite number"),
        ({"camera": {"fov": 1, "location": [[10**400, 0, 0]]}}, "location holds something else"),
        ({"camera": {"fov": 1, "location": [["1", 0, 0]]}}, "location holds something else"),
        ({"camera": {"fov": 1, "location": [[0, 0, 0]] * 1001}}, "1001 entries, 1000 are the most"),
        ({"lights": [{}] * 1001}, "1001 of them, 1000 are the most"),
    ],
)
def test_scenes_are_bounded(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    from blender.assets import Assets, Shelf
    from blender.scene import sample_scene
    from blender.scene_file import write_scene

    shelves = (Shelf(kind, {"a": "/a", "b": "/b"}) for kind in ("meshes", "textures", "skies"))
    path = tmp_path / "scene.json"
    write_scene(path, sample_scene(1, 0, Assets(*shelves), 8, (64, 48)))
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, **change}))
    assert refusal(lambda: read_scene(path), words).hint


@pytest.mark.parametrize("raw", [b"[" * 10**5, b"\xff", b'{"schema": 1' + b"0" * 5000 + b"}"])
def test_a_scene_that_is_no_json(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "scene.json").write_bytes(raw)
    refusal(lambda: read_scene(tmp_path / "scene.json"), "scene.json")


def test_records_and_actions_with_numbers_of_hundreds_of_digits(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    fields = {"kind": "x", "time": "", "code": {}, "machine": {}, "settings": {}, "data": None, "scores": {}}
    path.write_text(json.dumps({"format": 1, **fields, "means": {"J": 10**400}}))
    refusal(lambda: read_record(path), "no record")
    paste = {"id": "a", "frame": 0, "kind": "paste", "png": ""}
    for wrong in ([None], "ab", [10**400], [-1], [1] * 300, {"a": 1}):
        refusal(lambda wrong=wrong: Action.from_json(paste | {"objects": wrong}, num_frames=1), "objects")
    line = {"id": "a", "frame": 0, "kind": "scribble", "object": 1}
    for wrong in ([["0.5", "0.5"]], [[True, False]], [[10**400, 0]], [[[0.5, 0.5]]], [[0.5], [0.5, 0.5]]):
        refusal(lambda wrong=wrong: Action.from_json(line | {"path": wrong}, num_frames=1), "path")


# ---- names


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/x", "a/b", "a\\b", "a\0", "a\nb", "\x1b", "\ud800", "x" * 201]
)
def test_names_that_are_not_plain(name: str) -> None:
    refusal(lambda: check_name(name, "name"), "not a plain name")


def test_names_in_lists_and_metadata_lead_nowhere(tmp_path: Path) -> None:
    split = tmp_path / "valid"
    (split / "JPEGImages" / "v").mkdir(parents=True)
    for video_name, stem in (("v", "../../../x"), ("v", "/etc/passwd"), ("../v", "00000"), ("v", "\ud800")):
        objects = {"objects": {"1": {"category": "x", "frames": [stem]}}}
        (split / "meta.json").write_text(json.dumps({"videos": {video_name: objects}}))
        refusal(lambda: youtube.YouTubeDataset(tmp_path).videos(), "meta.json", "not a plain name")
    (tmp_path / "JPEGImages" / "480p").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("bear\n../../etc\n")
    refusal(lambda: davis.DavisDataset(tmp_path).sequences(), "line 2", "not a plain name")


def test_links_in_circles(tmp_path: Path) -> None:
    meshes = tmp_path / "meshes"
    inner = meshes / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "cup.obj").write_text("v 0 0 0\n")
    for number in range(4):
        (inner / f"up{number}").symlink_to(meshes, target_is_directory=True)
        (meshes / f"down{number}").symlink_to(inner, target_is_directory=True)
    found = find_assets([meshes], None, None, tmp_path / "work").meshes.files
    assert len(found) <= 5 and any(name.endswith("cup.obj") for name in found)


def test_a_data_set_never_starts_other_programs(tmp_path: Path) -> None:
    """Pillow would start Ghostscript for PostScript."""
    (tmp_path / "mask.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_labels(tmp_path / "mask.png")
