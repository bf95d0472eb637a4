"""Every benchmark's report becomes a record that can be written, read and compared."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mivos_cli.app import app
from pipelines.engine import ModelChoice
from pipelines.evaluation import recorded, speed
from pipelines.evaluation.comparison import compare
from pipelines.evaluation.davis_interactive import InteractiveReport
from pipelines.evaluation.records import read_record, write_record
from pipelines.evaluation.report import DevSplitReport, S2MReport, S2MScore, SequenceScore, SpeedReport, SpeedRow
from stores.masks import write_mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sequence of two frames in DAVIS layout."""
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / kind / "480p" / "cow").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("cow\n")
    for index in range(2):
        image = np.random.default_rng(index).integers(0, 255, (32, 48, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "JPEGImages" / "480p" / "cow" / f"{index:05d}.jpg"), image)
        write_mask(tmp_path / "Annotations" / "480p" / "cow" / f"{index:05d}.png", np.eye(32, 48, dtype=np.uint8))
    return tmp_path


def speed_report(rate: float) -> SpeedReport:
    row = SpeedRow(1, 40, {"propagate": 40 / rate}, 3.5, 900.0)
    return SpeedReport("nano", "torch", "cpu", "bikes.mp4", 272, 640, 2, 100.0, 9.5, {1: 12.0}, (row,), 9.0)


def test_quality_reports(root: Path, tmp_path: Path) -> None:
    choice = ModelChoice("nano")
    dev = DevSplitReport("val", "vos-benchmark", (SequenceScore("mivos nano", "cow", 1, 2, 80.0, 90.0, 4.0),), 9.0)
    strokes = S2MReport("nano", (S2MScore("cow", "001.json", 0, 1, 0.75, 0.1),), 1.0)
    sequence = {"sequence": "cow", "j": 0.7, "f": 0.8, "j_and_f": 0.75, "seconds": 3.0}
    davis = InteractiveReport("nano", "val", 0.74, 0.76, (), (sequence,), 1, 0, (), 0, (), {})
    for kind, run, value in (
        ("dev", recorded.of_dev_split(dev, root, choice), ("mivos nano J&F", 85.0)),
        ("strokes", recorded.of_strokes(strokes, root, choice), ("J", 0.75)),
        ("davis", recorded.of_davis(davis, root, choice), ("AUC", 0.74)),
    ):
        write_record(tmp_path / f"{kind}.json", run)
        read = read_record(tmp_path / f"{kind}.json")
        assert read.kind == kind and read.means[value[0]] == pytest.approx(value[1])
        assert read.data is not None and read.settings["name"] == "nano"


def test_speed_through_the_command_line(bikes_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, rate in zip(files, (5.0, 8.0), strict=True):
        monkeypatch.setattr(speed, "measure_speed", lambda rate=rate, **options: speed_report(rate))
        result = CliRunner().invoke(app, ["bench", "speed", "--record", str(file)])
        assert result.exit_code == 0, result.stderr
        assert "12 GFLOP for 1 = 0.120 s" in result.stdout
    result = CliRunner().invoke(app, ["bench", "compare", *map(str, files)])
    assert result.exit_code == 0, result.stderr
    assert "frames/s" in result.stdout and "+60.0%" in result.stdout
    changes = compare(read_record(files[0]), read_record(files[1]))
    assert not changes.settings
