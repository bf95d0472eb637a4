"""Results with a border, and the masks that rounds began with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stores.session import Session
from tests.stores import sessions
from tests.stores.sessions import HEIGHT, WIDTH

BORDER = (3, 5, 0, 8)  # left, right, top, bottom


def bordered(path: Path) -> Session:
    session = Session.create(path, sessions.source(), height=HEIGHT, width=WIDTH, border=BORDER)
    for index in range(4):
        session.write_frame(sessions.frame(index))
    session.finish_frames()
    return session


def wide(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).random((3, HEIGHT + 8, WIDTH + 8), dtype=np.float32)
    return values / values.sum(0)


def test_readers_see_the_frame_and_rounds_see_the_border(tmp_path: Path) -> None:
    with bordered(tmp_path / "s") as session:
        assert session.border == BORDER and session.result_size == (HEIGHT + 8, WIDTH + 8)
        session.begin_round()
        session.add_objects(2)
        for index in range(2):
            session.write_probs(index, wide(index))
        session.write_pending(2, wide(2))
        kept = session.roundtrip(wide(0))
        assert np.array_equal(session.probs(0, border=True), kept)
        assert np.array_equal(session.probs(0), kept[:, :HEIGHT, 3 : 3 + WIDTH])
        assert np.array_equal(session.mask(0), kept.argmax(0)[:HEIGHT, 3 : 3 + WIDTH])
        assert np.array_equal(session.mask(0, border=True), kept.argmax(0))
        assert np.array_equal(session.pending(2), session.roundtrip(wide(2)))
        session.commit_round(sessions.record(1))
    with Session.open(tmp_path / "s") as session:
        assert session.border == BORDER and np.array_equal(session.probs(0, border=True), kept)


def test_a_result_without_border_has_an_empty_one(tmp_path: Path) -> None:
    with bordered(tmp_path / "s") as session:
        session.begin_round()
        session.add_objects(1)
        session.write_probs(0, sessions.probs(0))
        whole = session.probs(0, border=True)
        assert whole.shape == (2, HEIGHT + 8, WIDTH + 8)
        outside = np.ones(whole.shape[1:], bool)
        outside[:HEIGHT, 3 : 3 + WIDTH] = False
        assert not whole[1][outside].any() and whole[1].any()
        with pytest.raises(ValueError, match="expected"):
            session.write_probs(0, sessions.probs(0)[:, :-1])


def test_interactions_outlive_their_frames_results(tmp_path: Path) -> None:
    with bordered(tmp_path / "s") as session:
        for number, objects in ((1, 1), (2, 2)):
            session.begin_round()
            session.add_objects(objects)
            assert session.interaction(number) is None
            session.write_interaction(number, sessions.probs(0, number, objects))
            session.write_probs(0, sessions.probs(0, number, objects))
            session.commit_round(sessions.record(number))
        first, second = session.interaction(1), session.interaction(2)
        assert first.shape == second.shape == (3, HEIGHT + 8, WIDTH + 8)
        wanted = sessions.probs(0, 1, 1)[1]
        np.testing.assert_allclose(first[1, :HEIGHT, 3 : 3 + WIDTH], wanted, atol=1 / 255)
        assert not first[2].any()  # the second object was not there yet
        np.testing.assert_allclose(second[1:, :HEIGHT, 3 : 3 + WIDTH], sessions.probs(0, 2, 2)[1:], atol=1 / 255)
        session.undo()
        assert session.interaction(2) is None and session.interaction(1) is not None
        assert session.interaction(0) is None and session.interaction(9) is None
