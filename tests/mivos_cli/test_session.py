"""Options reach the Python API unchanged, and reports come back readable (with a stand-in for the flow)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from mivos_cli.app import app
from pipelines.engine import ModelChoice
from pipelines.networks.reading import MemoryBudget

runner = CliRunner()


@dataclass(frozen=True)
class Stage:
    stage: str
    frames: int = 4
    seconds: float = 2.0
    skipped: bool = False


@dataclass(frozen=True)
class Whole:
    session: str = "out/session"
    outputs: dict[str, str] = field(default_factory=lambda: {"png": "out/masks"})
    frames: int = 4
    objects: int = 2
    rounds: int = 1
    stages: tuple[Stage, ...] = (Stage("decode"), Stage("propagate"))


class Recorder:
    """Stands for one function of the flow: keeps its arguments, returns a report."""

    def __init__(self, report: object) -> None:
        self.report = report
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        self.args, self.kwargs = args, kwargs
        return self.report


def test_segment_defaults(fake_flow: ModuleType) -> None:
    fake_flow.segment = call = Recorder(Whole())  # type: ignore[attr-defined]
    result = runner.invoke(app, ["segment", "v.mp4", "--scribbles", "s.json", "-o", "out"])
    assert result.exit_code == 0, result.stderr
    assert call.args == (Path("v.mp4"), Path("out"))
    assert callable(call.kwargs.pop("progress"))
    assert call.kwargs == {
        "scribbles": Path("s.json"),
        "masks": None,
        "snap": False,
        "import_frames": "10",
        "session": None,
        "size": 480,
        "frames": "exact",
        "model": ModelChoice(),
        "formats": ("png", "overlay"),
        "force": False,
    }
    assert "4 frames, 2 objects, 1 rounds" in result.stdout
    assert "propagate" in result.stdout and "out/masks" in result.stdout and "out/session" in result.stdout


def test_segment_options(fake_flow: ModuleType) -> None:
    fake_flow.segment = call = Recorder(Whole())  # type: ignore[attr-defined]
    line = "segment v.mp4 --masks m.png -o out --snap --session s --size 0 --model big --device cuda --force"
    line += " --checkpoint a.pth --checkpoint b.pth --precision bfloat16 --import-frames keyframes"
    line += " --frames jpeg --memory-budget 12"
    more = "--engine torch --format coco --format webm --format coco --fusion off --json"
    result = runner.invoke(app, f"{line} {more}".split())
    assert result.exit_code == 0, result.stderr
    call.kwargs.pop("progress")
    assert call.kwargs == {
        "scribbles": None,
        "masks": Path("m.png"),
        "snap": True,
        "import_frames": "keyframes",
        "session": Path("s"),
        "size": None,
        "frames": "jpeg",
        "model": ModelChoice(
            "big", "cuda", "torch", "bfloat16", (Path("a.pth"), Path("b.pth")), "off", MemoryBudget(frames=12)
        ),
        "formats": ("coco", "webm"),
        "force": True,
    }
    data = json.loads(result.stdout)
    assert data["outputs"] == {"png": "out/masks"} and data["stages"][0]["stage"] == "decode"


@pytest.mark.parametrize("objects", ["", "--scribbles s.json --masks m.png"])
@pytest.mark.parametrize("command", ["segment v.mp4 -o out", "interact session"])
def test_exactly_one_of_scribbles_and_masks(fake_flow: ModuleType, command: str, objects: str) -> None:
    result = runner.invoke(app, f"{command} {objects}".split())
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: exactly one of --scribbles and --masks is needed")
    assert len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("line", "args", "kwargs"),
    [
        (
            "decode v.mp4 s --size 240 --prob-bits 16",
            (Path("v.mp4"), Path("s")),
            {"size": 240, "prob_bits": 16, "frames": "exact", "model": "nano"},
        ),
        (
            "decode v.mp4 s --model mivos",
            (Path("v.mp4"), Path("s")),
            {"size": 480, "prob_bits": None, "frames": "exact", "model": "mivos"},
        ),
        (
            "interact s --masks m --snap",
            (Path("s"),),
            {
                "masks": Path("m"),
                "scribbles": None,
                "snap": True,
                "import_frames": "10",
                "model": ModelChoice(),
            },
        ),
        (
            "propagate s --device cpu",
            (Path("s"),),
            {"model": ModelChoice(device="cpu")},
        ),
        (
            "fuse s --engine torch --fusion no-difference",
            (Path("s"),),
            {"model": ModelChoice(engine="torch", fusion="no-difference")},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_single_stages(fake_flow: ModuleType, line: str, args: tuple[Path, ...], kwargs: dict[str, object]) -> None:
    name = line.split()[0]
    call = Recorder(Stage(name))
    setattr(fake_flow, name, call)
    result = runner.invoke(app, [*line.split(), "--json"])
    assert result.exit_code == 0, result.stderr
    call.kwargs.pop("progress")
    assert (call.args, call.kwargs) == (args, kwargs)
    assert json.loads(result.stdout) == {"stage": name, "frames": 4, "seconds": 2.0, "skipped": False}


def test_encode(fake_flow: ModuleType) -> None:
    fake_flow.encode = call = Recorder((Stage("encode"), {"coco": "out/coco.json"}))  # type: ignore[attr-defined]
    result = runner.invoke(app, "encode s -o out --format coco --json".split())
    assert result.exit_code == 0, result.stderr
    call.kwargs.pop("progress")
    assert (call.args, call.kwargs) == ((Path("s"), Path("out")), {"formats": ("coco",), "force": False})
    assert json.loads(result.stdout)["outputs"] == {"coco": "out/coco.json"}


@pytest.mark.parametrize("command", ["info", "undo", "redo"])
def test_a_missing_session_is_one_clear_line(tmp_path: Path, command: str) -> None:
    result = runner.invoke(app, [command, str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and str(tmp_path / "nothing") in result.stderr
