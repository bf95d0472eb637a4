"""`mivos gui`, killed while somebody draws and propagates through its HTTP API."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from stores.checking import check_session
from tests.chaos import cases
from tests.mivos_cli.gui.running import Message, Server, Work

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
SEED = int(os.environ.get("CHAOS_SEED", "0"))
STROKES = [
    (1, [[0.5, 0.3], [0.5, 0.6], [0.5, 0.9]]),
    (1, [[0.45, 0.5], [0.55, 0.5]]),
    (2, [[0.05, 0.05], [0.05, 0.9]]),
]


def play(work: Work, done: list[str]) -> None:
    """Draws what is missing and propagates; `done` gets what the server has confirmed."""
    state = idle(work)
    if state["round"] is not None:
        work.ok("continue")
    elif not state["computed"]:
        drawn = sum(draft["actions"] for draft in state["drafts"])
        for object_id, path in STROKES[drawn:]:
            assert work.act(0, object_id, path).status_code == 200
            done.append("stroke")
        work.ok("propagate")
    idle(work)
    done.append("round")


def idle(work: Work) -> Message:
    """Waits, longer than tests on a quiet machine would, until nothing is queued or running."""
    end = time.monotonic() + 240
    while (state := work.state())["jobs"]:
        assert time.monotonic() < end, f"waited in vain: {state['jobs']}"
        time.sleep(0.05)
    return state


def masks(work: Work) -> list[bytes]:
    found = (work.mask(frame, "committed") for frame in range(cases.FRAMES))
    return [b"" if mask is None else np.ascontiguousarray(mask).tobytes() for mask in found]


def test_the_page_s_server_is_killed(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    clip = tmp_path / "clip.mp4"
    cases._video(clip)
    session = Path(f"{clip}.mivos")
    with Server(clip) as server:
        play(server.only(), [])
        expected = masks(server.only())
    killed = 0
    runs = int(os.environ.get("CHAOS_PAGES", "6"))
    for run in range(runs):
        shutil.rmtree(session)
        confirmed: list[str] = []
        with Server(clip) as server:
            work = server.only()
            killer = threading.Timer(rng.uniform(0.0, 2.5), os.kill, (server.process.pid, signal.SIGKILL))
            killer.start()
            try:
                play(work, confirmed)
            except (httpx.HTTPError, AssertionError):
                killed += 1
            killer.cancel()
            server.process.kill()
            server.process.wait()
        assert [found.line() for found in check_session(session).findings if found.damage] == []
        with Server(clip) as server:
            work = server.only()
            state = idle(work)
            drawn = sum(draft["actions"] for draft in state["drafts"])
            rounds = state["computed"]
            begun = state["round"] is not None or bool(rounds)
            assert begun or drawn >= confirmed.count("stroke"), f"run {run}: {drawn} of {confirmed} are left"
            assert rounds or "round" not in confirmed
            play(work, [])
            assert masks(work) == expected, f"run {run}: other masks"
    print(f"\ngui: {runs} runs, {killed} killed in mid-work")
