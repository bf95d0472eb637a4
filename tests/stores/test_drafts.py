"""Drafts on disk: what a process that is killed at any point leaves behind."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from stores.arrays import FrameVector
from stores.confidence import expected_overlap
from stores.drafts import Drafts, Look
from stores.errors import StoreError, UsageError
from stores.session import Session
from tests.stores import sessions


def planes(seed: int, objects: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65536, (objects, 12, 20), dtype=np.uint16)


def draw(drafts: Drafts, name: str, frame: int = 3, base: str = "c1") -> None:
    drafts.add(frame, base, {"id": name, "kind": "scribble"}, (1, 2), planes(len(name)))


def test_actions_come_back_with_their_results(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    draw(drafts, "a")
    draw(drafts, "bb", frame=7)
    drafts.set_look(2, Look("van", "#00ff00"))
    again = Drafts(tmp_path)
    assert again.entries == drafts.entries and again.frames() == [3, 7]
    assert [entry.action["id"] for entry in again.of(7)] == ["bb"]
    assert np.array_equal(again.result(again.entries[0]), planes(1))
    assert again.looks == {2: Look("van", "#00ff00")}


def test_undo_redo_and_what_a_new_action_forgets(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    draw(drafts, "a")
    draw(drafts, "bb")
    assert drafts.undo("c1").action["id"] == "bb"
    drafts = Drafts(tmp_path)
    assert [e.action["id"] for e in drafts.undone] == ["bb"]
    assert drafts.redo().action["id"] == "bb" and not drafts.undone
    drafts.undo("c1")
    draw(drafts, "ccc")
    assert not drafts.undone
    stems = {path.stem for path in (tmp_path / "desk").glob("*.png")}
    assert stems == {str(entry.serial) for entry in drafts.entries}  # the forgotten one takes no room


def test_a_round_takes_the_actions_it_began_with_and_gives_them_back(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    draw(drafts, "a")
    draw(drafts, "bb", frame=9)
    drafts.begin(3)
    draw(drafts, "later")  # on the same frame, while the round runs
    drafts.commit(1)
    drafts = Drafts(tmp_path)
    assert [e.action["id"] for e in drafts.entries] == ["bb", "later"] and not drafts.begun
    drafts.bring_back(1)
    assert [e.action["id"] for e in drafts.entries] == ["a", "bb", "later"]
    drafts.bring_back(1)
    assert len(drafts.entries) == 3
    drafts.take_away(1)
    assert [e.action["id"] for e in Drafts(tmp_path).entries] == ["bb", "later"]


def test_an_undone_action_of_an_undone_round_keeps_its_files(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    draw(drafts, "a")
    drafts.begin(3)
    drafts.commit(1)
    drafts.bring_back(1)
    drafts.undo("c1")
    draw(drafts, "other")  # forgets what was undone, but the round can still be redone
    assert [e.action["id"] for e in Drafts(tmp_path).of_round(1)] == ["a"]
    assert np.array_equal(drafts.result(drafts.of_round(1)[0]), planes(1))


def test_what_no_list_names_is_swept_and_a_damaged_list_is_told(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    draw(drafts, "a")
    desk = tmp_path / "desk"
    (desk / "99.png").write_bytes((desk / "1.png").read_bytes())  # killed between result and list
    Drafts(tmp_path)
    assert not (desk / "99.png").exists() and (desk / "1.png").exists()
    text = (desk / "desk.json").read_text()
    (desk / "desk.json").write_text(text[: len(text) // 2])
    with pytest.raises(StoreError, match="desk.json: is damaged"):
        Drafts(tmp_path)
    (desk / "desk.json").write_text(json.dumps({**json.loads(text), "version": 2}))
    with pytest.raises(StoreError, match="newer mivos"):
        Drafts(tmp_path)


def test_a_damaged_result_is_told(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    draw(drafts, "a")
    path = tmp_path / "desk" / "1.png"
    path.write_bytes(path.read_bytes()[: os.path.getsize(path) // 3])
    with pytest.raises(StoreError, match="1.png"):
        drafts.result(drafts.entries[0])


# ---- in the session: deleting objects, looking back, how sure masks are


def test_a_deleted_object_is_gone_everywhere_and_undo_brings_it_back(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        sessions.play_round(session, 1, objects=3)
        before = [session.mask(i) for i in range(session.num_frames)]
        probs = session.probs(2)
        assert probs is not None
        session.drop_object(2)
        assert session.object_ids == (1, 3) and session.num_objects == 2
        after = session.probs(2)
        assert after is not None and np.array_equal(after[1:], probs[[1, 3]])
        mask = session.mask(2)
        assert mask is not None and np.array_equal(mask, after.argmax(0))
        with pytest.raises(UsageError, match="no object 2"):
            session.drop_object(2)
        entry = session.undo()
        assert entry.kind == "deletion" and session.object_ids == (1, 2, 3)
        assert all(np.array_equal(session.mask(i), before[i]) for i in range(session.num_frames))
        assert session.redo().kind == "deletion" and session.object_ids == (1, 3)
        for object_id in (1, 3):
            session.drop_object(object_id)
        assert session.num_objects == 0 and not session.computed().any() and session.mask(0) is None
        sessions.play_round(session, 2, objects=1)
        assert session.mask(0) is not None
    with Session.open(tmp_path / "s") as reader:
        assert len(reader.rounds) == 2


def test_a_cancelled_deletion_leaves_everything(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def cancel(done: int, total: int) -> None:
        if done == 3:
            raise Stop

    with sessions.decoded(tmp_path / "s") as session:
        sessions.play_round(session, 1, objects=2)
        before = session.probs(0)
        with pytest.raises(Stop):
            session.drop_object(1, cancel)
        assert session.object_ids == (1, 2)
        assert np.array_equal(session.probs(0), before)


def test_confidence_follows_the_probabilities(tmp_path: Path) -> None:
    sure = np.zeros((1, 100, 100), np.uint8)
    sure[0, 20:80, 20:80] = 255
    vague = np.where(sure > 0, 140, 90).astype(np.uint8)
    assert expected_overlap(sure) == 100 and expected_overlap(np.zeros_like(sure)) == 100
    assert expected_overlap(vague) < 50
    assert expected_overlap(np.concatenate([sure, vague])) == expected_overlap(vague)
    wide = (vague.astype(np.uint16) << 8) | vague
    assert expected_overlap(wide) == expected_overlap(vague)
    with sessions.decoded(tmp_path / "s") as session:
        assert (session.confidence() == -1).all()
        sessions.play_round(session, 1)
        assert ((session.confidence() >= 0) & (session.confidence() <= 100)).all()


def test_a_reader_can_look_at_an_earlier_commit(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        first = sessions.play_round(session, 1)
        old = session.mask(1)
        sessions.play_round(session, 2)
        with Session.open(tmp_path / "s") as reader:
            assert not np.array_equal(reader.mask(1), old)
            reader.refresh(first)
            assert np.array_equal(reader.mask(1), old) and len(reader.rounds) == 1
            reader.refresh()
            assert len(reader.rounds) == 2


def test_a_suspended_round_goes_on_at_its_checkpoint(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        session.begin_round()
        session.add_objects(1)
        session.write_probs(0, sessions.probs(0))
        session.checkpoint({"next": 1})
        session.write_probs(1, sessions.probs(1))
        session.suspend()
        assert session.mask(0) is None  # readers see the last commit
        assert session.resume_round() == {"next": 1}
        assert session.mask(0) is not None and session.mask(1) is None


def test_a_reader_in_another_thread_does_not_lose_the_writers_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, reading, go_on = FrameVector.__init__, threading.Event(), threading.Event()

    def slow(self: FrameVector, values: np.ndarray) -> None:
        load(self, values)
        if threading.current_thread().name == "reader" and not reading.is_set():
            reading.set()
            go_on.wait(1)

    with sessions.decoded(tmp_path / "s") as session:
        sessions.play_round(session, 1)
        session.begin_round()  # a fresh view of the store, in which nothing is loaded yet
        monkeypatch.setattr(FrameVector, "__init__", slow)
        reader = threading.Thread(target=session.mask, args=(0,), name="reader")
        writer = threading.Thread(target=session.write_probs, args=(1, sessions.probs(1, 2)))
        reader.start()
        assert reading.wait(5)
        writer.start()
        writer.join(0.5)
        go_on.set()
        reader.join()
        writer.join()
        session.checkpoint({})
        assert session.computed()[1] == 2 and session.mask(1) is not None
