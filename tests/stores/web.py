"""A real HTTP server on loopback with files, ranges, and failures on request."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Site:
    """What the server has and does.

    Attributes:
        files: path without slash -> content.
        script: what to do with the next requests, one word each: "cut N" (close after N bytes of the body),
            "status N", "whole" (ignore Range), "html", "glue" (ignore If-Range). An empty script serves.
        etag: of all files; empty: none is sent.
        claim: a Content-Length to claim for a file, whatever it has.
        requests: headers of the requests so far, names in lower case.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    script: list[str] = field(default_factory=list)
    etag: str = '"v1"'
    claim: int | None = None
    requests: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def serve() -> Iterator[Site]:
    """A server in a thread until the block ends."""
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            site.requests.append({name.lower(): value for name, value in self.headers.items()})
            word, _, number = (site.script.pop(0) if site.script else "serve").partition(" ")
            content = site.files.get(self.path.lstrip("/"))
            if word == "status" or content is None:
                return self.send_error(int(number or 404))
            if word == "html":
                return self._answer(200, b"<!DOCTYPE html><title>Quota exceeded</title>", kind="text/html")
            start = self._start(word, len(content))
            if start is None:
                return self._answer(200, content, cut=int(number) if word == "cut" else None)
            if start >= len(content):
                return self._answer(416, b"", span=f"bytes */{len(content)}")
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._answer(206, content[start:], cut=int(number) if word == "cut" else None, span=span)

        def _start(self, word: str, length: int) -> int | None:
            found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            other = self.headers.get("If-Range", site.etag) != site.etag and word != "glue"
            return int(found[1]) if found and not other and word != "whole" else None

        def _answer(
            self, status: int, body: bytes, *, cut: int | None = None, span: str = "", kind: str = "application/x"
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(site.claim or len(body)))
            if site.etag:
                self.send_header("ETag", site.etag)
            if span:
                self.send_header("Content-Range", span)
            self.end_headers()
            self.wfile.write(body if cut is None else body[:cut])
            self.close_connection = cut is not None or site.claim is not None

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients that leave in the middle are what is tested

    server = Server(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
