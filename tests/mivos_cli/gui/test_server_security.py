"""Only pages of this server that hold this run's token get anything, and no request reaches other files."""

from __future__ import annotations

import http.client
import json
import socket

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mivos_cli.gui.security import LOOPBACK, own_names
from tests.mivos_cli.gui.running import Server, Work

HOME = "/api/home"


def raw(server: Server, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, str, bytes]:
    """A request just as it is written here: no client tidies the path up or adds headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": f"127.0.0.1:{server.port}", **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    result = answer.status, answer.getheader("content-type") or "", answer.read()
    connection.close()
    return result


def bearer(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token}"}


@pytest.mark.parametrize("path", ["/", "/index.html", HOME, "/api/projects/x/state", "/nothing"])
def test_nothing_without_the_token(server: Server, path: str) -> None:
    assert httpx.get(server.base + path).status_code == 401
    assert httpx.get(server.base + path, params={"token": "wrong"}).status_code == 401
    assert httpx.get(server.base + path, headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_the_address_gives_a_cookie_and_the_cookie_everything(server: Server) -> None:
    with httpx.Client() as browser:
        answer = browser.get(server.url)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        assert server.token not in answer.headers["location"]
        assert browser.get(server.base + HOME).status_code == 200
    name = cookie.partition("=")[0]
    for wrong in (f"{name}=wrong", f"mivos_00000000={server.token}", f"x{cookie.partition(';')[0]}"):
        assert httpx.get(server.base + HOME, headers={"Cookie": wrong}).status_code == 401


def test_a_token_in_the_query_is_for_the_front_door_only(server: Server) -> None:
    assert httpx.get(server.base + HOME, params={"token": server.token}).status_code == 401


def test_headers_that_keep_others_out(server: Server) -> None:
    for path in ("/", HOME, "/api/projects/x/state"):
        headers = server.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers and "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost@evil", "", "10.1.2.3", "[::2]"]
)
def test_a_foreign_name_for_this_machine(server: Server, host: str) -> None:
    status, kind, body = raw(server, "GET", HOME, {**bearer(server), "Host": host})
    assert status in (400, 403)  # 400: no host at all
    assert b"traffic" not in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1:9", "[::1]:8765"])
def test_a_forwarded_port(server: Server, host: str) -> None:
    assert raw(server, "GET", HOME, {**bearer(server), "Host": host})[0] == 200
    assert raw(server, "GET", HOME, {**bearer(server), "Host": host, "Origin": f"http://{host}"})[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "file://", "http://[::1]"]
)
def test_a_foreign_origin(server: Server, opened: Work, origin: str) -> None:
    headers = {**bearer(server), "Origin": origin}
    assert raw(server, "GET", HOME, headers)[0] == 403
    assert raw(server, "POST", f"{opened.path}/undo", {**headers, "Content-Length": "0"})[0] == 403
    assert raw(server, "OPTIONS", HOME, {**headers, "Access-Control-Request-Method": "POST"})[0] == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pictures_embedded_elsewhere(server: Server, opened: Work, site: str) -> None:
    """Another port of this host is "same-site": the cookie goes along, and no Origin with a picture."""
    picture = f"{opened.path}/frames/0.jpg"
    assert raw(server, "GET", picture, {**bearer(server), "Sec-Fetch-Site": "same-origin"})[0] == 200
    assert raw(server, "GET", picture, {**bearer(server), "Sec-Fetch-Site": site})[0] == 403
    visit = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
    assert raw(server, "GET", f"/?token={server.token}", visit)[0] == 303
    assert raw(server, "GET", HOME, {**bearer(server), **visit})[0] == 403


def test_a_header_given_twice(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire:
        lines = f"GET {HOME} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.token}\r\n"
        wire.sendall(f"{lines}Origin: http://127.0.0.1\r\nOrigin: http://evil.example\r\n\r\n".encode())
        assert wire.recv(100).startswith(b"HTTP/1.1 400")


def test_sockets_need_the_same(server: Server, opened: Work) -> None:
    address = f"ws://127.0.0.1:{server.port}{opened.path}/ws"

    def status(origin: str | None, **headers: str) -> int:
        with pytest.raises(InvalidStatus) as refused:
            connect(address, origin=origin, additional_headers=headers)  # type: ignore[arg-type]
        return refused.value.response.status_code

    assert status(server.base) == 401
    assert status(server.base, Cookie="mivos_00000000=x") == 401
    assert status("http://evil.example", **bearer(server)) == 403
    assert status("http://127.0.0.1:1", **bearer(server)) == 403
    address = f"ws://127.0.0.1:{server.port}/api/projects/nothing/ws"
    assert status(server.base, **bearer(server)) == 404
    with httpx.Client() as browser:
        cookie = browser.get(server.url).headers["set-cookie"].partition(";")[0]
    address = f"ws://127.0.0.1:{server.port}{opened.path}/ws"
    with connect(address, origin=server.base, additional_headers={"Cookie": cookie}) as good:  # type: ignore[arg-type]
        assert json.loads(good.recv())["type"] == "state"


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/js/..%5c..%5csecret.txt",
        "/api/projects/..%2f..%2fsecret/state",
        "{project}/exports/..%2f..%2fdesk/desk.json",
        "{project}/exports/../../secret.txt",
        "{project}/exports/..%2f../secret.txt",
        "{project}/exports/x/..%2f..%2f..%2f..%2fsecret.txt",
        "{project}/frames/..%2f..%2fsecret.txt",
        "{project}/masks/..%2f..%2fsecret.txt",
        "/\0",
    ],
)
def test_no_way_to_other_files(server: Server, opened: Work, target: str) -> None:
    written = target.format(project=opened.path).replace("\0", "%00")
    status, kind, body = raw(server, "GET", written, bearer(server))
    assert status in (400, 404), body
    assert b"nobody" not in body and b"root:" not in body
    assert raw(server, "DELETE", written, bearer(server))[0] in (400, 404)


def test_bodies_that_are_too_large(server: Server, opened: Work) -> None:
    target = f"{opened.path}/actions"
    status, kind, body = raw(server, "POST", target, {**bearer(server), "Content-Length": str(10**12)})
    assert status == 413 and json.loads(body)["error"] == "the request is larger than 4 MB"
    answer = server.http.post(target, content=iter([b" " * 2**20] * 6))  # no length is declared
    assert answer.status_code == 413
    assert opened.post("propagate", {"frames": [0] * 3_000_000}).status_code == 413
    picture = server.http.put(f"{opened.path}/import", params={"id": "a", "frame": 0}, content=b" " * (5 * 2**20))
    assert picture.status_code == 400  # larger things are taken there, but this is no PNG
    headers = {**bearer(server), "Content-Length": str(65 * 2**20)}
    assert raw(server, "PUT", f"{opened.path}/import", headers)[0] == 413


def test_bodies_that_make_no_sense(opened: Work) -> None:
    def refused(what: str, content: bytes) -> str:
        answer = opened.server.http.post(f"{opened.path}/{what}", content=content)
        assert answer.status_code == 400, answer.text
        told = answer.json()
        assert set(told) == {"error", "hint"} and "\n" not in told["error"]
        return told["error"]

    assert refused("actions", b"[" * 100_000) == "the body is not JSON"
    assert refused("actions", b'{"a":' * 100_000) == "the body is not JSON"
    assert refused("actions", b"9" * 100_000) == "the body is not JSON"
    assert refused("actions", b"\xff\xfe") == "the body is not JSON"
    assert refused("actions", b"[]") == "an action must be a JSON object"
    assert refused("actions", b'{"radius": NaN}') == "the body is not JSON"
    assert "20000 are the most" in refused("actions", json.dumps({"path": [[0, 0]] * 20_001}).encode())
    assert "kind" in refused("actions", b"{}") or "frame" in refused("actions", b"{}")
    assert "paste" in refused("actions", b'{"kind": "paste"}')
    for body in (b"[" * 100_000, b"{", b"", b'{"direction": 1}', b'{"unknown": 1}', b'{"frames": []}', b'{"to": true}'):
        refused("propagate", body)
    for body in (b'{"colour": "red"}', b'{"name": 5}', b'{"colour": "#12345678"}'):
        refused("objects", body)
    refused("export", b'{"formats": []}')
    refused("export", b'{"formats": ["exe"]}')


def test_a_long_stroke_is_fine(work: Work) -> None:
    path = [[0.655 + 0.0000001 * i, 0.1 + 0.8 * i / 20_000] for i in range(20_000)]
    assert work.act(0, 1, path).status_code == 200


@pytest.mark.parametrize("what", ["frames/40.jpg", "frames/1000000.jpg", "masks/40", "drafts/40", "exports/a/b", "x"])
def test_what_is_not_there(opened: Work, what: str) -> None:
    answer = opened.get(what)
    assert answer.status_code == 404 and set(answer.json()) == {"error", "hint"}


@pytest.mark.parametrize(
    "what", ["frames/-1.jpg", "frames/x.jpg", "masks/1.5", "masks/0?which=other", "frames/0.jpg?w=0"]
)
def test_what_makes_no_sense(opened: Work, what: str) -> None:
    assert opened.get(what).status_code == 400


def test_an_unknown_project(server: Server) -> None:
    assert server.http.get("/api/projects/0123/state").status_code == 404
    assert server.http.post("/api/projects/0123/open").status_code == 404
    assert server.http.get("/api/projects/0123/thumb.jpg").status_code == 404


def test_names_when_listening_for_others() -> None:
    assert own_names("127.0.0.1") == LOOPBACK
    assert own_names("192.168.1.5") == LOOPBACK | {"192.168.1.5"}
    assert own_names("fe80::1") == LOOPBACK | {"[fe80::1]"}
    assert socket.gethostname().lower() in own_names("0.0.0.0") and "evil.example" not in own_names("0.0.0.0")
