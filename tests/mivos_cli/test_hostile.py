"""Hostile files given to whole commands: they end at once, with one line that does nothing to a terminal."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mivos_cli.app import app
from tests.stores.media import write_video

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="names and devices of Unix"),
]
LINE = [[{"path": [[0.2, 0.2], [0.8, 0.8]], "object_id": 1}], [], []]


def refused(*arguments: str | Path) -> str:
    """Run a command that must fail; returns its error line."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code in (1, 2), result.output
    lines = result.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and all(line.isprintable() for line in lines), result.stderr
    assert "unexpected" not in result.stderr and not result.stdout
    return errors[0]


@pytest.fixture
def scribbles(tmp_path: Path) -> Path:
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"sequence": "x", "scribbles": LINE}))
    return path


@pytest.mark.parametrize(
    "source", ["/dev/zero", "/dev/null", "PIPE", "http://127.0.0.1:9/a.mp4", "x" * 300, "a\x1b[2Jb"]
)
def test_sources_that_are_no_files(tmp_path: Path, scribbles: Path, source: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    named = source if source != "PIPE" else str(tmp_path / "pipe")
    line = refused("segment", named, "--scribbles", scribbles, "-o", tmp_path / "out")
    assert named in line or "\\x1b[2J" in line or "address" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--scribbles", "--masks"])
@pytest.mark.parametrize("kind", ["/dev/zero", "PIPE"])
def test_inputs_that_never_end(tmp_path: Path, option: str, kind: str) -> None:
    video = write_video(tmp_path / "clip.mp4", pts=range(3))
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "pipe" if kind == "PIPE" else Path(kind)
    assert str(path) in refused("segment", video, option, path, "-o", tmp_path / "out")


def test_names_of_files_cannot_write_to_the_terminal(tmp_path: Path, scribbles: Path) -> None:
    for name in ("\x1b]0;owned\x07.json", "a\nerror: b.json", "caf\udce9.json", "\u202enosj.json"):
        path = tmp_path / name
        path.write_text("[]")
        line = refused("segment", tmp_path / "none.mp4", "--scribbles", path, "-o", tmp_path / "out")
        assert "is an empty list" in line
    refused("bench", "compare", path, path)
    refused("models", "import", path)


def test_warnings_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[31mcut.mkv"
    whole = write_video(tmp_path / "whole.mkv", pts=range(200)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    result = CliRunner().invoke(app, ["decode", str(path), str(tmp_path / "session")])
    assert result.exit_code == 0 and "\x1b" not in result.stderr, result.output
    assert "warning: " in result.stderr and "\\x1b[31mcut.mkv" in result.stderr
