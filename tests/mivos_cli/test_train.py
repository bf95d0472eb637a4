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
from pipelines.training.options import TrainOptions

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
    assert not others and args == ("s2m/nano", Path("root"), tmp_path)
    assert kwargs == {"options": TrainOptions(iterations=7, minutes=2.5, threads=1, seed=5, start_from=())}
    assert json.loads(result.stdout)["iterations"] == 7
    assert result.stderr == "s2m 1/7\n"


def test_options_of_a_published_recipe(calls: list[tuple[tuple[Any, ...], dict[str, Any]]], tmp_path: Path) -> None:
    line = (
        f"train propagation --recipe stcn-main --data d --youtube y --static s --lvis l --synthetic a --synthetic b "
        f"--fusion-data f --start-from one.pth --start-from two.pth --propagation-weights p.pth --out {tmp_path} "
        "--batch 3 --workers 4 --device cpu --no-amp --validate v --validate-every 9 --validate-sequences 2 "
        "--validate-frames 5 --log board"
    )
    result = runner.invoke(app, line.split())
    assert result.exit_code == 0, result.stderr
    ((args, kwargs),) = calls
    assert args == ("propagation/stcn-main", Path("d"), tmp_path)
    assert kwargs["options"] == TrainOptions(
        batch=3,
        workers=4,
        device="cpu",
        amp=False,
        synthetic=(Path("a"), Path("b")),
        fusion=(Path("f"),),
        youtube=Path("y"),
        static=Path("s"),
        lvis=Path("l"),
        propagation=Path("p.pth"),
        start_from=("one.pth", "two.pth"),
        validate=Path("v"),
        validate_every=9,
        validate_sequences=2,
        validate_frames=5,
        log=Path("board"),
    )


def test_recipes_are_listed(calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
    result = runner.invoke(app, "train fusion --list --json".split())
    assert result.exit_code == 0, result.stderr
    names = [recipe["recipe"] for recipe in json.loads(result.stdout)["recipes"]]
    assert names[:2] == ["nano", "nano-no-difference"] and "mivos-stcn-davis" in names and not calls


def test_only_the_first_process_speaks(
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    (tmp_path / "checkpoint.pt").write_bytes(b"of the first process")
    result = runner.invoke(app, f"train s2m --data root --out {tmp_path} --json".split())
    assert result.exit_code == 0 and not result.stdout and len(calls) == 1


def test_a_run_needs_a_folder(calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
    result = runner.invoke(app, "train s2m --data root".split())
    assert result.exit_code == 2 and "--out" in result.stderr and not calls


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


@pytest.mark.parametrize("option", ["--seed -1", "--minutes 0", "--minutes -2"])
def test_numbers_out_of_range_are_refused(
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]], tmp_path: Path, option: str
) -> None:
    result = runner.invoke(app, f"train s2m --data root --out {tmp_path} {option}".split())
    assert result.exit_code == 2 and not calls
    assert option.split()[0] in result.stderr
