"""`mivos info`, `undo` and `redo` on a real session on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mivos_cli.app import app
from stores.session import RoundRecord, Session
from stores.video import probe, read_frames

runner = CliRunner()
WIDE = {"COLUMNS": "160"}


@pytest.fixture
def session(carphone_video: Path, tmp_path: Path) -> Path:
    """Three small frames of a real video, and two rounds with made-up masks."""
    path = tmp_path / "session [1]"  # brackets mean something to rich, and must not here
    source = probe(carphone_video)
    frames = [frame for frame, _ in zip(read_frames(carphone_video, size=36), range(3), strict=False)]
    height, width = frames[0].image.shape[:2]
    with Session.create(path, source, height=height, width=width) as made:
        for frame in frames:
            made.write_frame(frame)
        made.finish_frames()
        for number, frame_index in ((1, 0), (2, 2)):
            made.begin_round()
            if number == 1:
                made.add_objects(1)
            made.write_probs(frame_index, np.full((2, height, width), 0.5, np.float32))
            created = f"2026-01-0{number}T10:11:12+00:00"
            made.commit_round(
                RoundRecord(number, "scribbles", frame_index, (1,), [{}, {}], {"name": "nano"}, (), created)
            )
    return path


def describe(session: Path) -> dict:
    result = runner.invoke(app, ["info", str(session), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_json(session: Path, carphone_video: Path) -> None:
    data = describe(session)
    assert data["source"]["path"] == str(carphone_video)
    assert (data["frames"], data["height"], data["width"]) == (3, 36, 44)
    assert (data["objects"], data["segmented_frames"], data["decoded"]) == (1, 2, True)
    assert [(record["number"], record["strokes"]) for record in data["rounds"]] == [(1, 2), (2, 2)]
    assert [entry["state"] for entry in data["history"]][-2:] == ["past", "current"]
    assert data["disk_bytes"] == sum(file.stat().st_size for file in session.rglob("*") if file.is_file())


def test_undo_and_redo_move_the_marker(session: Path) -> None:
    assert runner.invoke(app, ["undo", str(session)]).stdout.startswith("undone: round 2")
    shown = runner.invoke(app, ["info", str(session)], env=WIDE).stdout
    marked = [line for line in shown.splitlines() if line.strip("│ ").startswith(">")]
    assert len(marked) == 1 and "round 1" in marked[0]
    assert "round 2: scribbles on frame 2, objects 1 (undone)" in shown
    assert runner.invoke(app, ["redo", str(session)]).stdout.startswith("back again: round 2")
    assert len(describe(session)["rounds"]) == 2


def test_nothing_to_redo(session: Path) -> None:
    result = runner.invoke(app, ["redo", str(session)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")


def test_info_does_not_need_the_lock_but_undo_does(session: Path) -> None:
    with Session.open(session, write=True):
        assert runner.invoke(app, ["info", str(session)]).exit_code == 0
        refused = runner.invoke(app, ["undo", str(session)])
    assert refused.exit_code == 1
    assert "being written by process" in refused.stderr
