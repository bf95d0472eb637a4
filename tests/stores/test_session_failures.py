"""What can go wrong around a session: kill -9, two writers, damaged files, a full or read-only disk."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stores.errors import SessionLockedError, StoreError
from stores.session import REPOSITORY, Session
from tests.stores import sessions

FRAMES = 12

# Decodes and plays three rounds, each step resumable; says every step aloud. It is what a flow does.
WORKER = f"""
import sys, time
from pathlib import Path
from stores.session import Session
from tests.stores import sessions

path, pause = Path(sys.argv[1]), float(sys.argv[2])
def step(text):
    print(text, flush=True)
    time.sleep(pause)

if Session.exists(path):
    session = Session.open(path, write=True)
else:
    session = Session.create(path, sessions.source(), height=sessions.HEIGHT, width=sessions.WIDTH)
session.checkpoint_frames = 5
step("open")
for index in range(session.num_frames, {FRAMES}):
    session.write_frame(sessions.frame(index))
    step(f"frame {{index}}")
session.finish_frames()
step("decoded")
while (number := len(session.rounds) + 1) <= 3:
    progress = session.resume_round()
    if progress is None:
        session.begin_round()
        session.add_objects(number)
    for index in range(progress["next"] if progress else 0, {FRAMES}):
        session.write_probs(index, sessions.probs(index, number, number))
        step(f"round {{number}} frame {{index}}")
        if index % 4 == 3:
            session.checkpoint({{"next": index + 1}})
            step(f"round {{number}} checkpoint {{index}}")
    session.commit_round(sessions.record(number))
    step(f"round {{number}} done")
session.close()
"""


def start(path: Path, pause: float = 0.0) -> subprocess.Popen[str]:
    """The worker as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(sessions.ROOT)}
    command = [sys.executable, "-c", WORKER, str(path), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def kill_after(process: subprocess.Popen[str], line: str) -> None:
    """kill -9 once the worker has said `line`."""
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"ended before it said {line!r}"
    process.stdout.close()


def finish(path: Path) -> None:
    """Run the worker to its end."""
    process = start(path)
    process.communicate()
    assert process.returncode == 0


def assert_complete(path: Path) -> None:
    """The session is what an uninterrupted worker makes."""
    with Session.open(path) as session:
        assert session.num_frames == FRAMES and len(session.rounds) == 3
        assert session.computed().tolist() == [3] * FRAMES
        kinds = [entry.kind for entry in session.history()]
        assert kinds == ["created", "decoded", "round", "round", "round"]
        for index in range(FRAMES):
            assert np.array_equal(session.frame(index), sessions.frame(index).image)
            assert session.pts(index) == sessions.frame(index).pts
            expected = session.roundtrip(sessions.probs(index, 3, 3))
            assert np.array_equal(session.probs(index), expected)
            assert np.array_equal(session.mask(index), expected.argmax(axis=0))


def test_kill_9_leaves_the_last_commit_and_a_free_lock(tmp_path: Path) -> None:
    path = tmp_path / "s"
    kill_after(start(path, pause=0.002), "frame 7")
    with Session.open(path) as session:
        assert (session.num_frames, session.decoded) == (5, False)
    kill_after(start(path, pause=0.002), "round 2 frame 9")
    assert (path / "writer.json").exists()  # the dead writer's card
    with Session.open(path) as session:
        assert len(session.rounds) == 1 and session.computed().tolist() == [1] * FRAMES
        assert np.array_equal(session.probs(9), session.roundtrip(sessions.probs(9, 1)))
        assert session.unfinished() == {"next": 8}
    with Session.open(path, write=True) as session:
        assert session.resume_round() == {"next": 8}
        assert session.computed().tolist() == [2] * 8 + [1] * 4
    finish(path)
    assert_complete(path)


@pytest.mark.slow
def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "s"
    for _ in range(40):
        process = start(path, pause=0.01)
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 25)):
            process.stdout.readline()
        try:
            process.wait(rng.random() * 0.02)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        if Session.exists(path):
            with Session.open(path) as session:
                assert session.num_frames in (0, 5, 10, 12)
                number = len(session.rounds)
                for index in range(FRAMES if number else 0):
                    expected = session.roundtrip(sessions.probs(index, number, number))
                    assert np.array_equal(session.probs(index), expected)
            if number == 3:
                assert_complete(path)
                shutil.rmtree(path)
    finish(path)
    assert_complete(path)


