"""`mivos bench compare` on real records; `mivos bench growth` with a stand-in for the measurement only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mivos_cli.app import guarded
from mivos_cli.bench_compare import compare, growth
from pipelines.engine import ModelChoice
from pipelines.evaluation import growth as growths
from pipelines.evaluation.growth import GrowthPoint, GrowthReport
from pipelines.evaluation.records import Data, read_record, record, write_record

app = typer.Typer()
app.command("compare")(guarded(compare))
app.command("growth")(guarded(growth))
runner = CliRunner()


@pytest.fixture
def records(tmp_path: Path) -> list[str]:
    paths = []
    for name, engine, jf, digest in (("a", "torch", 80.0, "x"), ("b", "winograd", 82.5, "x"), ("c", "torch", 1.0, "y")):
        scores = {"bear": {"J&F": jf}, "cow": {"J&F": 70.0}}
        write_record(tmp_path / name, record("dev", {"engine": engine}, scores, data=Data("d", {"bear": digest})))
        paths.append(str(tmp_path / name))
    return paths


def test_compare_tells_what_changed(records: list[str]) -> None:
    result = runner.invoke(app, ["compare", *records[:2]], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert any("engine" in line and "torch" in line and "winograd" in line for line in lines)
    (bear,) = [line for line in lines if "bear" in line]
    assert "82.5" in bear and "+2.5" in bear and "+3.1%" in bear
    assert result.stdout.index("bear") < result.stdout.index("cow")
    assert "no difference in: code, machine" in result.stdout


def test_compare_as_json(records: list[str]) -> None:
    result = runner.invoke(app, ["compare", *records[:2], "--json"])
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["settings"] == {"engine": ["torch", "winograd"]} and data["means"][0]["change"] == 1.25


def test_compare_refuses_other_data(records: list[str]) -> None:
    result = runner.invoke(app, ["compare", records[0], records[2]])
    assert result.exit_code == 2 and "read different data: the content of bear differs" in result.stderr
    result = runner.invoke(app, ["compare", records[0], records[2], "--any-data"])
    assert result.exit_code == 0 and "note: the content of bear differs" in result.stdout


def test_growth(tmp_path: Path, bikes_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = tuple(GrowthPoint(3, 1, height, height * 2, height / 100, 600.0) for height in (64, 96))
    fits = tuple(growths.fit("megapixels", measure, points) for measure in growths.MEASURES)
    report = GrowthReport("nano", "torch", "cpu", 2, 100.0, 9.5, points, {"megapixels": (0, 1)}, fits, 1.0)
    asked: dict[str, Any] = {}
    monkeypatch.setattr(growths, "measure_growth", lambda **options: asked.update(options) or report)  # takes minutes
    plot, run = tmp_path / "growth.svg", tmp_path / "growth.json"
    line = "growth --frames 3 --objects 1 --size 64 --size 96 --engine torch --device cpu".split()
    result = runner.invoke(app, [*line, "--plot", str(plot), "--record", str(run)], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.stderr
    assert asked.pop("progress") and asked == {
        "model": ModelChoice(device="cpu", engine="torch"),
        "frames": [3],
        "objects": [1],
        "sizes": [64, 96],
        "source": None,
    }
    assert "seconds per frame over megapixels per frame" in result.stdout and "9.5 GB/s copying" in result.stdout
    assert plot.is_file() and len(read_record(run).scores) == 2
    assert runner.invoke(app, ["compare", str(run), str(run)]).exit_code == 0


def test_a_plot_that_cannot_be_drawn_is_refused_at_once(tmp_path: Path) -> None:
    result = runner.invoke(app, ["growth", "--plot", str(tmp_path / "growth.pdf")])
    assert result.exit_code == 2 and "neither .png nor .svg" in result.stderr
