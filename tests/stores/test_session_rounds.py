"""Rounds as commits: undo, redo, checkpoints, rollback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stores.errors import StoreError, UsageError
from stores.history import MAIN
from stores.session import Session
from tests.stores import sessions


def numbers(session: Session) -> list[int]:
    """Numbers of the rounds that the session shows."""
    return [round_record.number for round_record in session.rounds]


def shows_round(session: Session, number: int) -> bool:
    """Whether every mask is the result of that round."""
    expected = [session.roundtrip(sessions.probs(i, number)).argmax(0) for i in range(session.num_frames)]
    return all(np.array_equal(session.mask(i), mask) for i, mask in enumerate(expected))


def test_a_round_is_one_commit_with_message_parent_and_metadata(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        before = session.history()[-1]
        commit = sessions.play_round(session, 1)
    with Session.open(tmp_path / "s") as session:
        *_, parent, entry = session.history()
        assert (parent.id, entry.id, entry.parent) == (before.id, commit, before.id)
        assert entry.message == "round 1: scribbles on frame 0, objects 1"
        assert (entry.kind, entry.round, entry.state, parent.state) == ("round", 1, "current", "past")
        assert entry.facts == {"frame": 0, "objects": [1], "input": "scribbles"}
        assert session.rounds == (sessions.record(1),)


def test_undo_and_redo_move_over_rounds(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        for number in (1, 2, 3):
            sessions.play_round(session, number)
        assert session.undo().round == 3
        assert numbers(session) == [1, 2] and shows_round(session, 2)
    with Session.open(tmp_path / "s", write=True) as session:  # it survives closing
        assert session.undo().round == 2
        assert session.undo().round == 1
        assert numbers(session) == [] and session.mask(0) is None and session.decoded
        with pytest.raises(UsageError, match="no round to undo"):
            session.undo()
        assert [entry.state for entry in session.history()] == ["past", "current"] + ["undone"] * 3
        assert [session.redo().round for _ in range(2)] == [1, 2]
        assert numbers(session) == [1, 2] and shows_round(session, 2)
        assert session.redo().round == 3
        assert shows_round(session, 3)
        with pytest.raises(UsageError, match="no undone round"):
            session.redo()


def test_a_new_round_after_undo_drops_redo(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        for number in (1, 2):
            sessions.play_round(session, number)
        session.undo()
        session.begin_round()
        session.write_probs(0, sessions.probs(0, 9))
        session.commit_round(sessions.record(2, frame_index=5))
        with pytest.raises(UsageError, match="no undone round"):
            session.redo()
        assert [entry.state for entry in session.history()] == ["past", "past", "past", "current"]
        assert session.rounds[-1].frame == 5
        assert session.computed().tolist() == [2, 1, 1, 1, 1, 1]


def test_other_commits_belong_to_the_round_before_them(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        sessions.play_round(session, 1)
        session.add_objects(2)
        session.commit("an object was added", kind="objects", count=2)
        assert session.history()[-1].facts == {"count": 2}
        assert session.undo().round == 1
        assert session.num_objects == 0
        session.redo()
        assert session.num_objects == 2
        unchanged = session.history()[-1].id
        assert session.commit("nothing changed") == unchanged


def test_a_round_resumes_at_its_last_checkpoint(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        sessions.play_round(session, 1)
        assert session.resume_round() is None
        session.begin_round()
        assert session.unfinished() is None
        session.write_probs(0, sessions.probs(0, 2))
        session.checkpoint({"next": 1, "nested": {"list": [1, 2]}})
        session.write_probs(1, sessions.probs(1, 2))
        session.checkpoint({"next": 2})
        session.checkpoint({"next": 2})  # nothing new is fine
        session.write_probs(2, sessions.probs(2, 2))  # lost
    with Session.open(tmp_path / "s") as reader:
        assert shows_round(reader, 1)
    with Session.open(tmp_path / "s", write=True) as session:
        assert shows_round(session, 1)
        assert session.resume_round() == {"next": 2}
        assert session.computed().tolist() == [2, 2, 1, 1, 1, 1]
        for index in range(2, 6):
            session.write_probs(index, sessions.probs(index, 2))
        session.commit_round(sessions.record(2))
        assert shows_round(session, 2)
        assert session.unfinished() is None and session.resume_round() is None
        assert [entry.kind for entry in session.history()] == ["created", "decoded", "round", "round"]


def test_a_checkpoint_of_an_undone_past_is_not_resumed(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        sessions.play_round(session, 1)
        session.begin_round()
        session.checkpoint({"next": 0})
    with Session.open(tmp_path / "s", write=True) as session:
        session.undo()
        assert session.resume_round() is None
        session.redo()
        assert session.resume_round() is None


def test_rollback_forgets_the_round_and_its_checkpoints(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        sessions.play_round(session, 1)
        session.begin_round()
        session.add_objects(2)
        session.write_probs(0, sessions.probs(0, 2, 2))
        session.checkpoint({"next": 1})
        session.write_probs(1, sessions.probs(1, 2, 2))
        session.rollback()
        assert session.num_objects == 1 and shows_round(session, 1)
        assert session.resume_round() is None
        session.add_objects(5)
        session.rollback()
        assert session.num_objects == 1
        sessions.play_round(session, 2)
        assert shows_round(session, 2)


def test_a_commit_cut_short_is_finished_on_opening(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        sessions.play_round(session, 1)
        before = session.history()[-1].id
        sessions.play_round(session, 2)
        after = session.history()[-1].id
        # As a process would leave it that dies after the commit on `work`, before `main` is moved.
        repository = session._timeline.repository
        repository.reset_branch(MAIN, before)
        repository.create_branch("work", after)
    with Session.open(tmp_path / "s") as reader:
        assert numbers(reader) == [1]
    with Session.open(tmp_path / "s", write=True) as session:
        assert numbers(session) == [1, 2] and session.history()[-1].id == after


def test_steps_out_of_order_are_refused(tmp_path: Path) -> None:
    with Session.create(tmp_path / "s", sessions.source(), height=24, width=40) as session:
        session.write_frame(sessions.frame(0))
        with pytest.raises(StoreError, match="uncommitted changes"):
            session.begin_round()
        session.commit("one frame")
        with pytest.raises(StoreError, match="not decoded"):
            session.begin_round()
        session.finish_frames()
        with pytest.raises(StoreError, match="no round"):
            session.commit_round(sessions.record(1))
        session.begin_round()
        with pytest.raises(StoreError, match="a round is in progress"):
            session.begin_round()
        with pytest.raises(StoreError, match="a round is in progress"):
            session.undo()
        with pytest.raises(StoreError, match="use commit_round"):
            session.commit("no")
        with pytest.raises(ValueError, match="record of round 2"):
            session.commit_round(sessions.record(2))
