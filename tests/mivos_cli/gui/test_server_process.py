"""The command as a process: how it starts, how it ends, and what is there afterwards."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from mivos_cli.app import app
from mivos_cli.gui.serving import DEFAULT_PORT, TRIES, listen, tunnel
from stores.drafts import Drafts
from stores.errors import UsageError
from stores.session import Session
from stores.video import probe
from tests.mivos_cli.conftest import CYCLIST, HEIGHT, TAXI, WIDTH, Clip, environment
from tests.mivos_cli.gui.conftest import LENGTH
from tests.mivos_cli.gui.running import Server, Tab, Work, kill

RIDER, CAR = CYCLIST[1], TAXI[1]


def propagating(work: Work, what: str, tab: Tab, frames: int) -> str:
    """Starts or continues a propagation and waits until some of its frames are done."""
    job = work.ok(what)["job"]
    tab.wait(lambda m: m["type"] == "progress" and m["job"] == job and m["done"] >= frames)
    return job


@pytest.mark.slow  # the page's test kills servers, too
def test_nothing_is_lost(long_clip: Path, tmp_path: Path) -> None:
    """kill -9 and SIGTERM in mid-propagation: what was drawn is there, and the masks are those of an unbroken run."""
    video = Path(shutil.copy(long_clip, tmp_path))
    with Server(video) as server:
        work = server.only()
        work.ready()
        work.act(0, 1, RIDER), work.act(0, 2, CAR)
        with work.tab() as tab:
            propagating(work, "propagate", tab, 5)
            work.ok("pause")
            reached = work.state()["round"]["done"]
            assert work.act(LENGTH - 1, 1, RIDER).status_code == 200
            drawn = work.shown(LENGTH - 1)
            propagating(work, "continue", tab, reached + 3)
            kill(server)

    with Server(video) as server:
        work = server.only()
        state = work.ready()
        assert state["round"] == {"frame": 0, "done": reached, "total": LENGTH - 1, "paused": True}
        assert [draft["frame"] for draft in state["drafts"]] == [LENGTH - 1]
        assert (work.shown(LENGTH - 1) == drawn).all()
        with work.tab() as tab:
            assert tab.job(work.ok("continue")["job"])["state"] == "done"
            broken_off = [work.mask(frame, "committed") for frame in range(LENGTH)]
            work.ok("undo"), work.ok("undo")  # the last frame's stroke, the round
            propagating(work, "propagate", tab, LENGTH // 2)
            code, error = server.end(signal.SIGTERM)
    assert (code, error.splitlines()[-1]) == (0, "stopped; everything is saved"), error
    assert "Traceback" not in error

    with Session.open(tmp_path / "traffic.mp4.mivos", write=True) as session:
        assert Drafts(session.path).frames() == [0]
        progress = session.resume_round()
        assert progress is not None and LENGTH // 2 <= progress["last"] < LENGTH - 1
        for frame in range(1, progress["last"] + 1):
            whole, broken = session.mask(frame), broken_off[frame]
            assert whole is not None and broken is not None and (whole == broken).all(), frame


def test_a_session_that_is_in_use(clip: Clip, tmp_path: Path) -> None:
    session = tmp_path / "session"
    Session.create(session, probe(clip.video), height=HEIGHT, width=WIDTH).close()
    with Session.open(session, write=True), Server(session, "--host", "0.0.0.0") as server:
        identity = server.http.get("/api/home").json()["only"]
        answer = server.http.post(f"/api/projects/{identity}/open")
        assert answer.status_code == 409
        assert "is being written by" in answer.json()["error"] and answer.json()["hint"]
        for host, status in (("192.0.2.7:80", 200), (socket.gethostname(), 200), ("evil.example", 403)):
            assert server.http.get("/api/home", headers={"Host": host}).status_code == status, host
        code, error = server.end(signal.SIGINT)
    assert code == 0
    assert "warning: other machines can reach 0.0.0.0" in error
    assert "ssh -N -L" not in error, "it can be reached without"


@pytest.mark.parametrize(
    ("content", "options", "code", "said"),
    [
        (b"\0" * 3000, [], 1, "video.mp4"),
        (b"", [], 1, "video.mp4"),
        (None, [], 1, "video.mp4"),
        (None, ["--model", "gpt"], 2, "gpt"),
    ],
)
def test_what_cannot_be_shown(tmp_path: Path, content: bytes | None, options: list[str], code: int, said: str) -> None:
    if content is not None:
        (tmp_path / "video.mp4").write_bytes(content)
    result = CliRunner().invoke(app, ["gui", str(tmp_path / "video.mp4"), "--no-open", "--json", *options])
    assert (result.exit_code, result.stdout) == (code, "")
    first, *others = result.stderr.splitlines()
    assert first.startswith("error: ") and said in first
    assert all(line.startswith("hint: ") for line in others)
    assert not list(tmp_path.glob("*.mivos"))


def test_a_session_for_a_folder_of_projects(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["gui", str(tmp_path), "--session", str(tmp_path / "x"), "--no-open"])
    assert result.exit_code == 2 and "give --session with a single video" in result.stderr


def test_ports() -> None:
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        ports = [listener.getsockname()[1] for listener in (first, second)]
        assert DEFAULT_PORT <= ports[0] < ports[1] <= DEFAULT_PORT + TRIES
        with pytest.raises(UsageError, match=f"port {ports[0]} is in use"):
            listen("127.0.0.1", ports[0])
    with listen("localhost", 0) as any_port:
        assert any_port.getsockname()[1] > 0
    with pytest.raises(UsageError, match="cannot listen on 192.0.2.7"):
        listen("192.0.2.7", 0)


def test_the_way_in_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.9 50000 203.0.113.5 22")
    assert tunnel(8765).startswith("ssh -N -L 8765:127.0.0.1:8765 ") and tunnel(8765).endswith("@203.0.113.5")


def test_help_loads_no_server() -> None:
    heavy = ("fastapi", "uvicorn", "starlette", "pydantic", "torch", "numpy", "zarr")
    code = f"import sys, mivos_cli.gui_command; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.stdout.strip() == "[]", done.stderr


def test_small_answers_are_sent_at_once(server: Server) -> None:
    """Without TCP_NODELAY an answer of two packets takes 40 ms."""
    seconds = []
    for _ in range(20):
        seconds.append(server.http.get("/api/projects/x/state").elapsed.total_seconds())
    assert min(seconds) < 0.03


def test_the_page_is_there(server: Server) -> None:
    with httpx.Client(follow_redirects=True) as browser:
        answer = browser.get(server.url)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
        assert answer.headers["cache-control"] == "no-cache"
        assert "<script" in answer.text and server.token not in answer.text
