"""A real server in a process of its own, and what a page does with it, over HTTP and WebSockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.mivos_cli.conftest import start_mivos

PATIENCE = 25.0  # seconds for what takes a moment on a machine that has nothing else to do
Message = dict[str, Any]


class Server:
    """`mivos gui` as a process; `http` sends the token with each request."""

    def __init__(self, path: Path, *options: str | Path) -> None:
        command = ("gui", path, "--no-open", "--json", "--port", "0", *options)
        self.process = start_mivos(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"no server: {self.process.communicate()[1]}")
        facts = json.loads(line)
        assert set(facts) == {"url", "port"}
        self.url, self.port = facts["url"], facts["port"]
        self.base, self.token = f"http://127.0.0.1:{self.port}", self.url.partition("token=")[2]
        self.http = httpx.Client(
            base_url=self.base, headers={"Authorization": f"Bearer {self.token}"}, timeout=PATIENCE
        )

    def only(self) -> Work:
        """The one project, open."""
        identity = self.http.get("/api/home").json()["only"]
        assert identity is not None
        return self.open(identity)

    def open(self, identity: str) -> Work:
        answer = self.http.post(f"/api/projects/{identity}/open")
        assert answer.status_code == 200, answer.text
        return Work(self, identity)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Sends a signal; returns the exit code and what was said on stderr."""
        self.http.close()
        self.process.send_signal(number)
        error = self.process.communicate(timeout=PATIENCE)[1]
        return self.process.returncode, error

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Work:
    """A project as a page uses it."""

    def __init__(self, server: Server, identity: str) -> None:
        self.server, self.id, self.path = server, identity, f"/api/projects/{identity}"

    def get(self, what: str, **options: Any) -> httpx.Response:
        return self.server.http.get(f"{self.path}/{what}", **options)

    def post(self, what: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.server.http.post(f"{self.path}/{what}", json={} if body is None else body, **options)

    def ok(self, what: str, body: Any = None) -> Any:
        """POST that must succeed; returns the JSON."""
        answer = self.post(what, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def state(self) -> Message:
        return self.get("state").json()

    def act(self, frame: int, object_id: int, path: list[list[float]], **fields: Any) -> httpx.Response:
        action = {"id": uuid.uuid4().hex, "frame": frame, "kind": "scribble", "object": object_id, "positive": True}
        return self.post("actions", {**action, "path": path, "window": None, **fields})

    def mask(self, frame: int, which: str = "shown") -> np.ndarray | None:
        """uint8 [H, W]; None: there is none."""
        answer = self.get(f"masks/{frame}", params={"which": which})
        if answer.status_code == 204:
            return None
        assert answer.status_code == 200, answer.text
        size = int(answer.headers["x-height"]), int(answer.headers["x-width"])
        return np.frombuffer(answer.content, np.uint8).reshape(size)

    def shown(self, frame: int) -> np.ndarray:
        mask = self.mask(frame)
        assert mask is not None, f"frame {frame} has no mask"
        return mask

    def ready(self) -> Message:
        """Waits until nothing is queued or running; returns the state."""
        return until(lambda: (state := self.state()) and not state["jobs"] and state)

    def tab(self) -> Tab:
        return Tab(self)

    def fresh(self) -> Message:
        """Drops rounds and drafts of other tests as far as undo goes, and waits."""
        self.ready()
        if self.state()["round"] is not None:
            self.ok("discard")
        while self.post("undo").status_code == 200:
            pass
        return self.state()


class Tab:
    """A tab's WebSocket; messages are collected by a thread."""

    def __init__(self, work: Work) -> None:
        server = work.server
        headers = {"Authorization": f"Bearer {server.token}"}
        address = f"ws://127.0.0.1:{server.port}{work.path}/ws"
        self.socket = connect(address, additional_headers=headers, origin=server.base, max_size=None)  # type: ignore[arg-type]
        self.messages: list[Message] = []
        self.closed: int | None = None
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.wait(lambda message: message["type"] == "state")

    def _read(self) -> None:
        try:
            for text in self.socket:
                with self._news:
                    self.messages.append({**json.loads(text), "at": time.monotonic()})
                    self._news.notify_all()
        except ConnectionClosed:
            pass
        with self._news:
            self.closed = self.socket.close_code
            self._news.notify_all()

    def of(self, kind: str, since: int = 0) -> list[Message]:
        with self._news:
            return [message for message in self.messages[since:] if message["type"] == kind]

    def wait(self, wanted: Callable[[Message], Any], since: int = 0) -> Message:
        """The first message from position `since` on that is wanted."""
        end, position = time.monotonic() + PATIENCE, since
        with self._news:
            while True:
                for message in self.messages[position:]:
                    if wanted(message):
                        return message
                position = len(self.messages)
                assert self.closed is None, f"the socket was closed with {self.closed}"
                assert time.monotonic() < end, f"waited for a message; the last ones: {self.messages[-3:]}"
                self._news.wait(1.0)

    def job(self, identity: str) -> Message:
        """Waits for the end of a job; returns what was told about it last."""

        def ended(message: Message) -> bool:
            if message["type"] != "job" or message["job"]["id"] != identity:
                return False
            return message["job"]["state"] not in ("queued", "running")

        return self.wait(ended)["job"]

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
        self._thread.join(PATIENCE)


def until(condition: Callable[[], Any]) -> Any:
    """Waits for something true, and returns it."""
    end = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return result


def kill(server: Server) -> None:
    """As when the power fails."""
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(PATIENCE)
