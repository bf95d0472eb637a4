"""The clicking robot: where it clicks, what it scores, and that clicks of the embedded model lead to the object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mivos_cli.app import app
from pipelines.engine import ModelChoice, networks
from pipelines.evaluation import clicks as robot
from pipelines.evaluation import recorded
from pipelines.evaluation.clicks import Click, ClickScore, ClicksReport, click_through, evaluate_clicks, next_click
from pipelines.evaluation.records import read_record, write_record
from stores.davis import DavisDataset, write_davis_sequence
from stores.errors import UsageError

CHOICE = ModelChoice("nano", "cpu", "torch")
HEIGHT, WIDTH = 120, 214


@pytest.fixture(scope="module")
def root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames of two dev sequences, made small, as a DAVIS tree."""
    folder: Path = tmp_path_factory.mktemp("davis")
    dataset = DavisDataset(shared_data)

    def frames(sequence: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for image, mask in list(zip(dataset.frames(sequence), dataset.annotations(sequence), strict=True))[:5]:
            yield (
                np.asarray(Image.open(image).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX)),
                np.asarray(Image.open(mask).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)),
            )

    for sequence in ("car-turn", "mallard-fly"):
        write_davis_sequence(folder, sequence, frames(sequence))
    return folder


def disk(x: int, y: int, radius: int) -> np.ndarray:
    return cv2.circle(np.zeros((60, 80), np.uint8), (x, y), radius, 1, -1) > 0


def test_the_robot_clicks_the_centre_of_the_largest_error() -> None:
    nothing, truth = np.zeros((60, 80), bool), disk(20, 25, 10) | disk(60, 30, 6)
    assert next_click(nothing, truth) == Click(20, 25, True)
    assert next_click(disk(20, 25, 10), truth) == Click(60, 30, True)
    assert next_click(truth | disk(60, 30, 17), truth) == next_click(disk(60, 30, 17) & ~disk(60, 30, 6), nothing)
    assert next_click(truth | disk(40, 50, 8), truth) == Click(40, 50, False)
    assert next_click(truth, truth) is None
    again = next_click(nothing, truth, [Click(20, 25, True)])
    assert again is not None and again != Click(20, 25, True) and np.hypot(again.x - 20, again.y - 25) < 2
    edge = np.zeros((60, 80), bool)
    edge[:, :30] = True  # the frame ends there: its edge is no inside
    click = next_click(nothing, edge)
    assert click is not None and 14 <= click.x <= 15 and 14 <= click.y <= 45


def test_counts_of_clicks() -> None:
    score = ClickScore("plain", "cow", 0, 1, (0.5, 0.86, 0.84, 0.92), 3, 2.0, 4)
    other = ClickScore("plain", "cow", 9, 1, (0.7, 0.7, 0.7, 0.7), 1, 4.0, 2)
    assert [score.clicks_to(t) for t in (0.5, 0.85, 0.9, 0.95)] == [1, 2, 4, 4]
    report = ClicksReport("nano", 4, (score, other), 9.0)
    mean = report.mean("plain")
    assert mean["IoU@1"] == pytest.approx(0.6) and mean["IoU@3"] == pytest.approx(0.77) and "IoU@5" not in mean
    assert (mean["NoC@85"], mean["NoC@90"], mean["broken"], mean["seconds"]) == (3, 4, 2, 1)
    assert report.objects == 2 and report.methods == ("plain",)
    with pytest.raises(KeyError):
        report.mean("refined")


@pytest.mark.parametrize("refined", [False, True])
def test_clicks_lead_to_the_object(root: Path, refined: bool) -> None:
    dataset = DavisDataset(root)
    image = np.asarray(Image.open(dataset.frames("car-turn")[0]))
    truth = dataset.labels(dataset.annotations("car-turn")[0]).labels == 1
    steps = list(click_through(networks(CHOICE), image, truth, 4, refined=refined))
    assert [len(made) for _, made in steps] == [1, 2, 3, 4]
    assert all(mask.shape == truth.shape and mask.dtype == bool for mask, _ in steps)
    first = steps[0][1][0]
    assert first.positive and truth[first.y, first.x]
    wrong = [sum(mask[c.y, c.x] != c.positive for c in made) for mask, made in steps]
    assert sum(wrong) == 0 if refined else wrong[0] == 0 < sum(wrong)
    for (before, _), (_, made) in zip(steps, steps[1:], strict=False):
        assert before[made[-1].y, made[-1].x] != truth[made[-1].y, made[-1].x], "clicks go where it was wrong"
    ious = [np.count_nonzero(mask & truth) / np.count_nonzero(mask | truth) for mask, _ in steps]
    assert max(ious) > 0.6


def test_an_exact_mask_needs_no_more_clicks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[40:80, 50:120] = True
    assert (
        len(
            list(
                click_through(networks(CHOICE), np.zeros((HEIGHT, WIDTH, 3), np.uint8), truth & False, 3, refined=False)
            )
        )
        == 0
    )
    monkeypatch.setattr(robot, "click_through", lambda *args, **kwargs: iter([(~truth, []), (truth, [])]))
    report = evaluate_clicks(root, model=CHOICE, sequences=["car-turn"], frames=1, clicks=5)
    assert all(row.ious[1] == row.ious[-1] and len(row.ious) == 5 and row.masks == 2 for row in report.rows)


def test_targets_take_sequences_in_turn(root: Path) -> None:
    dataset = DavisDataset(root)
    names = ["car-turn", "mallard-fly"]
    assert robot._targets(dataset, names, 2) == [(name, frame, 1) for frame in (0, 2) for name in names]
    assert len(robot._targets(dataset, names, 99)) == 10


def test_report_and_record(root: Path, tmp_path: Path) -> None:
    report = evaluate_clicks(root, model=CHOICE, frames=1, clicks=3, limit=1)
    assert [(row.method, row.sequence, row.frame) for row in report.rows] == [
        ("plain", "car-turn", 0),
        ("refined", "car-turn", 0),
    ]
    assert report.rows[0].ious[0] == report.rows[1].ious[0], "one click is not refined"
    data = json.loads(json.dumps(report.to_json()))
    assert data["clicks"] == 3 and set(data["means"]) == {"plain", "refined"}
    write_record(tmp_path / "run.json", recorded.of_clicks(report, root, CHOICE))
    read = read_record(tmp_path / "run.json")
    assert read.kind == "clicks" and read.means["refined IoU@3"] == pytest.approx(report.mean("refined")["IoU@3"])
    assert set(read.scores["car-turn 0 1"]) == {"plain IoU", "refined IoU"}


def test_command(root: Path, tmp_path: Path) -> None:
    line = f"bench clicks --data {root} --sequence mallard-fly --frames 1 --clicks 2 --engine torch --device cpu"
    record = tmp_path / "run.json"
    result = CliRunner().invoke(app, [*line.split(), "--record", str(record), "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["rows"][0]["sequence"] == "mallard-fly"
    assert read_record(record).settings["clicks"] == 2
    table = CliRunner().invoke(app, line.split(), env={"COLUMNS": "200"})
    assert table.exit_code == 0 and "IoU@2" in table.stdout and "refined" in table.stdout


def test_bad_requests(root: Path) -> None:
    for wrong in ({"frames": 0}, {"clicks": 0}, {"limit": 0}, {"sequences": []}):
        with pytest.raises(UsageError):
            evaluate_clicks(root, model=CHOICE, **wrong)  # type: ignore[arg-type]
