"""`bench long` and the course of `bench speed`: made long, measured along the way, really bounded."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.engine import ModelChoice
from pipelines.evaluation import speed
from pipelines.evaluation.course import WINDOW, Course
from pipelines.evaluation.long import measure_long
from pipelines.evaluation.recorded import of_long
from pipelines.rounds import Progress
from stores.compacting import folder_bytes
from stores.davis import DavisDataset, write_davis_sequence
from stores.errors import UsageError

TORCH = ModelChoice(engine="torch")
SEQUENCE, FRAMES = "car-turn", 5


@pytest.fixture(scope="module")
def root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, dataset = tmp_path_factory.mktemp("long"), DavisDataset(shared_data)
    pairs = list(zip(dataset.frames(SEQUENCE), dataset.annotations(SEQUENCE), strict=True))[:FRAMES]
    small = [
        (
            cv2.resize(cv2.imread(str(image))[..., ::-1], (172, 96), interpolation=cv2.INTER_AREA),
            cv2.resize(dataset.labels(mask).labels, (172, 96), interpolation=cv2.INTER_NEAREST),
        )
        for image, mask in pairs
    ]
    write_davis_sequence(folder, SEQUENCE, iter(small))
    return folder


def test_long_sequences_are_scored_under_every_bound(root: Path) -> None:
    bounds = ("none", "model", "4")
    report = measure_long(root, model=TORCH, memories=bounds, frames=52, size=96, sequences=[SEQUENCE])
    assert report.memories == bounds and {(row.frames, row.turn) for row in report.rows} == {(52, FRAMES)}
    for row in report.rows:
        assert 60 < row.jf <= 100 and 60 < row.jf_first <= 100 and 60 < row.jf_last <= 100
    unbounded, own, four = (report.mean(memory)["memory_mb"] for memory in bounds)
    assert four < unbounded / 2 and own < unbounded / 2
    record = of_long(report, root, TORCH)
    assert set(record.scores[SEQUENCE]) == {f"memory {bound} J&F" for bound in bounds}


def test_bounds_that_make_no_sense_are_told_before_any_work(root: Path) -> None:
    with pytest.raises(UsageError, match="makes no sense"):
        measure_long(root, model=TORCH, memories=("none", "lots"), sequences=[SEQUENCE])
    with pytest.raises(UsageError, match="nothing to measure"):
        measure_long(root, model=TORCH, memories=(), sequences=[SEQUENCE])


def test_short_videos_turn_and_turn_again(tmp_path: Path) -> None:
    (tmp_path / "video").mkdir()
    for index in range(4):
        cv2.imwrite(str(tmp_path / "video" / f"{index}.png"), np.full((64, 96, 3), 60 * index, np.uint8))
    (tmp_path / "out").mkdir()
    count, size = speed._store_frames(tmp_path / "video", tmp_path / "out", 12, 64, crop=False, loop=True)
    assert (count, size) == (12, (64, 96))
    shown = [round(float(cv2.imread(str(path)).mean()) / 60) for path in sorted((tmp_path / "out" / "all").iterdir())]
    assert shown == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1]


def test_the_course_takes_the_last_frames_of_each_mark() -> None:
    told: list[Progress] = []
    course = Course(250, told.append)
    for done in range(1, 251):
        course(Progress("propagate", done, 250))
    course(Progress("encode", 200, 250))
    assert [point.frame for point in course.points] == [100, 200, 250] and len(told) == 251
    course._times = [float(i**2) for i in range(250)]
    course(Progress("propagate", 250, 250))
    recent = [*(float(i**2) for i in range(250)), course._times[-1]][-WINDOW - 1 :]
    assert course.points[-1].seconds == pytest.approx((recent[-1] - recent[0]) / WINDOW)
    assert course.points[-1].rss_mb > 10


def test_the_size_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(bytes(1500))
    (tmp_path / "y").write_bytes(bytes(500))
    assert folder_bytes(tmp_path) == pytest.approx(2000)
