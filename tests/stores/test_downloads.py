"""Downloads from a real server that breaks off, lies, changes its mind or is not there."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stores.downloads import Patience, download
from stores.errors import ModelError, StorageFullError, UsageError
from tests.stores.web import Site, serve

CONTENT = os.urandom(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(attempts=3, pause=0.01, connect=2.0, read=2.0)
ONCE = Patience(attempts=1, pause=0.01, connect=2.0, read=2.0)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as served:
        served.files["net.pth"] = CONTENT
        yield served


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "net.pth"


def left(target: Path) -> set[str]:
    """Names beside the target, without the lock."""
    return {path.name for path in target.parent.iterdir() if path.suffix != ".lock"}


def test_a_whole_file(site: Site, target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    url = f"{site.url}/net.pth"
    digest = download(url, target, sha256=DIGEST.upper(), size=len(CONTENT), progress=lambda *p: seen.append(p))
    assert digest == DIGEST and target.read_bytes() == CONTENT
    assert left(target) == {"net.pth"}
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and seen == sorted(seen)


def test_a_break_is_gone_on_with_in_the_same_run(site: Site, target: Path) -> None:
    site.script = ["cut 100000", "cut 50000", "status 503", "serve"]
    assert download(f"{site.url}/net.pth", target, sha256=DIGEST, patience=QUICK) == DIGEST
    assert [request.get("range") for request in site.requests] == [None, *["bytes=100000-"], *["bytes=150000-"] * 2]
    assert site.requests[1]["if-range"] == '"v1"'


def test_a_break_is_gone_on_with_by_the_next_run(site: Site, target: Path) -> None:
    site.script = ["cut 100000"]
    with pytest.raises(ModelError, match="download failed") as failure:
        download(f"{site.url}/net.pth", target, patience=ONCE)
    assert "100000 bytes are kept" in (failure.value.hint or "")
    assert (target.parent / "net.pth.part").read_bytes() == CONTENT[:100_000] and not target.exists()
    assert download(f"{site.url}/net.pth", target) == DIGEST
    assert site.requests[-1]["range"] == "bytes=100000-"


def test_a_part_that_is_complete_is_only_verified(site: Site, target: Path) -> None:
    site.script = ["cut 100000"]
    with pytest.raises(ModelError):
        download(f"{site.url}/net.pth", target, patience=ONCE)
    (target.parent / "net.pth.part").write_bytes(CONTENT)
    assert download(f"{site.url}/net.pth", target, patience=ONCE) == DIGEST


def test_a_part_of_unknown_origin_is_not_built_on(site: Site, target: Path) -> None:
    target.parent.mkdir()
    (target.parent / "net.pth.part").write_bytes(b"something else")
    assert download(f"{site.url}/net.pth", target) == DIGEST
    assert "range" not in site.requests[0]


def test_a_server_that_ignores_ranges_starts_over(site: Site, target: Path) -> None:
    site.script = ["cut 100000", "whole"]
    assert download(f"{site.url}/net.pth", target, patience=QUICK) == DIGEST
    assert target.read_bytes() == CONTENT


def test_one_that_ignores_ranges_and_always_breaks_is_given_up(site: Site, target: Path) -> None:
    site.script = ["cut 100000"] + ["whole", "cut 0"] * 20
    site.claim = len(CONTENT) + 1
    with pytest.raises(ModelError, match="download failed"):
        download(f"{site.url}/net.pth", target, patience=QUICK)
    assert len(site.requests) < 10


@pytest.mark.parametrize("word", ["serve", "glue"])
def test_a_changed_file_is_never_glued_to_the_old_one(site: Site, target: Path, word: str) -> None:
    site.script = ["cut 100000"]
    with pytest.raises(ModelError):
        download(f"{site.url}/net.pth", target, patience=ONCE)
    site.files["net.pth"], site.etag, site.script = CONTENT[::-1], '"v2"', [word]
    download(f"{site.url}/net.pth", target, patience=QUICK)
    assert target.read_bytes() == CONTENT[::-1]


def test_without_versions_a_changed_size_is_noticed(site: Site, target: Path) -> None:
    site.etag, site.script = "", ["cut 100000"]
    with pytest.raises(ModelError):
        download(f"{site.url}/net.pth", target, patience=ONCE)
    site.files["net.pth"] = CONTENT[::-1] + b"more"
    download(f"{site.url}/net.pth", target, patience=QUICK)
    assert "if-range" not in site.requests[1]
    assert target.read_bytes() == CONTENT[::-1] + b"more"


def test_a_wrong_hash_deletes_the_file(site: Site, target: Path) -> None:
    with pytest.raises(ModelError, match="wrong SHA-256"):
        download(f"{site.url}/net.pth", target, sha256="0" * 64)
    assert left(target) == set()


def test_a_wrong_size_is_refused_before_the_body(site: Site, target: Path) -> None:
    with pytest.raises(ModelError, match="has 300000 bytes, not 5"):
        download(f"{site.url}/net.pth", target, size=5)
    assert left(target) == set()


def test_a_refused_content_deletes_the_file(site: Site, target: Path) -> None:
    def refuse(path: Path) -> None:
        assert path.read_bytes() == CONTENT and not target.exists()
        raise ModelError("not the one")

    with pytest.raises(ModelError, match="not the one"):
        download(f"{site.url}/net.pth", target, check=refuse)
    assert left(target) == set()


def test_server_errors_are_tried_again(site: Site, target: Path) -> None:
    site.script = ["status 500", "status 503"]
    assert download(f"{site.url}/net.pth", target, patience=QUICK) == DIGEST


def test_lasting_server_errors_end(site: Site, target: Path) -> None:
    site.script = ["status 500"] * 9
    with pytest.raises(ModelError, match="500"):
        download(f"{site.url}/net.pth", target, patience=QUICK)
    assert len(site.requests) == QUICK.attempts


def test_a_missing_file_is_not_tried_again(site: Site, target: Path) -> None:
    with pytest.raises(ModelError, match="404"):
        download(f"{site.url}/other.pth", target, patience=QUICK)
    assert len(site.requests) == 1


def test_a_web_page_is_refused_and_leaves_the_part(site: Site, target: Path) -> None:
    site.script = ["cut 100000"]
    with pytest.raises(ModelError):
        download(f"{site.url}/net.pth", target, patience=ONCE)
    site.script = ["html"]
    with pytest.raises(ModelError, match=r"web page \(Quota exceeded\)") as failure:
        download(f"{site.url}/net.pth", target, page="https://example.org/view")
    assert "https://example.org/view" in (failure.value.hint or "")
    assert (target.parent / "net.pth.part").stat().st_size == 100_000


def test_a_page_under_another_type_is_recognised(site: Site, target: Path) -> None:
    site.files["net.pth"] = b"\n<html><body>sign in</body></html>"
    with pytest.raises(ModelError, match="web page"):
        download(f"{site.url}/net.pth", target)


def test_offline(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{free.getsockname()[1]}/net.pth"
        with pytest.raises(ModelError, match="cannot be reached") as failure:
            download(url, target, patience=QUICK, page="https://example.org/view")
    assert url in str(failure.value)
    hint = failure.value.hint or ""
    assert "https://example.org/view" in hint and "mivos models import" in hint


@pytest.mark.parametrize("url", ["ftp://example.org/net.pth", "/folder/net.pth", "http://127.0.0.1:port/net.pth"])
def test_no_http_address(target: Path, url: str) -> None:
    with pytest.raises(UsageError, match="not an http"):
        download(url, target)


def test_no_room_is_noticed_before_the_body(site: Site, target: Path) -> None:
    site.claim = 10**17
    with pytest.raises(StorageFullError, match="MB are needed"):
        download(f"{site.url}/net.pth", target)
    assert left(target) == set()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(site: Site, target: Path) -> None:
    target.parent.mkdir()
    (target.parent / "net.pth.part").symlink_to("/dev/full")
    with pytest.raises(StorageFullError, match="cannot be written") as failure:
        download(f"{site.url}/net.pth", target)
    assert "make room" in (failure.value.hint or "")
    assert not target.exists()
