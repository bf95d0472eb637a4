"""A server that notes who asks it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture
def visits() -> Iterator[tuple[str, list[str]]]:
    """(address, paths asked for) of a server that nobody should ask."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            if self.path == "/odd":
                self.send_header("Content-Length", "9" * 5000)
            self.end_headers()
            try:
                for _ in range(40):
                    self.wfile.write(bytes(2**16))
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()
