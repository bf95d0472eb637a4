"""A session's frames and results, and who sees them when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stores.errors import OutputExistsError, SessionNotFoundError, StoreError, UsageError
from stores.session import Session
from stores.source import Frame
from tests.stores import sessions
from tests.stores.sessions import HEIGHT, WIDTH


def test_create_then_open_gives_back_everything(tmp_path: Path) -> None:
    assert not Session.exists(tmp_path / "s")
    with sessions.decoded(tmp_path / "s", frames=5, prob_bits=16):
        pass
    assert Session.exists(tmp_path / "s")
    with Session.open(tmp_path / "s") as session:
        assert session.source == sessions.source()
        assert (session.height, session.width, session.prob_bits) == (HEIGHT, WIDTH, 16)
        assert (session.num_frames, session.num_objects, session.decoded) == (5, 0, True)
        assert session.rounds == ()
        for index in range(5):
            assert np.array_equal(session.frame(index), sessions.frame(index).image)
            assert session.pts(index) == sessions.frame(index).pts


def test_a_second_create_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    sessions.decoded(tmp_path / "s").close()
    with pytest.raises(OutputExistsError, match="already holds a session"):
        Session.create(tmp_path / "s", sessions.source(), height=HEIGHT, width=WIDTH)
    with Session.open(tmp_path / "s", write=True) as session:  # the refused attempt left no lock
        assert session.num_frames == 6


@pytest.mark.parametrize("name", ["missing", "file", "folder"])
def test_what_is_not_a_session_is_not_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("hello")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SessionNotFoundError, match=name):
        Session.open(tmp_path / name)
    assert not (tmp_path / "folder" / "writer.lock").exists()


def test_create_on_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    with pytest.raises(StoreError, match="file exists") as caught:
        Session.create(tmp_path / "file", sessions.source(), height=HEIGHT, width=WIDTH)
    assert "damaged" not in str(caught.value) and "\n" not in str(caught.value)


def test_arrays_are_one_frame_per_chunk_with_named_axes(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        sessions.play_round(session, 1, objects=2)
        tree = session._reading()
        for name, chunk, axes in (
            ("frames", (1, HEIGHT, WIDTH, 3), ("frame", "y", "x", "channel")),
            ("masks", (1, HEIGHT, WIDTH), ("frame", "y", "x")),
            ("probs", (1, 1, HEIGHT, WIDTH), ("frame", "object", "y", "x")),
        ):
            array = tree.array(name)
            assert array.metadata.zarr_format == 3
            assert array.chunks == chunk
            assert array.metadata.dimension_names == axes


def test_frames_are_committed_on_the_way_and_decoding_resumes(tmp_path: Path) -> None:
    session = Session.create(tmp_path / "s", sessions.source(), height=HEIGHT, width=WIDTH)
    session.checkpoint_frames = 4
    for index in range(10):
        session.write_frame(sessions.frame(index))
    session.close()  # as if killed: frames 8 and 9 were not committed
    with Session.open(tmp_path / "s", write=True) as session:
        assert (session.num_frames, session.decoded) == (8, False)
        for index in range(session.num_frames, 11):
            session.write_frame(sessions.frame(index))
        session.finish_frames()
        session.finish_frames()  # harmless
    with Session.open(tmp_path / "s") as session:
        assert session.num_frames == 11
        for index in range(11):
            assert np.array_equal(session.frame(index), sessions.frame(index).image)
            assert session.pts(index) == sessions.frame(index).pts
        assert [entry.kind for entry in session.history()] == ["created", "decoded"]


def test_wrong_frames_are_refused(tmp_path: Path) -> None:
    with Session.create(tmp_path / "s", sessions.source(), height=HEIGHT, width=WIDTH) as session:
        with pytest.raises(StoreError, match="no frames"):
            session.finish_frames()
        with pytest.raises(ValueError, match="frame 0 is next"):
            session.write_frame(sessions.frame(1))
        with pytest.raises(ValueError, match="not uint8"):
            session.write_frame(Frame(0, 0, np.zeros((HEIGHT, WIDTH), np.uint8)))
        session.write_frame(sessions.frame(0))
        session.finish_frames()
        with pytest.raises(StoreError, match="already decoded"):
            session.write_frame(sessions.frame(1))
        with pytest.raises(IndexError):
            session.frame(1)
        with pytest.raises(IndexError):
            session.frame(-1)


def test_readers_see_the_last_commit_while_a_writer_works(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as writer:
        with Session.open(tmp_path / "s") as reader:
            sessions.play_round(writer, 1)
            assert reader.rounds == () and reader.mask(0) is None
            reader.refresh()
            assert len(reader.rounds) == 1
            first = reader.probs(3)
            writer.begin_round()
            writer.write_probs(3, sessions.probs(3, 2))
            writer.checkpoint({"at": 3})
            reader.refresh()
            assert np.array_equal(reader.probs(3), first)
            assert reader.unfinished() == {"at": 3}
            with pytest.raises(StoreError, match="opened for reading"):
                reader.begin_round()


@pytest.mark.parametrize("bits", [8, 16])
def test_results_are_what_roundtrip_says(tmp_path: Path, bits: int) -> None:
    with sessions.decoded(tmp_path / "s", prob_bits=bits) as session:
        sessions.play_round(session, 1, objects=3)
        for index in range(session.num_frames):
            given = sessions.probs(index, 1, 3)
            stored, mask = session.probs(index), session.mask(index)
            assert stored is not None and mask is not None
            assert stored.dtype == np.float32 and mask.dtype == np.uint8
            assert np.array_equal(stored, session.roundtrip(given))
            assert np.array_equal(stored, session.roundtrip(stored))
            assert np.array_equal(mask, stored.argmax(axis=0))
            assert np.abs(stored - given).max() < 3 / 2**bits


def test_not_computed_differs_from_no_object(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        session.begin_round()
        session.add_objects(1)
        empty = np.zeros((2, HEIGHT, WIDTH), np.float32)
        empty[0] = 1
        session.write_probs(2, empty)
        session.commit_round(sessions.record(1))
    with Session.open(tmp_path / "s") as session:
        assert session.computed().tolist() == [0, 0, 1, 0, 0, 0]
        assert session.computed().dtype == np.int32
        assert session.mask(1) is None and session.probs(1) is None
        mask, probs = session.mask(2), session.probs(2)
        assert mask is not None and not mask.any()
        assert np.array_equal(probs, empty)


def test_a_result_replaced_by_an_empty_one_is_empty(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        sessions.play_round(session, 1)
        session.begin_round()
        session.write_probs(0, np.stack([np.ones((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH))]))
        session.commit_round(sessions.record(2))
        mask = session.mask(0)
        assert mask is not None and not mask.any()


def test_more_objects_keep_the_old_results(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        sessions.play_round(session, 1, objects=1)
        before = session.probs(4)
        session.begin_round()
        session.add_objects(3)
        session.write_probs(0, sessions.probs(0, 2, 3))
        session.commit_round(sessions.record(2))
        after = session.probs(4)
        assert before is not None and after is not None
        assert after.shape == (4, HEIGHT, WIDTH)
        assert np.array_equal(after[:2], before) and not after[2:].any()
        assert session.computed().tolist() == [2, 1, 1, 1, 1, 1]
        with pytest.raises(ValueError, match="would lose"):
            session.add_objects(2)
        with pytest.raises(UsageError, match="at most 255"):
            session.add_objects(256)


def test_object_ids_keep_the_order_they_came_in(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        session.begin_round()
        session.add_object_ids([7, 3])
        session.add_object_ids([3, 1])
        session.write_probs(0, sessions.probs(0, 1, 3))
        session.commit_round(sessions.record(1))
    with Session.open(tmp_path / "s") as session:
        assert session.object_ids == (3, 7, 1)


def test_wrong_probabilities_are_refused(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        with pytest.raises(StoreError, match="no round"):
            session.write_probs(0, np.ones((1, HEIGHT, WIDTH), np.float32))
        session.begin_round()
        session.add_objects(1)
        with pytest.raises(ValueError, match="shape"):
            session.write_probs(0, sessions.probs(0, 1, 2))
        broken = sessions.probs(0)
        broken[1, 0, 0] = np.nan
        with pytest.raises(ValueError, match="not finite"):
            session.write_probs(0, broken)


def test_pending_results_and_memory_are_apart_and_can_be_cleared(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        session.begin_round()
        session.add_objects(2)
        exact = np.random.default_rng(1).random((2, 32, 48), dtype=np.float32)  # padded: not the working size
        session.write_memory(1, exact)
        session.write_pending(4, sessions.probs(4, 1, 2))
        assert session.mask(4) is None
        assert np.array_equal(session.pending(4), session.roundtrip(sessions.probs(4, 1, 2)))
        assert session.pending(3) is None and session.memory(3) is None
        session.checkpoint({})
        memory = session.memory(1)
        assert memory is not None and memory.dtype == np.float32 and np.array_equal(memory, exact)
        assert (session.pending_frames(), session.memory_frames()) == ([4], [1])
        session.clear_pending()
        session.clear_memory()
        assert session.pending(4) is None and session.memory(1) is None
        session.checkpoint({})
        session.write_pending(4, sessions.probs(4, 2, 2))  # may be filled again
        session.clear_pending()
        session.commit_round(sessions.record(1))
        assert (session.pending_frames(), session.memory_frames()) == ([], [])


def test_a_closed_session_says_so(tmp_path: Path) -> None:
    session = sessions.decoded(tmp_path / "s")
    session.close()
    session.close()
    with pytest.raises(StoreError, match="closed"):
        session.frame(0)
