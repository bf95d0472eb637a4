"""`mivos bench` hands its options on and prints the reports (with a stand-in for the evaluation)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

import pipelines.evaluation
from mivos_cli.app import app
from pipelines.engine import ModelChoice
from pipelines.evaluation.report import DevSplitReport, SequenceScore, SpeedReport, SpeedRow

runner = CliRunner()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Replaces both measurements; returns the list of their calls."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    scores = [
        SequenceScore("mivos nano", "chair", 1, 10, 80.0, 90.0, 2.0),
        SequenceScore("copy", "chair", 1, 10, 40.0, 50.0, 1.0),
    ]
    row = SpeedRow(1, 40, {"propagate": 4.0, "store": 1.0}, 3.5, 900.0)
    speed = SpeedReport("nano", "torch", "cpu", "bikes.mp4", 272, 640, 2, 100.0, 9.5, {1: 12.0}, (row,), 9.0)
    reports = {
        "evaluate_dev_split": ("dev_split", DevSplitReport("val", "scorer 1", tuple(scores), 3.0)),
        "measure_speed": ("speed", speed),
    }
    for function, (name, report) in reports.items():
        module = ModuleType(f"pipelines.evaluation.{name}")

        def measure(*args: Any, _report: object = report, **kwargs: Any) -> object:
            assert callable(kwargs.pop("progress"))
            seen.append((args, kwargs))
            return _report

        setattr(module, function, measure)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return seen


def test_dev(calls: list[tuple[tuple[Any, ...], dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in, written = ModuleType("recorded"), []
    stand_in.of_dev_split = lambda report, data, choice: (data, choice.engine)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pipelines.evaluation.recorded", stand_in)
    monkeypatch.setattr(pipelines.evaluation, "recorded", stand_in, raising=False)
    monkeypatch.setattr("pipelines.evaluation.records.write_record", lambda path, run: written.append((path, run)))
    line = "bench dev --data root -o out --sequence chair --sequence cow --no-baselines --engine torch"
    result = runner.invoke(app, line.split())
    assert result.exit_code == 0, result.stderr
    (args, kwargs), *others = calls
    assert not others and args == (Path("root"),)
    assert kwargs == {
        "model": ModelChoice(engine="torch"),
        "baselines": False,
        "sequences": ["chair", "cow"],
        "out": Path("out"),
    }
    assert "chair" in result.stdout and "85.00" in result.stdout and "45.00" in result.stdout
    assert written == [(Path("out") / "record.json", (Path("root"), "torch"))]


def test_dev_takes_the_whole_split_by_default(calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
    result = runner.invoke(app, "bench dev --data root --json".split())
    assert result.exit_code == 0, result.stderr
    assert calls[0][1]["sequences"] is None and calls[0][1]["baselines"] is True
    assert json.loads(result.stdout)["means"][0]["jf"] == 85.0


def test_speed(calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
    result = runner.invoke(app, "bench speed --objects 2 --frames 9 --size 96".split(), env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.stderr
    expected = {"model": ModelChoice(), "objects": (2,), "frames": 9, "size": 96, "kept": "exact"}
    assert calls == [((), expected)]
    assert "frames/s" in result.stdout and "8.00" in result.stdout


def test_speed_defaults(calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
    result = runner.invoke(app, "bench speed --json".split())
    assert result.exit_code == 0, result.stderr
    assert calls[0][1]["objects"] == (1, 3)
    assert json.loads(result.stdout)["rows"][0]["frames_per_second"] == 8.0
