"""Benchmarks and training data in shards: the same files as one process makes."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mivos_cli.app import app
from pipelines.engine import ModelChoice
from pipelines.evaluation.eval_sequences import DavisProtocol
from pipelines.evaluation.eval_tasks import follow_sequences
from pipelines.evaluation.semi_supervised import EvalRun, evaluate, ruled_networks, run_settings
from pipelines.execution.executors import Setup
from pipelines.synthesis.fusion_data import generate_fusion
from pipelines.synthesis.fusion_run import FusionRun
from pipelines.synthesis.fusion_tasks import generate_fusion_with
from pipelines.synthesis.fusion_videos import find_fusion_videos
from stores.davis import DavisDataset, write_davis_sequence
from stores.errors import SessionLockedError, UsageError

NAMES = ("car-turn", "bear")
FRAMES, HEIGHT, WIDTH = 4, 64, 114
MODEL = ModelChoice(engine="torch", device="cpu")


@pytest.fixture(scope="module")
def davis(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real sequences, four small frames each, and one whose pictures are damaged."""
    root: Path = tmp_path_factory.mktemp("davis")
    dataset = DavisDataset(shared_data)
    for name in NAMES:
        pairs = islice(zip(dataset.frames(name), dataset.annotations(name), strict=True), FRAMES)
        small = [
            (
                np.asarray(Image.open(image).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX)),
                np.asarray(Image.open(mask).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)),
            )
            for image, mask in pairs
        ]
        write_davis_sequence(root, name, small)
    return root


@pytest.fixture(scope="module")
def broken(davis: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("broken") / "davis"
    root.mkdir()
    for path in davis.iterdir():
        (root / path.name).symlink_to(path)
    (root / "JPEGImages").unlink()
    (root / "JPEGImages/480p/bear").mkdir(parents=True)
    (root / "JPEGImages/480p/car-turn").symlink_to(davis / "JPEGImages/480p/car-turn")
    for path in (davis / "JPEGImages/480p/bear").iterdir():
        (root / "JPEGImages/480p/bear" / path.name).write_bytes(path.read_bytes()[:300])
    return root


def pngs(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("[!.]*/**/*.png"))}


def test_shards_of_an_evaluation(davis: Path, tmp_path: Path) -> None:
    whole = evaluate(DavisProtocol(davis), tmp_path / "whole", model=MODEL, worst=0)
    out, shards = tmp_path / "out", []
    for k in (1, 2, 3):
        shards.append(follow_sequences(DavisProtocol(davis), out, Setup(shard=(k, 3)), model=MODEL))
    assert [(share.finished, share.total, share.whole) for share in shards] == [
        (1, 2, False), (2, 2, True), (2, 2, True)
    ]  # fmt: skip
    assert [[outcome.id for outcome in share.outcomes] for share in shards] == [["car-turn"], ["bear"], []]
    report = evaluate(DavisProtocol(davis), out, model=MODEL, worst=0)
    assert all(row.resumed for row in report.rows) and pngs(out) == pngs(tmp_path / "whole")
    assert [row.scores for row in report.rows] == [row.scores for row in whole.rows]
    with pytest.raises(UsageError, match="--force with --shard"):
        follow_sequences(DavisProtocol(davis), out, Setup(shard=(1, 2)), model=MODEL, force=True)
    with pytest.raises(UsageError, match=r"other settings \(rules\)"):
        follow_sequences(DavisProtocol(davis), out, Setup(shard=(1, 2)), model=MODEL, rules={"every": 2})


