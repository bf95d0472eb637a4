"""How ends of the renderer are told; small programs stand for it."""

from __future__ import annotations

import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from blender import process
from blender.environment import Renderer
from blender.process import DiedLoadingError, run_job
from stores.errors import RenderError, StorageFullError


class Program:
    """A program in place of Blender and what came of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.events, self.stop = folder, [], threading.Event()
        self.log = folder / "00000.log"

    def run(self, code: str, stall: float = 60.0) -> bool:
        head = "import json, os, signal, sys, time\ndef tell(event, **values):\n"
        head += "    print(json.dumps({'event': event, **values}), flush=True)\n"
        script, job = self.folder / "program.py", self.folder / "00000.json"
        script.write_text(head + textwrap.dedent(code))
        job.write_text("{}")
        renderer = Renderer((sys.executable, str(script)), "a program")
        return run_job(renderer, job, self.log, self.events.append, self.stop, stall)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_events_and_log(program: Program) -> None:
    assert program.run("""
        print("Blender 4.2.0 (hash 12345)")
        print("[1, 2]")
        print("a word to the log", file=sys.stderr)
        tell("frame", frame=0)
        tell("done")
    """)
    assert program.events == [{"event": "frame", "frame": 0}, {"event": "done"}]
    assert program.log.read_text() == "a word to the log\n"


def test_an_error_of_the_program(program: Program) -> None:
    with pytest.raises(RenderError, match=r"^00000: KeyError: 'x' and more$") as caught:
        program.run("tell('error', why=\"KeyError: 'x'\\nand more\", full=False); sys.exit(1)")
    assert str(program.log) in str(caught.value.hint)


def test_a_full_disk(program: Program) -> None:
    with pytest.raises(StorageFullError, match="the disk is full"):
        program.run("tell('error', why='OSError: no room', full=True); sys.exit(1)")


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL before it was done"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV before it was done"),
        ("os._exit(7)", "stopped with exit code 7 before it was done"),
        ("sys.exit(0)", "stopped with exit code 0 before it was done"),
    ],
)
def test_deaths(program: Program, code: str, words: str) -> None:
    with pytest.raises(RenderError) as caught:
        program.run(f"tell('frame', frame=3); {code}")
    assert words in str(caught.value) and str(program.log) in str(caught.value.hint)


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_a_death_while_loading_names_the_file(program: Program) -> None:
    with pytest.raises(DiedLoadingError) as caught:
        program.run("tell('loading', kind='meshes', name='a/b.glb'); os.kill(os.getpid(), signal.SIGSEGV)")
    assert caught.value.name == "a/b.glb" and "SIGSEGV" in caught.value.why


def test_silence_is_ended(program: Program) -> None:
    with pytest.raises(RenderError, match="silent for 1 s"):
        program.run("tell('frame', frame=0); time.sleep(600)", stall=1.0)


def test_one_that_is_done_but_does_not_end(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LEAVING", 1.0)
    began = time.monotonic()
    assert program.run("tell('done'); time.sleep(600)")
    assert program.run("tell('done'); os.close(1); os.close(2); time.sleep(600)")
    assert time.monotonic() - began < 30


def test_stopping(program: Program) -> None:
    threading.Timer(1.0, program.stop.set).start()
    began = time.monotonic()
    assert not program.run("time.sleep(600)")
    assert time.monotonic() - began < 30


def test_no_program(tmp_path: Path) -> None:
    renderer = Renderer((str(tmp_path / "nothing"),), "nothing")
    with pytest.raises(RenderError, match="nothing: cannot be started"):
        run_job(renderer, tmp_path / "0.json", tmp_path / "0.log", lambda event: None, threading.Event())
