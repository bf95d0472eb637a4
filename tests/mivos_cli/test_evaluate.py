"""`mivos eval` from the command line to the files, on a few small frames of a real sequence."""

from __future__ import annotations

import json
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from mivos_cli import evaluate
from mivos_cli.app import guarded
from stores.davis import DavisDataset, write_davis_sequence
from stores.masks import write_mask
from stores.youtube import YouTubeObject, write_youtube_video

FRAMES, HEIGHT, WIDTH = 5, 64, 114
SEQUENCE = "car-turn"
app = typer.Typer()
for command, function in evaluate.COMMANDS.items():
    app.command(command)(guarded(function))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def frames(shared_data: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    dataset = DavisDataset(shared_data)
    pairs = islice(zip(dataset.frames(SEQUENCE), dataset.annotations(SEQUENCE), strict=True), FRAMES)
    return [
        (
            np.asarray(Image.open(image).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX)),
            np.asarray(Image.open(mask).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)),
        )
        for image, mask in pairs
    ]


@pytest.fixture(scope="module")
def davis(frames: list[tuple[np.ndarray, np.ndarray]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("davis")
    for year in ("2016", "2017"):
        write_davis_sequence(root, SEQUENCE, frames, year=year)
    return root


@pytest.mark.parametrize("command", ["davis16", "davis17"])
def test_davis(command: str, davis: Path, tmp_path: Path) -> None:
    line = (command, "--root", davis, "-o", tmp_path, "--engine", "torch", "--device", "cpu")
    result = run(*line)
    assert result.exit_code == 0, result.stderr
    for word in (SEQUENCE, "J&F", "frames/s", "peak memory (MB)", "worst frame", "vos-benchmark", "sequences.csv"):
        assert word in result.stdout
    data = json.loads(run(*line, "--json").stdout)
    assert data == json.loads((tmp_path / "scores.json").read_text())
    assert data["rows"][0]["resumed"] and data["protocol"] == command and data["mean"]["jf"] > 50
    assert {path.name for path in tmp_path.iterdir()} >= {SEQUENCE, "run.json", "scores.json", "worst.png"}
    changed = run(*line, "--top-k", "0", "--mem-every", "3", "--kernel", "5.6")
    assert changed.exit_code == 2 and "other settings (rules)" in changed.stderr and not changed.stdout
    changed = run(*line, "--top-k", "0", "--mem-every", "3", "--include-last", "--force", "--zip", "--json")
    assert changed.exit_code == 0, changed.stderr
    rules = json.loads(changed.stdout)["settings"]["rules"]
    assert (rules["top_k"], rules["every"], rules["temporary"], rules["kernel_sigma"]) == (None, 3, True, None)
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert len(archive.namelist()) == FRAMES


def test_youtube(frames: list[tuple[np.ndarray, np.ndarray]], tmp_path: Path) -> None:
    stems = [f"{5 * i:05d}" for i in range(FRAMES)]
    given = [None, frames[1][1], None, None, None]
    video = [(stem, image, mask) for stem, (image, _), mask in zip(stems, frames, given, strict=True)]
    write_youtube_video(tmp_path, "valid", "v", video, [YouTubeObject(1, "car", (stems[1], stems[4]))])
    line = ("youtube", "--data", tmp_path, "--size", HEIGHT, "--engine", "torch", "--device", "cpu")
    result = run(*line, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "no ground truth beyond the given masks: 1 of 1 sequences not scored" in result.stdout.splitlines()
    with zipfile.ZipFile(tmp_path / "out/submission.zip") as archive:
        assert archive.namelist() == [f"Annotations/v/{stem}.png" for stem in (stems[1], stems[4])]
    result = run(*line, "-o", tmp_path / "all", "--output-all", "--no-zip", "--json")
    assert json.loads(result.stdout)["rows"][0]["written"] == FRAMES - 1, "from the first given frame on"
    assert not (tmp_path / "all/submission.zip").exists()


def test_folder(davis: Path, frames: list[tuple[np.ndarray, np.ndarray]], tmp_path: Path) -> None:
    truth = davis / "Annotations/480p"
    result = run("folder", truth, truth, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["mean"] == {"objects": 1, "j": 100, "f": 100, "jf": 100}
    (tmp_path / SEQUENCE).mkdir()
    for index, (_, mask) in enumerate(frames):
        write_mask(tmp_path / SEQUENCE / f"{index:05d}.png", np.roll(mask, 3, axis=0))
    result = run("folder", truth, tmp_path, "-o", tmp_path / "scores", "--images", davis / "JPEGImages/480p")
    assert result.exit_code == 0, result.stderr
    assert SEQUENCE in result.stdout and "frames/s" not in result.stdout
    assert json.loads((tmp_path / "scores/scores.json").read_text())["mean"]["jf"] < 95
    assert (tmp_path / "scores/worst.png").is_file()
    wrong = run("folder", truth, tmp_path / "scores")
    assert wrong.exit_code == 1 and wrong.stdout == "" and wrong.stderr.startswith("error: ")
