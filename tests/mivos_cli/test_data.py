"""`mivos data check` prints one line per problem and tells errors by its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mivos_cli.app import app
from stores.davis import write_davis_sequence
from stores.masks import write_mask

runner = CliRunner()
MASKS = Path("Annotations/480p/shapes")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    labels = np.zeros((40, 64), np.uint8)
    labels[10:30, 10:30] = 1
    frames = [(np.full((40, 64, 3), 40 * k, np.uint8), labels) for k in range(4)]
    write_davis_sequence(tmp_path, "shapes", frames, split="train")
    return tmp_path


def test_nothing_is_wrong(root: Path) -> None:
    result = runner.invoke(app, ["data", "check", str(root)])
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "DAVIS: 1 videos, 4 frames, 0 stills\nnothing is wrong\n"


def test_warnings_are_no_failure(root: Path) -> None:
    labels = np.zeros((40, 64), np.uint8)
    labels[10:30, 10:30] = 1
    labels[0] = 255
    write_mask(root / MASKS / "00001.png", labels)
    result = runner.invoke(app, ["data", "check", str(root)])
    assert result.exit_code == 0 and result.stdout.startswith("warning: masks with void pixels")
    assert f"1, first {MASKS / '00001.png'} (64 pixels) -> " in result.stdout
    assert "0 kinds of errors, 1 of warnings" in result.stdout


def test_errors_are_a_failure(root: Path) -> None:
    (root / MASKS / "00002.png").write_bytes(b"no image")
    write_mask(root / MASKS / "00003.png", np.ones((40, 63), np.uint8))
    result = runner.invoke(app, ["data", "check", str(root)])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 4 and all(line.startswith("error: ") for line in lines[:2])
    quick = runner.invoke(app, ["data", "check", str(root), "--quick", "--json", "-v"])
    data = json.loads(quick.stdout)
    assert quick.exit_code == 1 and data["quick"] and data["errors"] == 2 and "check 1/1" in quick.stderr
    assert {problem["kind"]: problem["count"] for problem in data["problems"]} == {"unreadable": 1, "mask-size": 1}


def test_no_folder(tmp_path: Path) -> None:
    result = runner.invoke(app, ["data", "check", str(tmp_path / "nowhere")])
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.startswith("error: ") and "hint: " in result.stderr
