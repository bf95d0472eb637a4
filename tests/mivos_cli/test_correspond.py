"""`mivos correspond` on a real clip with the embedded networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from mivos_cli.app import guarded
from mivos_cli.correspond import correspond
from stores.masks import read_mask, write_mask
from tests.mivos_cli.conftest import FRAMES, HEIGHT, WIDTH, Clip

app = typer.Typer()
app.command()(guarded(correspond))
runner = CliRunner()


def run(*arguments: str | Path | int) -> tuple[int, str, str]:
    result = runner.invoke(app, [*map(str, arguments), "--engine", "torch"])
    return result.exit_code, result.stdout, result.stderr


def test_a_point_is_found(clip: Clip, tmp_path: Path) -> None:
    picture = tmp_path / "point.png"
    code, out, err = run(clip.video, "--from", 0, "--to", 3, "--point", "208,40", "-o", picture, "--json")
    assert code == 0, err
    data = json.loads(out)
    assert (data["from"], data["to"], data["width"], data["height"]) == (0, 3, WIDTH, HEIGHT)
    assert abs(data["match"][0] - 208) <= 16 and abs(data["match"][1] - 40) <= 16  # little moves in the clip
    assert 0 < data["weight"] <= 1 and data["cell"] == [16.0, 16.0]
    with Image.open(picture) as image:
        assert image.size == (2 * WIDTH + 8, HEIGHT)


def test_a_mask_is_carried(clip: Clip, tmp_path: Path) -> None:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[30:100, 20:120] = 7  # the taxi
    write_mask(tmp_path / "mask.png", labels)
    line = (clip.video, "--from", 4, "--to", 5, "--mask", tmp_path / "mask.png", "-o", tmp_path / "out.png")
    code, out, err = run(*line)
    assert code == 0, err
    assert "object 7: 7000 -> " in out and "out_mask.png" in out
    carried = read_mask(tmp_path / "out_mask.png", size=(HEIGHT, WIDTH)).labels == 7
    truth = labels == 7
    assert (carried & truth).sum() / (carried | truth).sum() > 0.75
    code, _, err = run(*line)
    assert code == 2 and "already there" in err and "--force" in err
    assert run(*line, "--force")[0] == 0


@pytest.mark.parametrize(
    "options, message",
    [
        (("--from", 0, "--to", 1, "--point", "320,5"), "the point 320,5 is outside the 320x136 video"),
        (("--from", 0, "--to", 1, "--point", "-1,5"), "the point -1,5 is outside"),
        (("--from", 0, "--to", 1, "--point", "3;5"), "the point '3;5' is not X,Y"),
        (("--from", 0, "--to", FRAMES, "--point", "3,5"), f"has no frame {FRAMES}"),
        (("--from", 0, "--to", 1), "exactly one of --point and --mask is needed, neither was given"),
        (("--from", 0, "--to", 1, "--point", "3,5", "--mask", "m.png"), "both were given"),
    ],
)
def test_wrong_requests_are_one_line(clip: Clip, tmp_path: Path, options: tuple, message: str) -> None:
    code, out, err = run(clip.video, *options, "-o", tmp_path / "x.png")
    assert code == 2 and not out
    first, hint = err.strip().splitlines()
    assert first.startswith("error: ") and message in first and hint.startswith("hint: ")
    assert not list(tmp_path.iterdir())


def test_the_picture_is_a_png(clip: Clip, tmp_path: Path) -> None:
    code, _, err = run(clip.video, "--from", 0, "--to", 1, "--point", "3,5", "-o", tmp_path / "x.jpg")
    assert code == 2 and "is not a .png file" in err
    code, _, err = run(clip.video, "--from", 0, "--to", 1, "--point", "3,5", "-o", tmp_path / "no" / "x.png")
    assert code == 1 and "is not a folder" in err
