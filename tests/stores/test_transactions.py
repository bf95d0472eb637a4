"""Long rounds stay short in the history, nothing that counts is unsynced, and clocks may be wrong."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stores import compacting, history, transactions
from stores.compacting import compact_session
from stores.session import REPOSITORY, Session
from stores.snapshots import read_ref
from tests.stores import sessions


def chain(path: Path, branch: str) -> list[str]:
    """Kinds of all commits of a branch, newest first, those in between, too."""
    with Session.open(path) as session:
        infos = session._timeline.repository.ancestry(branch=branch)
        return [str(info.metadata.get("kind")) for info in infos]


def long_round(session: Session, checkpoints: int) -> None:
    """A round with many checkpoints, not committed."""
    session.begin_round()
    session.add_objects(1)
    for number in range(checkpoints):
        session.write_probs(number % session.num_frames, sessions.probs(number % session.num_frames))
        session.checkpoint({"number": number})


def test_checkpoints_do_not_pile_up_in_the_history(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with sessions.decoded(path) as session:
        session.link_checkpoints = 8
        long_round(session, 30)
        assert session.unfinished() == {"number": 29}
        assert chain(path, "work").count("checkpoint") <= 30 // 8 + 1
        session.commit_round(sessions.record(1))
    assert chain(path, "main").count("checkpoint") <= 30 // 8
    with Session.open(path) as session:
        assert all((session.probs(i) == session.roundtrip(sessions.probs(i))).all() for i in range(6))
        assert [entry.kind for entry in session.history()] == ["created", "decoded", "round"]


def test_compact_leaves_what_undo_and_redo_need(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with sessions.decoded(path) as session:
        long_round(session, 20)
        session.commit_round(sessions.record(1))
        sessions.play_round(session, 2)
        session.undo()
    assert compact_session(path).snapshots == 0  # readers may still be at what was dropped just now
    report = compact_session(path, now=True)
    assert report.bytes_after < report.bytes_before and report.snapshots >= 19 and report.bytes_per_1000_frames > 0
    with Session.open(path, write=True) as session:
        assert session.redo().round == 2
        assert (session.probs(3) == session.roundtrip(sessions.probs(3, 2))).all()
        session.undo(), session.undo()
        assert not session.rounds and (session.frame(2) == sessions.frame(2).image).all()


def test_a_round_with_many_checkpoints_cleans_up_after_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    monkeypatch.setattr(compacting, "MANY_SNAPSHOTS", 10)
    monkeypatch.setattr(compacting, "READERS", timedelta(0))
    with sessions.decoded(path) as session:
        long_round(session, 20)
        assert len(os.listdir(path / REPOSITORY / "snapshots")) > 20
        session.commit_round(sessions.record(1))
    assert len(os.listdir(path / REPOSITORY / "snapshots")) == len(chain(path, "main"))


def test_main_moves_only_after_a_sync_and_kept_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    seen: list[tuple[str | None, str | None, int]] = []
    real = history.sync_folder

    def noted(folder: Path) -> None:
        real(folder)
        count = len(os.listdir(folder / "snapshots"))
        seen.append((read_ref(folder, "main"), read_ref(folder, "kept"), count))

    monkeypatch.setattr(history, "sync_folder", noted)
    with sessions.decoded(path) as session:
        before, count = session.commit_id, len(os.listdir(path / REPOSITORY / "snapshots"))
        seen.clear()
        after = sessions.play_round(session, 1)
        # the round's files, then the branch
        assert seen == [(before, before, count + 1), (after, before, count + 1)]
        assert read_ref(path / REPOSITORY, "kept") == after
        seen.clear()
        session.undo()
        assert [main for main, *_ in seen] == [before]


def test_a_failed_sync_commits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stores.errors import StorageFullError

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with sessions.decoded(tmp_path / "s") as session:
        monkeypatch.setattr(history, "sync_folder", full)
        with pytest.raises(StorageFullError):
            sessions.play_round(session, 1)
    with Session.open(tmp_path / "s") as session:
        assert not session.rounds


@pytest.mark.parametrize("hours", [1, 24 * 4000])
def test_a_clock_that_was_set_back_does_not_stop_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    path = tmp_path / "s"
    with sessions.decoded(path) as session:
        sessions.play_round(session, 1)
        tip = session.commit_id
        folder = path / REPOSITORY
        # The last commit was written at a time that this clock has not reached yet.
        written = session._timeline.repository.lookup_snapshot(tip).written_at
        later = datetime.now(UTC) + timedelta(hours=hours)
        assert transactions.edit_snapshot(folder, tip, transactions.time_bytes(written), transactions.time_bytes(later))
    with Session.open(path, write=True) as session:
        sessions.play_round(session, 2)
        sessions.play_round(session, 3)
        assert [entry.round for entry in session.history()] == [None, None, 1, 2, 3]
        assert (session.probs(1) == session.roundtrip(sessions.probs(1, 3))).all()
        session.undo()
        assert session.commit_id != tip and len(session.rounds) == 2
