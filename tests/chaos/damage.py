"""A small session with everything in it, ways to damage its files, and what must be true afterwards."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import av
import numpy as np

from stores.drafts import Drafts
from stores.errors import MivosError
from stores.session import Session
from stores.video import probe, read_frames
from tests.stores import sessions

FRAMES, HEIGHT, WIDTH = 8, sessions.HEIGHT, sessions.WIDTH
Damage = Callable[[Path, random.Random], None]


def video(path: Path) -> Path:
    """A few frames of noise, without loss."""
    with av.open(str(path), "w") as writer:
        stream = writer.add_stream("ffv1", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(FRAMES):
            image = av.VideoFrame.from_ndarray(sessions.frame(index).image, format="rgb24")
            image.pts = index
            writer.mux(stream.encode(image.reformat(format="yuv420p")))
        writer.mux(stream.encode())
    return path


def build(folder: Path) -> Path:
    """A session: decoded, three rounds of which one is undone, a round in progress, drafts."""
    source = video(folder / "clip.mkv")
    path = folder / "session"
    with Session.create(path, probe(source), height=HEIGHT, width=WIDTH) as session:
        session.checkpoint_frames = 3
        with closing(read_frames(source, size=HEIGHT)) as frames:
            for frame in frames:
                session.write_frame(frame)
        session.finish_frames()
        for number in (1, 2, 3):
            session.begin_round()
            session.add_objects(2)
            session.write_interaction(number, sessions.probs(number, number, 2))
            for index in range(FRAMES):
                session.write_probs(index, sessions.probs(index, number, 2))
            session.write_probs(number, sessions.probs(number, number, 2))
            session.commit_round(sessions.record(number, number))
        session.undo()
        session.begin_round()
        session.write_probs(0, sessions.probs(0, 9, 2))
        session.write_pending(1, sessions.probs(1, 9, 2))
        session.checkpoint({"next": 1})
        session.suspend()
        drafts = Drafts(path)
        for serial in range(3):
            planes = np.full((2, HEIGHT, WIDTH), 40 + serial, np.uint8)
            drafts.add(serial, session.commit_id, {"kind": "brush", "frame": serial}, (1, 2), planes)
        drafts.undo(session.commit_id)
    return path


def contents(path: Path) -> dict[str, bytes]:
    """Everything a person could lose, by name, as it reads; MivosError where something does not."""
    found = {}
    with Session.open(path) as session:
        found["rounds"] = repr([record.to_json() for record in session.rounds]).encode()
        found["frames"] = str(session.num_frames).encode()
        for index in range(session.num_frames):
            found[f"frame {index}"] = session.frame(index).tobytes() + str(session.pts(index)).encode()
            mask, probs = session.mask(index), session.probs(index)
            found[f"mask {index}"] = b"none" if mask is None else mask.tobytes()
            found[f"probs {index}"] = b"none" if probs is None else probs.tobytes()
        for number in range(1, len(session.rounds) + 1):
            kept = session.interaction(number)
            found[f"interaction {number}"] = b"none" if kept is None else kept.tobytes()
        session.history()
    drafts = Drafts(path)
    for entry in (*drafts.entries, *drafts.undone):
        found[f"draft {entry.serial}"] = repr(entry.action).encode() + drafts.result(entry).tobytes()
    return found


def readable(path: Path) -> dict[str, bytes | None] | None:
    """Like `contents`, piece by piece; None for a piece that is an error, None in all if nothing opens."""
    found: dict[str, bytes | None] = {}

    def note(name: str, read: Callable[[], bytes]) -> None:
        try:
            found[name] = read()
        except MivosError as error:
            assert error.hint, f"an error without a hint: {error}"
            found[name] = None

    try:
        session = Session.open(path)
    except MivosError as error:
        assert error.hint, f"an error without a hint: {error}"
        return None
    with session:
        note("rounds", lambda: repr([record.to_json() for record in session.rounds]).encode())
        note("frames", lambda: str(session.num_frames).encode())
        for index in range(session.num_frames):
            note(f"frame {index}", partial(_frame, session, index))
            note(f"mask {index}", partial(_image, session.mask, index))
            note(f"probs {index}", partial(_image, session.probs, index))
        for number in range(1, 4):
            note(f"interaction {number}", partial(_image, session.interaction, number))
        note("history", lambda: repr([entry.message for entry in session.history()]).encode())
    return found


def _frame(session: Session, index: int) -> bytes:
    return session.frame(index).tobytes() + str(session.pts(index)).encode()


def _image(read: Callable[[int], np.ndarray | None], index: int) -> bytes:
    values = read(index)
    return b"none" if values is None else values.tobytes()


def flip(path: Path, rng: random.Random) -> None:
    """Some bits of a file change."""
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 4, 32))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    """The file ends early, perhaps at once."""
    os.truncate(path, rng.choice((0, rng.randrange(path.stat().st_size + 1))))


def lose(path: Path, rng: random.Random) -> None:
    """The file is gone."""
    path.unlink()


def zero(path: Path, rng: random.Random) -> None:
    """The file has its length and nothing else, as some file systems leave it after a loss of power."""
    path.write_bytes(bytes(path.stat().st_size))


WAYS: tuple[Damage, ...] = (flip, cut, lose, zero)


def strike(path: Path, rng: random.Random) -> list[str]:
    """Damage one to three random files of a session; returns what was done, in words.

    Folders are chosen first, since nearly all files are chunks.
    """
    told = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        files = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith("writer.")]
        folder = rng.choice(sorted({file.parent for file in files}))
        file = rng.choice(sorted(found for found in files if found.parent == folder))
        way = rng.choice(WAYS)
        way(file, rng)
        told.append(f"{way.__name__} {file.relative_to(path)}")
    return told


def copy(path: Path, target: Path) -> Path:
    """A copy of a session to damage."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(path, target)
    return target
