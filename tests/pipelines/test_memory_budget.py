"""Rounds with a memory budget: taken up to the bit, with what they remember kept beside the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines import flow, rounds
from pipelines.engine import ModelChoice, Networks
from pipelines.evaluation.long import there_and_back
from pipelines.networks.reading import MemoryBudget
from pipelines.stages.follow import follow
from stores.errors import StoreError, UsageError
from stores.masks import read_mask, write_mask
from stores.session import Session
from stores.video import read_frames

FRAMES, SIZE = 36, 64
PLAIN = ModelChoice(engine="torch")
BUDGET = replace(PLAIN, memory=MemoryBudget(frames=6))


@pytest.fixture(scope="module")
def clip(bikes_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("budget") / "clip"
    folder.mkdir()
    for frame, _ in zip(read_frames(bikes_video, size=SIZE), range(FRAMES), strict=False):
        cv2.imwrite(str(folder / f"{frame.index:05d}.png"), frame.image[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("budget-masks")
    for frame, x in ((0, 40), (FRAMES - 1, 60)):
        labels = np.zeros((SIZE, 151), np.uint8)
        cv2.circle(labels, (x, SIZE // 2), 16, 1, -1)
        write_mask(folder / f"{frame:05d}.png", labels)
    return folder


def run(clip: Path, masks: Path, out: Path, model: ModelChoice = BUDGET, report: rounds.Report | None = None) -> None:
    flow.segment(clip, out, masks=masks, size=SIZE, model=model, formats=("png",), progress=report, force=True)


def probs(session: Path) -> np.ndarray:
    with Session.open(session) as opened:
        return np.stack([opened.probs(index) for index in range(opened.num_frames)])


@pytest.fixture(scope="module")
def whole(clip: Path, masks: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    out = tmp_path_factory.mktemp("budget-whole")
    run(clip, masks, out)
    assert not (out / "session" / "memory").exists()
    return probs(out / "session")


class Interrupted(Exception):
    pass


def stop_at(round_number: int, frame: int) -> Callable[[rounds.Progress], None]:
    begun = [0]

    def report(progress: rounds.Progress) -> None:
        begun[0] += progress.stage == "interact"
        if progress.stage == "propagate" and begun[0] == round_number and progress.done == frame:
            raise Interrupted

    return report


@pytest.mark.parametrize("round_number, frame", [(1, 31), (2, 25)])
def test_an_interrupted_round_ends_with_the_same_bits(
    clip: Path, masks: Path, whole: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, round_number: int,
    frame: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", 0.0)  # a checkpoint after every frame
    with pytest.raises(Interrupted):
        run(clip, masks, tmp_path, report=stop_at(round_number, frame))
    assert len(list((tmp_path / "session" / "memory").iterdir())) == 1, "earlier ones are gone"
    done: list[int] = []
    run(clip, masks, tmp_path, report=lambda p: done.append(p.done) if p.stage == "propagate" else None)
    assert done[0] == frame, "goes on where it was"
    assert np.array_equal(probs(tmp_path / "session"), whole)
    assert not (tmp_path / "session" / "memory").exists()


def test_without_what_it_remembers_a_round_starts_again(
    clip: Path, masks: Path, whole: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Interrupted):
        run(clip, masks, tmp_path, report=stop_at(2, 20))
    (kept,) = (tmp_path / "session" / "memory").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(StoreError, match="what the unfinished round remembers cannot be read"):
        flow.propagate(tmp_path / "session", model=BUDGET)
    run(clip, masks, tmp_path)
    assert "starts again" in caplog.text
    assert np.array_equal(probs(tmp_path / "session"), whole)


def test_the_budget_concerns_propagation_alone(clip: Path, masks: Path, whole: np.ndarray, tmp_path: Path) -> None:
    session = tmp_path / "session"
    flow.decode(clip, session, size=SIZE)
    for _ in range(2):
        flow.interact(session, masks=masks, model=PLAIN)
        flow.propagate(session, model=BUDGET)
        flow.fuse(session, model=PLAIN)
    with Session.open(session) as opened:
        assert [record.model["memory"] for record in opened.rounds] == ["6 frames"] * 2
    assert np.array_equal(probs(session), whole)


def test_an_interrupted_propagation_wants_its_budget_back(
    clip: Path, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", 0.0)
    session = tmp_path / "session"
    flow.decode(clip, session, size=SIZE)
    flow.interact(session, masks=masks, model=BUDGET)
    with pytest.raises(Interrupted):
        flow.propagate(session, model=BUDGET, progress=stop_at(0, 10))
    with pytest.raises(UsageError, match="memory: 6 frames, now None"):
        flow.propagate(session, model=PLAIN)
    assert flow.propagate(session, model=BUDGET).frames == FRAMES - 1


def test_a_budget_that_is_not_reached_changes_nothing(clip: Path, masks: Path) -> None:
    """For a model that keeps every memory frame, room for all of them is the same as no budget."""
    given = {0: read_mask(masks / "00000.png").labels}
    images = [frame.image for frame in read_frames(clip, size=None)]
    results = []
    for budget in (None, MemoryBudget(frames=24)):
        nets = Networks(PLAIN)
        nets.rules = replace(nets.rules, max_permanent=None, budget=budget)
        results.append([item.probs for item in follow(nets, images.__getitem__, (SIZE, 151), 21, given)])
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_there_and_back() -> None:
    assert there_and_back(4, 11) == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2]
    assert there_and_back(1, 3) == [0, 0, 0]
