"""`mivos train` hands its options on and never trains over something by accident."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from mivos_cli.app import app

runner = CliRunner()


@dataclass(frozen=True)
class Progress:
    stage: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Report:
    recipe: str = "s2m"
    iterations: int = 7
    seconds: float = 60.0
    weights: str = "run/s2m.safetensors"
    scores: dict[str, float] = field(default_factory=lambda: {"loss": 0.25})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@pytest.fixture
def calls(fake_flow: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def train(*args: Any, progress: Callable[[int, int, dict[str, float]], None], **kwargs: Any) -> Report:
        progress(1, 7, {"loss": 0.5})
        seen.append((args, kwargs))
        return Report()

    module = ModuleType("pipelines.training.loop")
    module.train = train  # type: ignore[attr-defined]
    fake_flow.Progress = Progress  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return seen


def test_options(calls: list[tuple[tuple[Any, ...], dict[str, Any]]], tmp_path: Path) -> None:
    line = f"train s2m --data root --out {tmp_path} --minutes 2.5 --iterations 7 --threads 1 --seed 5 --json -v"
    result = runner.invoke(app, line.split())
    assert result.exit_code == 0, result.stderr
    (args, kwargs), *others = calls
    assert not others and args == ("s2m", Path("root"), tmp_path)
    assert kwargs == {"iterations": 7, "minutes": 2.5, "threads": 1, "seed": 5}
    assert json.loads(result.stdout)["iterations"] == 7
    assert result.stderr == "s2m 1/7\n"


def test_summary(calls: list[tuple[tuple[Any, ...], dict[str, Any]]], tmp_path: Path) -> None:
    result = runner.invoke(app, f"train s2m --data root --out {tmp_path}".split())
    assert result.exit_code == 0, result.stderr
    assert "loss" in result.stdout and "0.25" in result.stdout and "run/s2m.safetensors" in result.stdout


def test_a_folder_in_use_needs_resume(calls: list[tuple[tuple[Any, ...], dict[str, Any]]], tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"something")
    line = f"train s2m --data root --out {tmp_path}"
    refused = runner.invoke(app, line.split())
    assert refused.exit_code == 2 and "--resume" in refused.stderr and not calls
    assert runner.invoke(app, [*line.split(), "--resume"]).exit_code == 0
    assert len(calls) == 1


def test_an_unknown_recipe_is_wrong_usage(calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
    assert runner.invoke(app, "train everything --data root --out run".split()).exit_code == 2
    assert not calls
