"""Small sessions for tests: the same frames and probabilities for the same arguments, in every process."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stores.session import RoundRecord, Session
from stores.source import Frame, SourceInfo

HEIGHT, WIDTH = 24, 40
ROOT = Path(__file__).resolve().parents[2]


def source() -> SourceInfo:
    """A source that nothing reads."""
    return SourceInfo("/videos/clip.mp4", "video", "0" * 64, WIDTH, HEIGHT, time_base=(1, 600))


def frame(index: int) -> Frame:
    """Frame `index`, noise."""
    image = np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Frame(index, index * index * 7, image)


def probs(index: int, round_number: int = 1, objects: int = 1) -> np.ndarray:
    """float32 [objects + 1, H, W] that sum to 1."""
    rng = np.random.default_rng([index, round_number, objects])
    values = rng.random((objects + 1, HEIGHT, WIDTH), dtype=np.float32)
    return values / values.sum(axis=0)


def record(number: int, frame_index: int = 0) -> RoundRecord:
    """A round's record with something in each kind of field."""
    return RoundRecord(
        number=number,
        kind="scribbles",
        frame=frame_index,
        objects=(1,),
        strokes=[{"path": [[0.1, 0.2], [0.3, 0.4]], "object_id": 1}],
        model={"name": "nano"},
        stages=("interact", "propagate"),
        created="2026-01-01T00:00:00+00:00",
        seconds={"interact": 0.5},
    )


def decoded(path: Path, frames: int = 6, prob_bits: int = 8) -> Session:
    """A new session, open for writing, with all its frames."""
    session = Session.create(path, source(), height=HEIGHT, width=WIDTH, prob_bits=prob_bits)
    for index in range(frames):
        session.write_frame(frame(index))
    session.finish_frames()
    return session


def play_round(session: Session, number: int, objects: int = 1) -> str:
    """One whole round over all frames; returns the commit."""
    session.begin_round()
    session.add_objects(objects)
    for index in range(session.num_frames):
        session.write_probs(index, probs(index, number, objects))
    return session.commit_round(record(number))
