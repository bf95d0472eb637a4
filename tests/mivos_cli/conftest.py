"""Running `mivos` as a process, and a short real clip with scribbles that fit it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import pytest

import pipelines
from tests.conftest import ROOT

FRAMES = 8
FIRST = 112  # of bikes.mp4: a cyclist waits beside a taxi
WIDTH, HEIGHT = 320, 136

# (object id, points as fractions of width and height) on any frame of the clip; nothing moves far in it.
CYCLIST = (1, [[0.655, 0.1], [0.652, 0.2], [0.66, 0.35], [0.655, 0.6], [0.65, 0.9]])
TAXI = (2, [[0.05, 0.15], [0.3, 0.2], [0.4, 0.5], [0.42, 0.8], [0.1, 0.9], [0.05, 0.5]])
GROUND = (0, [[0.5, 0.05], [0.495, 0.9]])
Strokes = list[tuple[int, list[list[float]]]]


def scribble_json(*rounds: tuple[int, Strokes], frames: int = FRAMES) -> dict:
    """A DAVIS scribble object with the given (frame, strokes) as consecutive rounds."""
    scribbles: list[list[dict]] = [[] for _ in range(frames)]
    for number, (frame, strokes) in enumerate(rounds):
        for object_id, path in strokes:
            scribbles[frame].append({"path": path, "object_id": object_id, "round": number})
    return {"sequence": "clip", "scribbles": scribbles}


@dataclass(frozen=True)
class Clip:
    """A video, a scribble file with one round for it, and one with two (the second one lets fusion work)."""

    video: Path
    one_round: Path
    two_rounds: Path


@pytest.fixture(scope="session")
def clip(bikes_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("clip")
    video = make_video(bikes_video, folder / "clip.mp4")
    one, two = folder / "one.json", folder / "two.json"
    first: tuple[int, Strokes] = (0, [CYCLIST, TAXI, GROUND])
    one.write_text(json.dumps(scribble_json(first)))
    two.write_text(json.dumps(scribble_json(first, (5, [CYCLIST, GROUND]))))
    return Clip(video, one, two)


def make_video(bikes: Path, target: Path, *, codec: str = "libx264", frames: int = FRAMES) -> Path:
    """A few real frames, small, in a new file; its container follows from the suffix."""
    with av.open(str(bikes)) as reader, av.open(str(target), "w") as writer:
        stream = writer.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index, frame in enumerate(reader.decode(video=0)):
            if FIRST <= index < FIRST + frames:
                small = frame.reformat(WIDTH, HEIGHT, stream.pix_fmt)
                small.pts, small.pict_type, small.time_base = index - FIRST, 0, Fraction(1, 25)
                writer.mux(stream.encode(small))
        writer.mux(stream.encode())
    return target


def environment() -> dict[str, str]:
    """The environment in which a child process finds the packages of this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "MIVOS_DEBUG": ""}


def start_mivos(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """Start the command line; `options` are those of Popen."""
    command = [sys.executable, "-m", "mivos_cli", *map(str, arguments)]
    # a test run in the background ignores Ctrl-C, and its children would inherit that
    return subprocess.Popen(
        command,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def run_mivos(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end; the time limit of the test is its time limit."""
    with start_mivos(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            output, error = process.communicate()
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, output, error)


def run_until(stage: str, act: Callable[[subprocess.Popen[str]], None], *arguments: str | Path) -> tuple[int, str]:
    """Run the command line with -v and call `act` on the process when `stage` reports its first frame.

    Returns:
        The exit code (negative: the signal) and what it wrote on stderr.
    """
    with start_mivos(*arguments, "-v", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            words = line.split()
            if words[:1] == [stage] and words[1][:1].isdigit() and not words[1].startswith("0/"):
                act(process)
                break
        rest = process.stderr.read()
        return process.wait(timeout=120), "".join(lines) + rest


@pytest.fixture
def fake_flow(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """An empty module in place of `pipelines.flow`; a test puts in the functions it needs."""
    flow = ModuleType("pipelines.flow")
    monkeypatch.setitem(sys.modules, "pipelines.flow", flow)
    monkeypatch.setattr(pipelines, "flow", flow, raising=False)
    yield flow
