"""`--model mivos` and `--checkpoint`: the authors' networks through the same commands, straight from weight files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mivos_cli.app import app
from stores.masks import read_mask
from stores.session import Session
from tests.mivos_cli.conftest import FRAMES, Clip, run_mivos


def options(files: dict[str, Path], *names: str) -> list[str]:
    return [word for name in names for word in ("--checkpoint", str(files[name]))]


@pytest.fixture
def no_installed_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIVOS_MODELS", str(tmp_path / "nothing"))


@pytest.mark.parametrize(("model", "propagation"), [("mivos", "propagation"), ("mivos-stcn", "propagation_stcn")])
def test_two_rounds_from_weight_files(
    model: str, propagation: str, checkpoint_files: dict[str, Path], clip: Clip, tmp_path: Path
) -> None:
    weights = options(checkpoint_files, "fusion", "s2m", propagation)  # in any order
    done = run_mivos(
        "segment", clip.video, "--scribbles", clip.two_rounds, "-o", tmp_path, "--model", model, *weights,
        "--size", "96", "--format", "png", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["frames"], report["objects"], report["rounds"]) == (FRAMES, 2, 2)
    labels = [read_mask(path, size=None).labels for path in sorted((tmp_path / "masks").glob("*.png"))]
    assert len(labels) == FRAMES and set(np.unique(labels)) <= {0, 1, 2}
    with Session.open(tmp_path / "session") as session:
        assert session.prob_bits == 16 and session.result_size[0] % 16 == session.result_size[1] % 16 == 0
        record = session.rounds[0]
        assert record.model["name"] == model and set(record.model["weights"]) == {"propagation", "s2m", "fusion"}


def test_installed_files_are_found(
    checkpoint_files: dict[str, Path], clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIVOS_MODELS", str(tmp_path / "models"))
    runner, small = CliRunner(), ["--size", "64", "--format", "png"]
    for name in ("propagation_stcn", "s2m"):
        assert runner.invoke(app, ["models", "import", str(checkpoint_files[name])]).exit_code == 0
    command = ["segment", str(clip.video), "--scribbles", str(clip.one_round), "--model", "mivos-stcn", *small]
    result = runner.invoke(app, [*command, "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    # fusion is only needed, and only missed, by a second round
    command[3] = str(clip.two_rounds)
    result = runner.invoke(app, [*command, "-o", str(tmp_path / "two")])
    assert result.exit_code == 1 and "no weights for its fusion network" in result.stderr
    assert "mivos models download fusion-stcn" in result.stderr and not (tmp_path / "two").exists()


@pytest.mark.usefixtures("no_installed_models")
def test_missing_weights_are_said_before_any_work(clip: Clip, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["segment", str(clip.video), "--scribbles", str(clip.one_round), "--model", "mivos", "-o", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1 and not out.exists()
    assert "has no weights for its propagation network" in result.stderr
    assert "mivos models download propagation" in result.stderr


@pytest.mark.parametrize(
    ("names", "code", "message"),
    [
        (("propagation_stcn",), 2, "holds the network 'propagation-stcn', which model 'mivos' does not use"),
        (("s2m", "s2m copy"), 2, "both hold the network 's2m'"),
        (("nonsense",), 1, "neither a PyTorch weight file nor safetensors"),
        (("absent",), 1, "absent.pth"),
    ],
)
def test_files_that_do_not_fit(
    names: tuple[str, ...], code: int, message: str, checkpoint_files: dict[str, Path], clip: Clip, tmp_path: Path
) -> None:
    files = {**checkpoint_files, "absent": tmp_path / "absent.pth", "nonsense": tmp_path / "nonsense.pth"}
    files["nonsense"].write_text("these are not weights")
    if "s2m copy" in names:
        files["s2m copy"] = Path(shutil.copy(files["s2m"], tmp_path / "copy.pth"))
    out = tmp_path / "out"
    command = ["segment", str(clip.video), "--scribbles", str(clip.one_round), "-o", str(out), "--model", "mivos"]
    result = CliRunner().invoke(app, [*command, *options(files, *names)])
    assert result.exit_code == code and not out.exists()
    assert message in result.stderr and "hint:" in result.stderr


def test_engines_and_precisions_that_make_no_sense(clip: Clip, tmp_path: Path) -> None:
    command = ["segment", str(clip.video), "--scribbles", str(clip.one_round), "-o", str(tmp_path / "out")]
    for wrong, message in (
        (["--precision", "float16", "--device", "cpu"], "float16 is for GPUs"),
        (["--engine", "winograd", "--precision", "bfloat16", "--device", "cpu"], "computes in float32"),
    ):
        result = CliRunner().invoke(app, [*command, *wrong])
        assert result.exit_code == 2 and message in result.stderr
