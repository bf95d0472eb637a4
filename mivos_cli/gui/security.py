"""Who may talk to the server: holders of this run's token, from pages of this server, under its own name.

The server can read and write a person's videos, and every page of every site that the person visits can send requests
to loopback. So each request, WebSockets included, needs

* a Host that is this machine's. A foreign name that resolves to 127.0.0.1 (DNS rebinding) is refused.
* an Origin, where the browser sends one, that is the same host and port, and no `Sec-Fetch-Site` of another page.
  The cookie alone would not do: cookies do not tell ports of one host apart.
* the token of this run, in a cookie that scripts cannot read or as `Authorization: Bearer`.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mivos_cli.gui.errors import ApiError, explain

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
JSON_LIMIT = 4 * 2**20  # bytes: a stroke of 20,000 points is below 1 MB
UPLOAD_LIMIT = 64 * 2**20
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def is_loopback(host: str) -> bool:
    """Whether a host to listen on can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_names(host: str) -> frozenset[str]:
    """Host names that requests may use when the server listens on `host`, as they stand in URLs, without a port."""
    names = {_in_url(host)} | LOOPBACK
    if host in ("0.0.0.0", "::", ""):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names)


class Guard:
    """Pure ASGI middleware around the whole application.

    Args:
        token: of this run; host: what the server listens on. On a wildcard address any IP address is an accepted
            name, too: rebinding needs a name that an attacker controls.
    """

    def __init__(self, app: ASGIApp, token: str, host: str = "127.0.0.1") -> None:
        self.app, self.token = app, token
        self.cookie = f"mivos_{secrets.token_hex(4)}"  # of this run: other ports of this host share the cookie jar
        self._names, self._any_address = own_names(host), host in ("0.0.0.0", "::", "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = _Headers(scope["headers"])
        try:
            self._check_source(scope, headers)
            if self._signs_in(scope):
                await self._welcome(send)
                return
            self._check_token(headers)
            limit = _check_length(scope, headers)
        except ApiError as error:
            await _refuse(scope, send, error)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self.app(scope, _bounded(receive, limit), _with_headers(send))

    def _check_source(self, scope: Scope, headers: _Headers) -> None:
        host = headers.single("host", "")
        match = HOST.fullmatch(host.lower())
        if match is None or not self._own(match[1]):
            raise ApiError(403, "this server does not go by that name", hint="use the address that mivos printed")
        origin = headers.single("origin", None)
        if origin is not None and _origin_host(origin) != _with_port(match, secure=origin.startswith("https:")):
            raise ApiError(403, "requests from other sites are refused")
        site = headers.single("sec-fetch-site", "none")
        visits = scope["path"] == "/" and headers.single("sec-fetch-mode", "") == "navigate"  # a followed link
        if site not in ("none", "same-origin") and not visits:
            raise ApiError(403, "requests from other sites are refused")

    def _own(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return self._any_address

    def _signs_in(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] not in ("GET", "HEAD"):
            return False
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if given is None:
            return False
        if not self._is_token(given[0]):
            raise _no_token()
        return True

    async def _welcome(self, send: Send) -> None:
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"cache-control", b"no-store")]
        await _with_headers(send)({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _check_token(self, headers: _Headers) -> None:
        for line in headers.all("cookie"):
            for part in line.split(";"):
                name, _, value = part.strip().partition("=")
                if name == self.cookie and self._is_token(value):
                    return
        kind, _, value = headers.single("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not self._is_token(value.strip()):
            raise _no_token()

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())


class _Headers:
    """Header lines of a request, latin-1."""

    def __init__(self, lines: Iterable[tuple[bytes, bytes]]) -> None:
        self._lines = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in lines]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._lines if key == name]

    def single(self, name: str, default: Any) -> Any:
        """The one line of that name; several contradict each other."""
        values = self.all(name)
        if len(values) > 1:
            raise ApiError(400, f"the request has {len(values)} headers {name}")
        return values[0] if values else default


def _no_token() -> ApiError:
    return ApiError(401, "no token, or one of another run", hint="open the address that `mivos gui` printed")


def _in_url(host: str) -> str:
    return f"[{host.lower()}]" if ":" in host else host.lower()


def _with_port(match: re.Match[str], *, secure: bool) -> tuple[str, int]:
    return match[1], int(match[2] or (443 if secure else 80))


def _origin_host(origin: str) -> tuple[str, int] | None:
    scheme, _, rest = origin.lower().partition("://")
    match = HOST.fullmatch(rest)
    return None if match is None or scheme not in ("http", "https") else _with_port(match, secure=scheme == "https")


def _check_length(scope: Scope, headers: _Headers) -> int:
    limit = UPLOAD_LIMIT if scope["path"].endswith("/import") else JSON_LIMIT
    length = headers.single("content-length", "0")
    if not length.isdecimal() or int(length) > limit:
        raise _too_large(limit)
    return limit


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the request is larger than {limit >> 20} MB")


def _bounded(receive: Receive, limit: int) -> Receive:
    """A body without a declared length ends with an error where it gets too long."""
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        return message

    return bounded


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
        await send(message)

    return sending


async def _refuse(scope: Scope, send: Send, error: ApiError) -> None:
    """Answers with the error, a WebSocket's handshake as well where the server can."""
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        kind = "websocket.http.response"
    body, content = json.dumps(explain(error)).encode(), b"application/json"
    if scope["path"] == "/":  # a person looks at this one
        body, content = f"{HTTPStatus(error.status).phrase}: {error}\n{error.hint or ''}\n".encode(), b"text/plain"
    headers = [(b"content-type", content), (b"content-length", str(len(body)).encode()), *HEADERS]
    if error.status == 413:
        headers.append((b"connection", b"close"))  # the rest of the body is not wanted
    await send({"type": f"{kind}.start", "status": error.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