def test_two_runs_do_not_lose_what_the_other_has_noted(davis: Path, tmp_path: Path) -> None:
    protocol, nets = DavisProtocol(davis), ruled_networks(MODEL, None)
    first, second = (EvalRun(tmp_path, "", run_settings(protocol, nets), False) for _ in range(2))
    first.begin(NAMES)
    second.begin(())
    first.obtain(protocol.clip("bear"), nets, None)
    seen = []

    def other(progress: object) -> None:
        if not seen:
            with pytest.raises(SessionLockedError, match="car-turn is being written by another process"):
                first.obtain(protocol.clip("car-turn"), nets, None)
        seen.append(progress)

    second.obtain(protocol.clip("car-turn"), nets, other)
    assert len(seen) == FRAMES
    assert sorted(json.loads((tmp_path / "run.json").read_text())["sequences"]) == ["bear", "car-turn"]
    before = pngs(tmp_path)
    first.obtain(protocol.clip("car-turn"), nets, lambda progress: pytest.fail("it is finished"))
    assert pngs(tmp_path) == before


def test_a_sequence_that_fails(davis: Path, broken: Path, tmp_path: Path) -> None:
    """One sequence fails: the other is finished, nothing is scored; mended, the command goes on and scores."""
    line = ("-o", tmp_path, "--engine", "torch", "--device", "cpu", "--shard", "1/1", "--worst", "0", "--json")
    result = CliRunner().invoke(app, ["eval", "davis17", "--root", str(broken), *map(str, line)])
    assert result.exit_code == 3, result.stderr
    share = json.loads(result.stdout)
    assert (share["finished"], share["total"]) == (1, 2) and not (tmp_path / "scores.json").exists()
    assert [item["name"] for item in share["failed"]] == ["bear"] and "damaged" in share["failed"][0]["error"]
    assert follow_sequences(DavisProtocol(davis), tmp_path, Setup(shard=(1, 1)), model=MODEL).whole
    report = evaluate(DavisProtocol(davis), tmp_path, model=MODEL, worst=0)
    assert [row.resumed for row in report.rows] == [True, True] and report.mean is not None


def test_shards_of_fusion_data(davis: Path, broken: Path, tmp_path: Path) -> None:
    from pipelines.engine import networks

    videos, settings = find_fusion_videos(davis, split="val"), {"separation": 2, "reach": 1}
    whole = generate_fusion(videos, tmp_path / "whole", networks(MODEL), **settings)  # type: ignore[arg-type]
    parts = [
        generate_fusion_with(Setup(shard=(k, 2)), videos, tmp_path / "out", MODEL, separation=2, reach=1)
        for k in (1, 2)
    ]
    assert [part.videos for part in parts] == [1, 1] and sum(part.maps for part in parts) == whole.maps
    assert pngs(tmp_path / "out") == pngs(tmp_path / "whole")
    again = generate_fusion_with(Setup(shard=(1, 1)), videos, tmp_path / "out", MODEL, separation=2, reach=1)
    assert (again.references, again.existing) == (0, 4)
    failed = generate_fusion_with(
        Setup(shard=(1, 1)), find_fusion_videos(broken, split="val"), tmp_path / "broken", MODEL, separation=2
    )
    assert [failure.video for failure in failed.failed] == ["bear"] and failed.references == 2
    with pytest.raises(UsageError, match=r"other settings \(separation: 2, now 3\)"):  # once, not for each video
        generate_fusion_with(Setup(shard=(1, 1)), videos, tmp_path / "out", MODEL, separation=3, reach=1)


def test_videos_of_fusion_data_are_locked_one_by_one(tmp_path: Path) -> None:
    with FusionRun.opened(tmp_path, {"a": 1}, shared=True) as one, FusionRun.opened(tmp_path, {"a": 1}) as all_of_them:
        with one.video("bear"), all_of_them.video("car"):
            with pytest.raises(SessionLockedError, match="bear is being written"), all_of_them.video("bear"):
                pass
    (tmp_path / ".work/bear-00003").mkdir()
    (tmp_path / ".work/bear-2-00003").mkdir()
    with FusionRun.opened(tmp_path, {"a": 1}) as run, run.video("bear"):
        assert [path.name for path in (tmp_path / ".work").iterdir() if path.is_dir()] == ["bear-2-00003"]
    with pytest.raises(UsageError, match="other settings"), FusionRun.opened(tmp_path, {"a": 2}, shared=True):
        pass
