"""`mivos gen-fusion` as a process: killed and called again, and with a video that cannot be read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stores.davis import DavisDataset, write_davis_sequence
from tests.mivos_cli.conftest import run_mivos, run_until

FRAMES, HEIGHT, WIDTH = 7, 96, 160
NAMES = ("bear", "car-turn")
OPTIONS = ("--engine", "torch", "--device", "cpu", "--separation", "3", "--json")


@pytest.fixture(scope="module")
def root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real sequences, seven small frames each."""
    folder: Path = tmp_path_factory.mktemp("davis")
    dataset = DavisDataset(shared_data)
    for name in NAMES:
        pairs = zip(dataset.frames(name)[:FRAMES], dataset.annotations(name)[:FRAMES], strict=True)
        small = [
            (
                np.asarray(Image.open(image).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX)),
                np.asarray(Image.open(mask).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)),
            )
            for image, mask in pairs
        ]
        write_davis_sequence(folder, name, small, split="train")
    return folder


def maps(run: Path) -> dict[str, bytes]:
    """What a reader of the published layout sees."""
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.glob("[!.]*/*/*/*.png"))}


def test_a_killed_run_shows_whole_references_only_and_goes_on(root: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = run_mivos("gen-fusion", "--data", root, "-o", whole, *OPTIONS)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["references"] == 6 and report["maps"] == 6 * FRAMES == len(maps(whole))

    def kill(process: subprocess.Popen[str]) -> None:
        process.kill()

    code, _ = run_until("gen-fusion", kill, "gen-fusion", "--data", root, "-o", broken, *OPTIONS)
    assert code == -9
    assert all(len(list(path.iterdir())) == FRAMES for path in broken.glob("[!.]*/*/*"))
    assert len(maps(broken)) < len(maps(whole))
    again = run_mivos("gen-fusion", "--data", root, "-o", broken, *OPTIONS)
    assert again.returncode == 0, again.stderr
    assert maps(broken) == maps(whole) and not [p for p in (broken / ".work").iterdir() if p.is_dir()]
    other = run_mivos("gen-fusion", "--data", root, "-o", broken, *OPTIONS, "--mem-freq", "2")
    assert other.returncode == 2 and other.stdout == ""
    assert "memory_every: 5, now 2" in other.stderr and "hint: choose another --out" in other.stderr


def test_a_video_that_fails_gives_exit_code_3(root: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for kind in ("JPEGImages", "Annotations"):
        (flat / kind).mkdir(parents=True)
        for name in NAMES:
            (flat / kind / name).symlink_to(root / kind / "480p" / name)
    (flat / "JPEGImages" / "aaa").mkdir()
    line = ["gen-fusion", "--data", flat, "-o", tmp_path / "run", "--range", "1", "--end", "1", *OPTIONS[:-1]]
    result = run_mivos(*line)
    assert result.returncode == 3, result.stderr
    assert "not finished: aaa" in result.stdout and "3 new references" in result.stdout
    assert "warning: aaa is skipped" in result.stderr
    assert [path.name for path in (tmp_path / "run").glob("[!.]*/")] == ["bear"]
