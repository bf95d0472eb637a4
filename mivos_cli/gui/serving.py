"""Running the server: its address, what is printed about it, and a clean end on Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import errno
import getpass
import ipaddress
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from mivos_cli.gui.chosen import Chosen
from mivos_cli.gui.home import Home
from mivos_cli.gui.security import is_loopback
from mivos_cli.gui.server import App
from stores.errors import UsageError

DEFAULT_MODEL = Chosen()
DEFAULT_PORT, TRIES = 8765, 20
PATIENCE = 3  # seconds for answers under way when the server ends
log = logging.getLogger("mivos")


@dataclass(frozen=True)
class Address:
    """Where the server listens. `url` holds the token; whoever has it can do all that the page can."""

    url: str
    port: int


def serve(
    path: Path, *, session: Path | None = None, size: int | None = 480, model: Chosen = DEFAULT_MODEL,
    host: str = "127.0.0.1", port: int | None = None, ready: Callable[[Address], None],
) -> None:  # fmt: skip
    """Serves the projects at `path` until Ctrl-C or SIGTERM; then running work is checkpointed and sessions closed.

    Args:
        path: a video, an image folder, a session, or a folder of them; session: where the session of a video goes.
        size: shorter side of the working size of new sessions; None: the source's.
        port: None: 8765 or the next free one; 0: any.
        ready: called once when the server answers.

    Raises:
        UsageError: the options make no sense or there is nothing at that address to listen on.
        VideoError: a video that cannot be used. ModelError: networks that cannot be used.
    """
    model.check()
    home = Home(path, session)
    listener = listen(host, port)
    token = secrets.token_urlsafe(24)
    app = App(home, model, size, token=token, host=host)
    number = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::"):
        shown = "127.0.0.1"
    address = Address(f"http://{shown}:{number}/?token={token}", number)
    Server(app, ready=lambda: ready(address)).run(sockets=[listener])


def listen(host: str, port: int | None) -> socket.socket:
    """A listening socket.

    Raises:
        UsageError: the port is taken, or the host is not this machine's.
    """
    first = DEFAULT_PORT if port is None else port
    tries = TRIES + 1 if port is None else 1
    for number in range(first, first + tries):
        try:
            family, kind, protocol, _, target = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
            # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is named: else 40 ms later
            listener = socket.socket(family, kind, protocol or socket.IPPROTO_TCP)
        except OSError as error:
            raise UsageError(f"cannot listen on {host}: {error.strerror}", hint="drop --host") from error
        if os.name == "posix":  # else a port whose last user has just left counts as taken
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(target)
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise UsageError(f"cannot listen on {host}:{number}: {error.strerror}", hint="drop --host") from error
    which = f"port {first} is" if tries == 1 else f"ports {first} to {first + TRIES} are"
    raise UsageError(f"{which} in use", hint="choose another --port, 0 for any")


class Server(uvicorn.Server):
    """uvicorn with our end: the first signal lets work stop without loss, the second one does not wait."""

    def __init__(self, app: App, *, ready: Callable[[], None]) -> None:
        debug = bool(os.environ.get("MIVOS_DEBUG"))
        if not debug:  # failures are told by the application, in one line
            logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)
        super().__init__(
            uvicorn.Config(
                app.guarded,
                log_config=None,
                access_log=False,  # the first request holds the token
                server_header=False,
                proxy_headers=False,
                ws="websockets-sansio",
                ws_max_size=2**16,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=PATIENCE,
                lifespan="on",
            )
        )
        self._app, self._ready = app, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
            self._app.answering()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's, this does not raise the signal again in the end: nothing was broken off."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = (signal.SIGINT, signal.SIGTERM)
        before: dict[int, Any] = {number: signal.signal(number, self.handle_exit) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:  # what was committed or checkpointed is safe whatever happens
            os._exit(128 + sig)
        self.should_exit = True
        self._app.leave()


def open_browser(url: str) -> bool:
    """Opens the page; False where there is no graphical browser."""
    has_screen = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if not has_screen and os.name != "nt" and sys.platform != "darwin":
        return False
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    threading.Thread(target=browser.open, args=(url,), name="mivos-browser", daemon=True).start()
    return True


def tunnel(port: int) -> str:
    """The command that makes the page of this machine reachable from another one."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "USER"
    name = socket.gethostname()
    with contextlib.suppress(ValueError, IndexError):  # the address that the person came in by, rather than a name
        name = str(ipaddress.ip_address(os.environ.get("SSH_CONNECTION", "").split()[2]))
    return f"ssh -N -L {port}:127.0.0.1:{port} {user}@{name}"


def exposed(host: str) -> bool:
    """Whether other machines can reach a server on this host."""
    return not is_loopback(host)
