"""`mivos render-bl30k`: options, scenes without a renderer, and one clear line for bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blender.scene_file import read_scene
from mivos_cli.app import app
from mivos_cli.render import duration, parse_size
from stores.errors import UsageError

runner = CliRunner()


def test_scenes_only(tmp_path: Path) -> None:
    line = f"render-bl30k --out {tmp_path} --videos 2 --start 5 --frames 7 --size 64x48 --seed 9 --scenes-only --json"
    result = runner.invoke(app, line.split())
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["rendered"] == 0
    names = sorted(path.name for path in (tmp_path / "scenes").iterdir())
    assert names == ["00005.json", "00006.json"]
    scene = read_scene(tmp_path / "scenes" / "00006.json")
    assert (scene.seed, scene.index, scene.frames, scene.size) == (9, 6, 7, (64, 48))
    before = (tmp_path / "scenes" / "00006.json").read_bytes()
    assert runner.invoke(app, line.split()).exit_code == 0
    assert (tmp_path / "scenes" / "00006.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--size 768", 2, "--size 768: is not of the form 768x512"),
        ("--size 8x8", 2, "--size must be in"),
        ("--frames 20000", 2, "--frames must be in"),
        ("--start 99999 --videos 2", 2, "video indices end at 99999"),
        ("--meshes {0}/none", 1, "none: cannot be read: No such file"),
        ("--meshes {0}/empty", 1, "empty: holds no meshes"),
        ("--skies {0}/empty", 1, "empty: holds no images"),
        ("--out {0}/file", 1, "file/scenes: cannot be made"),
    ],
)
def test_bad_input(tmp_path: Path, options: str, code: int, words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    line = ["render-bl30k", "--scenes-only", "--out", str(tmp_path / "out"), *options.format(tmp_path).split()]
    result = runner.invoke(app, line)
    assert result.exit_code == code, result.stderr
    assert words in result.stderr and result.stdout == ""


def test_out_is_needed() -> None:
    result = runner.invoke(app, ["render-bl30k"])
    assert result.exit_code == 2 and "--out is missing" in result.stderr and "--setup" in result.stderr


def test_without_a_renderer_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    line = ["render-bl30k", "--out", str(tmp_path / "out"), "--renderer-env", str(tmp_path / "none")]
    result = runner.invoke(app, line)
    assert result.exit_code == 1
    assert "there is no renderer" in result.stderr and "mivos render-bl30k --setup" in result.stderr
    assert not (tmp_path / "out").exists()


def test_another_length_is_refused(tmp_path: Path) -> None:
    line = f"render-bl30k --scenes-only --size 64x48 --out {tmp_path} --frames"
    assert runner.invoke(app, [*line.split(), "7"]).exit_code == 0
    result = runner.invoke(app, [*line.split(), "8"])
    assert result.exit_code == 2 and "was begun with --frames 7, not 8" in result.stderr


def test_a_damaged_scene_is_named(tmp_path: Path) -> None:
    line = f"render-bl30k --scenes-only --size 64x48 --frames 3 --out {tmp_path}".split()
    assert runner.invoke(app, line).exit_code == 0
    (tmp_path / "scenes" / "00000.json").write_text("{}")
    result = runner.invoke(app, line)
    assert result.exit_code == 1 and "00000.json: is not a scene" in result.stderr


def test_small_things() -> None:
    assert parse_size("768X512") == (768, 512)
    for text in ("", "x", "1x2x3", "-3x4", "3.5x4"):
        with pytest.raises(UsageError):
            parse_size(text)
    assert [duration(s) for s in (5, 600, 20_000)] == ["5 s", "10 min", "5.6 h"]
