"""Rounds on real video: streaming equals stage by stage, interruption changes nothing, objects may come late."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines import flow, rounds
from pipelines.engine import ModelChoice
from pipelines.requests import scribble_requests
from pipelines.stages.propagate import plan_passes
from stores.errors import OutputExistsError, ScribbleError, UsageError
from stores.masks import write_mask
from stores.scribbles import Interaction, ScribbleFile, Stroke, write_scribbles
from stores.session import Session
from stores.video import read_frames

FRAMES, SIZE = 13, 80
TORCH = ModelChoice(engine="torch")


@pytest.fixture(scope="module")
def clip(bikes_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of a real video as an image folder."""
    folder = tmp_path_factory.mktemp("clip")
    for frame in itertools.islice(read_frames(bikes_video, size=160), FRAMES):
        cv2.imwrite(str(folder / f"{frame.index:05d}.png"), frame.image[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def masks(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three mask inputs: object 1 on frame 0; object 1 again on frame 9; object 7 on frame 5."""
    height, width = cv2.imread(str(clip / "00000.png")).shape[:2]
    folders = []
    for frame, object_id, x in ((0, 1, 40), (9, 1, 60), (5, 7, 200)):
        labels = np.zeros((height, width), np.uint8)
        cv2.ellipse(labels, (x, height // 2), (30, 50), 0, 0, 360, object_id, -1)
        folder = tmp_path_factory.mktemp("mask")
        write_mask(folder / f"{frame:05d}.png", labels)
        folders.append(folder)
    return folders


def decoded(clip: Path, path: Path) -> Path:
    flow.decode(clip, path, size=SIZE)
    return path


def all_probs(path: Path) -> Iterator[np.ndarray | None]:
    with Session.open(path) as session:
        for index in range(session.num_frames):
            yield session.probs(index)


def assert_same(a: Path, b: Path) -> None:
    for index, (x, y) in enumerate(zip(all_probs(a), all_probs(b), strict=True)):
        assert x is not None and y is not None
        assert np.array_equal(x, y), f"frame {index} differs"


def stage_by_stage(session: Path, masks: Path) -> None:
    flow.interact(session, masks=masks, model=TORCH)
    flow.propagate(session, model=TORCH)
    flow.fuse(session, model=TORCH)


def test_streaming_equals_stage_by_stage(clip: Path, masks: list[Path], tmp_path: Path) -> None:
    staged = decoded(clip, tmp_path / "staged")
    for given in masks:
        report = flow.segment(clip, tmp_path / "out", masks=given, size=SIZE, model=TORCH, formats=("png",), force=True)
        stage_by_stage(staged, given)
    assert (report.rounds, report.objects, report.frames) == (3, 2, FRAMES)
    assert_same(tmp_path / "out" / "session", staged)


def test_same_command_again_does_nothing_twice(clip: Path, masks: list[Path], tmp_path: Path) -> None:
    flow.segment(clip, tmp_path, masks=masks[0], size=SIZE, model=TORCH, formats=("png",))
    with pytest.raises(OutputExistsError):
        flow.segment(clip, tmp_path, masks=masks[0], size=SIZE, model=TORCH, formats=("png",))
    again = flow.segment(clip, tmp_path, masks=masks[0], size=SIZE, model=TORCH, formats=("png",), force=True)
    assert again.rounds == 1 and all(stage.skipped for stage in again.stages if stage.stage != "encode")


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 6, 11])
@pytest.mark.parametrize("chained", [True, False])
def test_interrupted_round_continues_to_the_same_bits(
    clip: Path, masks: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int, chained: bool
) -> None:
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", 0.0)  # a checkpoint after every frame
    whole, broken = decoded(clip, tmp_path / "whole"), decoded(clip, tmp_path / "broken")
    for given in masks[:2]:
        stage_by_stage(whole, given)
    stage_by_stage(broken, masks[0])

    def stop(progress: rounds.Progress) -> None:
        if progress.stage == "propagate" and progress.done == stop_at:
            raise Interrupted

    def run(progress: rounds.Report | None) -> None:
        if chained:
            flow.segment(
                clip, tmp_path / "out", session=broken, masks=masks[1], size=SIZE, model=TORCH, formats=("png",),
                progress=progress,
            )  # fmt: skip
        else:
            flow.interact(broken, masks=masks[1], model=TORCH, progress=progress)
            flow.propagate(broken, model=TORCH, progress=progress)
            flow.fuse(broken, model=TORCH, progress=progress)

    with pytest.raises(Interrupted):
        run(stop)
    with Session.open(broken) as session:
        assert len(session.rounds) == 1  # readers still see the last committed round
    done: list[int] = []
    run(lambda p: done.append(p.done) if p.stage == "propagate" else None)
    assert done[0] == stop_at  # the frame whose report was interrupted had not been kept; those before it were
    assert_same(whole, broken)


def test_a_late_object_reaches_every_frame_and_leaves_the_others_alone(
    clip: Path, masks: list[Path], tmp_path: Path
) -> None:
    session = decoded(clip, tmp_path / "s")
    stage_by_stage(session, masks[0])
    stage_by_stage(session, masks[1])
    before = [p for p in all_probs(session)]
    stage_by_stage(session, masks[2])
    after = [p for p in all_probs(session)]
    with Session.open(session) as store:
        assert store.object_ids == (1, 7)
    assert sum(float(p[2].max()) > 0.5 for p in after if p is not None) >= FRAMES - 3
    for index in (10, 11, 12):  # beyond frame 9 the first object was not propagated again
        old, new = before[index], after[index]
        assert old is not None and new is not None
        away = new[2] < 1 / 255
        assert np.abs(old[1] - new[1])[away].max() < 0.02


def test_undo_then_another_round(clip: Path, masks: list[Path], tmp_path: Path) -> None:
    session = decoded(clip, tmp_path / "s")
    stage_by_stage(session, masks[0])
    first = [p for p in all_probs(session)]
    stage_by_stage(session, masks[2])
    with Session.open(session, write=True) as store:
        store.undo()
        assert store.object_ids == (1,)
    assert all(np.array_equal(a, b) for a, b in zip(first, all_probs(session), strict=True) if a is not None)
    stage_by_stage(session, masks[1])
    with Session.open(session) as store:
        assert [record.frame for record in store.rounds] == [0, 9]


def test_strokes_of_several_frames_and_objects(clip: Path, tmp_path: Path) -> None:
    def stroke(object_id: int, x: float) -> Stroke:
        return Stroke(np.array([[x, 0.4], [x, 0.5], [x + 0.02, 0.6]]), object_id)

    path = tmp_path / "s.json"
    interactions = (Interaction(2, (stroke(1, 0.2), stroke(0, 0.9))), Interaction(8, (stroke(4, 0.7),)))
    write_scribbles(path, ScribbleFile("clip", FRAMES, interactions))
    assert [r.frame for r in scribble_requests(path, FRAMES)] == [2, 8]
    report = flow.segment(clip, tmp_path / "o", scribbles=path, size=SIZE, model=TORCH, formats=("png",))
    assert (report.rounds, report.objects) == (2, 2)
    with pytest.raises(ScribbleError):
        flow.interact(tmp_path / "o" / "session", scribbles=path.with_name("none.json"))


def test_stages_out_of_order_say_what_to_do(clip: Path, masks: list[Path], tmp_path: Path) -> None:
    session = decoded(clip, tmp_path / "s")
    with pytest.raises(UsageError) as error:
        flow.propagate(session, model=TORCH)
    assert "mivos interact" in str(error.value.hint)
    flow.interact(session, masks=masks[0], model=TORCH)
    with pytest.raises(UsageError) as error:
        flow.fuse(session, model=TORCH)
    assert "mivos propagate" in str(error.value.hint)
    assert flow.interact(session, masks=masks[0], model=TORCH).skipped


def test_passes_end_at_interacted_frames() -> None:
    spans = [(p.step, list(p.indices), p.bound) for p in plan_passes(5, 10, [2, 8], new_objects=False)]
    assert spans == [(1, [6, 7], 8), (-1, [4, 3], 2)]
    spans = [(p.step, list(p.indices), p.bound) for p in plan_passes(5, 8, [2], new_objects=True)]
    assert spans == [(1, [6, 7], None), (-1, [4, 3, 2, 1, 0], 2)]
    assert plan_passes(0, 1, [], new_objects=True) == []


MEASURE = """
import resource, sys
from pathlib import Path
from pipelines import flow
model = flow.ModelChoice(engine="torch")
flow.segment(Path(sys.argv[1]), Path(sys.argv[2]), masks=Path(sys.argv[3]), size=96, model=model, formats=("png",))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_length(carphone_video: Path, tmp_path: Path) -> None:
    """The same scene, 100 and 1,000 frames long, segmented in fresh processes."""
    frames = [f.image for f in itertools.islice(read_frames(carphone_video, size=96), 100)]
    labels = np.zeros(frames[0].shape[:2], np.uint8)
    cv2.ellipse(labels, (55, 50), (25, 40), 0, 0, 360, 1, -1)
    write_mask(tmp_path / "m.png", labels)
    peaks = {}
    for count in (100, 1000):
        folder = tmp_path / f"clip{count}"
        folder.mkdir()
        for i in range(count):  # forward and backward in turn, so that it stays continuous
            image = frames[i % 100 if i // 100 % 2 == 0 else 99 - i % 100]
            cv2.imwrite(str(folder / f"{i:05d}.png"), image[..., ::-1])
        command = [sys.executable, "-c", MEASURE, str(folder), str(tmp_path / f"out{count}"), str(tmp_path / "m.png")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ})
        assert done.returncode == 0, done.stderr
        peaks[count] = int(done.stdout)
    assert peaks[1000] < peaks[100] + 40, peaks