def test_a_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "s"
    process = start(path, pause=0.05)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(SessionLockedError, match=f"process {process.pid} on .* since 20") as caught:
        Session.open(path, write=True)
    assert caught.value.hint
    Session.open(path).close()  # readers do not care
    process.kill()
    process.communicate()
    with Session.open(path, write=True):
        with pytest.raises(SessionLockedError, match=f"process {os.getpid()} on"):  # also inside one process
            Session.open(path, write=True)
    Session.open(path, write=True).close()
    assert not (path / "writer.json").exists()


def largest(path: Path, folder: str) -> Path:
    """The biggest file of one of the repository's folders."""
    return max((path / REPOSITORY / folder).iterdir(), key=lambda file: file.stat().st_size)


def flip_a_bit(path: Path) -> None:
    """Damage a chunk of a frame."""
    file = largest(path, "chunks")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def lose_all(folder: str) -> Callable[[Path], None]:
    """Delete the files of one of the repository's folders."""
    return lambda path: shutil.rmtree(path / REPOSITORY / folder)


def cut_all(folder: str) -> Callable[[Path], None]:
    """Truncate the files of one of the repository's folders."""

    def cut(path: Path) -> None:
        for file in (path / REPOSITORY / folder).rglob("*"):
            if file.is_file():
                os.truncate(file, file.stat().st_size // 2)

    return cut


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip_a_bit, id="bit flipped in a frame"),
        pytest.param(lambda path: largest(path, "chunks").unlink(), id="frame lost"),
        pytest.param(lose_all("refs"), id="branches lost"),
        pytest.param(lose_all("manifests"), id="manifests lost"),
        pytest.param(cut_all("refs"), id="branches truncated"),
        pytest.param(cut_all("snapshots"), id="snapshots truncated"),
        pytest.param(cut_all("manifests"), id="manifests truncated"),
        pytest.param(cut_all("chunks"), id="chunks truncated"),
    ],
)
def test_damage_is_one_clear_line_and_never_a_wrong_result(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "s"
    with sessions.decoded(path) as session:
        sessions.play_round(session, 1)
    damage(path)
    with pytest.raises(StoreError, match="damaged") as caught, Session.open(path) as session:
        for index in range(session.num_frames):
            assert np.array_equal(session.frame(index), sessions.frame(index).image)
            assert np.array_equal(session.probs(index), session.roundtrip(sessions.probs(index)))
            session.mask(index)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_chunk_that_reads_as_zeros_is_noticed(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        sessions.play_round(session, 1)
        session.begin_round()
        session._reading().array("probs")[2] = 0
        with pytest.raises(StoreError, match="probs does not fit its checksum"):
            session.probs(2)


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    with sessions.decoded(tmp_path / "s") as session:
        session._reading().state["version"] = 99
        session.commit("from the future")
    with pytest.raises(StoreError, match="newer"):
        Session.open(tmp_path / "s")


# A few MB of its own disk for a child process; `run` prints what the session says about it.
DISK = """
import subprocess
from pathlib import Path
import numpy as np
from stores.errors import StorageFullError
from stores.session import Session
from stores.source import Frame, SourceInfo
from tests.stores import sessions

path = Path("/mnt/s")
def run(action):
    try:
        action()
    except StorageFullError as error:
        print(type(error).__name__, error, error.hint, sep="|")
session = Session.create(path, sessions.source(), height=480, width=640)
session.checkpoint_frames = 2
def write():
    for index in range(20):
        image = np.random.default_rng(index).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        session.write_frame(Frame(index, index, image))
run(write)
session.close()
subprocess.run(["mount", "-o", "remount,ro", "/mnt"], check=True)
with Session.open(path) as reader:
    print(reader.num_frames)
run(lambda: Session.open(path, write=True))
run(lambda: Session.create(Path("/mnt/other"), sessions.source(), height=4, width=4))
"""


def test_a_full_and_a_read_only_disk_are_one_clear_line() -> None:
    enter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = "mount -t tmpfs -o size=5m tmpfs /mnt"
    if not shutil.which("unshare") or subprocess.run([*enter, mount], capture_output=True).returncode:
        pytest.skip("this system does not allow a private tmpfs")
    environment = {**os.environ, "PYTHONPATH": str(sessions.ROOT)}
    command = [*enter, f'{mount} && exec "$0" -c "$1"', sys.executable, DISK]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    full, frames, locked, created = result.stdout.splitlines()
    assert full.startswith("StorageFullError|/mnt/s: cannot ") and "no space left on device" in full
    assert frames in ("2", "4")
    assert locked.startswith("StorageFullError|/mnt/s: cannot open the session for writing: read-only file")
    assert created.startswith("StorageFullError|/mnt/other: cannot create a session: read-only file")
