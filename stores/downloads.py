"""Fetching one large file over HTTP so that it is either complete and verified under its name, or not there.

Bytes go to `<name>.part` beside the target. After a break the rest is asked for with a Range request, with If-Range
where the server named a version (a strong ETag, else a date), so that two versions are never glued together. Size
and SHA-256 are checked before the file takes its name.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from stores.checkpoints import looks_like_html, sha256
from stores.errors import ModelError, StorageFullError, UsageError
from stores.files import make_folder, read_limited
from stores.json_files import parse_json

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 8 * 2**30  # of a file whose size is not known
BUSY = (408, 425, 429)  # answers besides 5xx after which asking again can help
Report = Callable[[int, int | None], None]  # bytes so far, bytes in all (None: unknown)


@dataclass(frozen=True)
class Patience:
    """How long to try."""

    attempts: int = 4  # failures in a row without a new byte before giving up
    pause: float = 0.5  # seconds before the second attempt, doubled before each further one
    connect: float = 10.0  # seconds to wait for a connection
    read: float = 30.0  # seconds to wait for the next bytes


@dataclass(frozen=True)
class _Version:
    """Which file a `.part` is the beginning of; kept in `.part.json`."""

    url: str
    etag: str = ""
    modified: str = ""
    total: int | None = None

    @property
    def validator(self) -> str:
        """What If-Range may carry: a weak ETag is not allowed there (RFC 9110, 13.1.5)."""
        return self.etag if self.etag.startswith('"') else self.modified


class _TryAgainError(Exception):
    """The connection or the server failed in a way that may pass."""


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    progress: Report | None = None,
    check: Callable[[Path], None] | None = None,
    page: str | None = None,
    patience: Patience = Patience(),  # noqa: B008  frozen
) -> str:
    """Fetch `url` into `path`, going on with what an earlier, broken download left.

    Args:
        sha256, size: of the right file, hexadecimal and in bytes, where known.
        progress: called with the bytes so far and in all.
        check: called with the complete file before it takes its name; raises ModelError to refuse it.
        page: the address for a browser, for hints.

    Returns:
        The file's SHA-256, hexadecimal.

    Raises:
        ModelError: not reachable, refused by the server, a web page instead of a file, wrong size or hash, or
            refused by `check`. The partial file stays, unless it was complete and wrong.
        StorageFullError: it cannot be written. UsageError: not an HTTP address.
    """
    make_folder(path.parent)
    job = _Download(url, path, page or url, sha256, size, progress or (lambda done, total: None), check, patience)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            return job.run()
    except Timeout:
        raise ModelError(f"{path} is being downloaded by another process", hint="wait until it has finished") from None
    except OSError as error:
        raise StorageFullError(f"{path.parent}: cannot be written to: {error.strerror or error}") from error


@dataclass(frozen=True)
class _Download:
    url: str
    path: Path
    page: str
    sha256: str | None
    size: int | None
    progress: Report
    check: Callable[[Path], None] | None
    patience: Patience

    @property
    def part(self) -> Path:
        return self.path.with_name(self.path.name + ".part")

    @property
    def card(self) -> Path:
        return self.path.with_name(self.path.name + ".part.json")

    def run(self) -> str:
        import httpx

        timeout = httpx.Timeout(self.patience.read, connect=self.patience.connect)
        headers = {"Accept-Encoding": "identity", "User-Agent": "mivos"}  # compressed, ranges would mean another thing
        failures, most = 0, self._have()
        with httpx.Client(timeout=timeout, headers=headers, follow_redirects=True) as client:
            while True:
                try:
                    self._attempt(client)
                    return self._finish()
                except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                    hint = "for a file on disk: mivos models import FILE"
                    raise UsageError(f"{self.url}: not an http(s) address: {error}", hint=hint) from error
                except (httpx.TransportError, _TryAgainError) as error:
                    have = self._have()
                    failures, most = (1, have) if have > most else (failures + 1, most)
                    if failures >= self.patience.attempts:
                        raise self._given_up(error, have) from error
                    time.sleep(self.patience.pause * 2 ** (failures - 1))
                except httpx.HTTPError as error:  # too many redirects, an answer that makes no sense
                    raise ModelError(f"{self.url}: {error}", hint=self._by_hand()) from error

    def _have(self) -> int:
        """Bytes of the partial file that can be gone on with."""
        return self.part.stat().st_size if self.part.exists() and self._version() else 0

    def _version(self) -> _Version | None:
        try:
            version = _Version(**parse_json(read_limited(self.card, 2**16, ModelError), self.card, ModelError))
        except (ModelError, TypeError):
            return None
        texts = isinstance(version.etag, str) and isinstance(version.modified, str)
        sound = texts and (version.total is None or type(version.total) is int)
        return version if sound and version.url == self.url else None

    def _attempt(self, client: httpx.Client) -> None:
        """One request; returns when the partial file is complete."""
        have, version = self._have(), self._version()
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and version and version.validator:
            headers["If-Range"] = version.validator
        with client.stream("GET", self.url, headers=headers) as response:
            if response.status_code == 416 and have and version:
                if _range(response)[1] == have and (version.total or have) == have:
                    return
                self._discard()
                raise _TryAgainError("the partial file does not fit the one on the server")
            self._check_status(response)
            chunks = response.iter_raw()
            first = next(chunks, b"")
            self._check_content(response, first)
            now = self._announced(response, version)
            if response.status_code != 206:
                have = 0  # it sends the whole file, because it is another one or because it knows no ranges
            elif not _continues(response, have, version, now):
                self._discard()
                raise _TryAgainError("the file on the server has changed")
            self._check_room(now.total, have)
            self._write(first, chunks, have, now)
        have = self._have()
        if now.total is not None and have != now.total:
            raise _TryAgainError(f"{have} of {now.total} bytes came")

    def _check_status(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in (200, 206):
            return
        answer = f"the server answered {status} {response.reason_phrase}".strip()
        if status >= 500 or status in BUSY:
            raise _TryAgainError(answer)
        raise ModelError(f"{self.url}: {answer}", hint=self._by_hand())

    def _check_content(self, response: httpx.Response, first: bytes) -> None:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "text/html" or looks_like_html(first):
            found = re.search(rb"<title>(.*?)</title>", first, re.IGNORECASE | re.DOTALL)
            title = f" ({found[1].decode('utf-8', 'replace').strip()[:80]})" if found else ""
            raise ModelError(
                f"{self.url}: the server sent a web page{title} instead of the file, maybe a limit on downloads",
                hint=f"save {self.page} from a browser, then: mivos models import FILE",
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise ModelError(f"{self.url}: the server sent the file compressed, unasked", hint=self._by_hand())

    def _announced(self, response: httpx.Response, before: _Version | None) -> _Version:
        """The version that the answer is of; ModelError if it has not the size it should have."""
        length = response.headers.get("Content-Length", "")
        if response.status_code == 206:
            total = _range(response)[1] or (before.total if before else None)
        else:
            total = _count(length)
        if self.size is not None and total is not None and total != self.size:
            raise ModelError(f"{self.url}: has {total} bytes, not {self.size}", hint=self._by_hand())
        headers = response.headers
        return _Version(self.url, headers.get("ETag", ""), headers.get("Last-Modified", ""), total or self.size)

    def _check_room(self, total: int | None, have: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if total is not None and total - have > free:
            raise StorageFullError(
                f"{self.path.parent}: {(total - have) / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free",
                hint="make room, or set MIVOS_MODELS to a folder on another disk",
            )
        if total is not None and total > (self.size or MAX_BYTES):
            raise ModelError(
                f"{self.url}: has {total} bytes, {self.size or MAX_BYTES} are the most", hint=self._by_hand()
            )

    def _write(self, first: bytes, chunks: Iterator[bytes], have: int, version: _Version) -> None:
        try:
            with open(self.part, "ab" if have else "wb") as file:
                if not have:  # only now, when no bytes of another version are left
                    self.card.write_text(json.dumps(asdict(version)), encoding="utf-8")
                chunk: bytes | None = first
                while chunk is not None:
                    file.write(chunk)
                    have += len(chunk)
                    if have > (self.size or MAX_BYTES):  # a server that never ends
                        self._discard()
                        raise ModelError(
                            f"{self.url}: sends more than {self.size or MAX_BYTES} bytes", hint=self._by_hand()
                        )
                    self.progress(have, version.total)
                    chunk = next(chunks, None)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise StorageFullError(
                f"{self.part}: cannot be written: {error.strerror or error}",
                hint="make room and run the command again, it goes on from there" if full else "check the folder",
            ) from error

    def _finish(self) -> str:
        """Verify the complete partial file and give it its name."""
        have = self.part.stat().st_size
        if self.size is not None and have != self.size:
            self._discard()
            raise ModelError(f"{self.url}: {have} bytes came, not {self.size}", hint=self._by_hand())
        digest = sha256(self.part)
        if self.sha256 is not None and digest != self.sha256.lower():
            self._discard()
            raise ModelError(
                f"{self.url}: wrong SHA-256 {digest}, expected {self.sha256.lower()}; the file was deleted",
                hint="run the command again; if it stays, the file on the server is not the published one",
            )
        try:
            if self.check is not None:
                self.check(self.part)
        except ModelError:
            self._discard()
            raise
        os.replace(self.part, self.path)
        self.card.unlink(missing_ok=True)
        return digest

    def _discard(self) -> None:
        for path in (self.part, self.card):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _given_up(self, error: Exception, have: int) -> ModelError:
        import httpx

        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and not have:
            return ModelError(f"{self.url} cannot be reached ({reason})", hint=f"offline? {self._by_hand()}")
        hint = f"{have} bytes are kept; run the command again to go on" if have else self._by_hand()
        return ModelError(f"{self.url}: the download failed ({reason})", hint=hint)

    def _by_hand(self) -> str:
        return f"fetch {self.page} on another machine or in a browser, then: mivos models import FILE"


def _range(response: httpx.Response) -> tuple[int | None, int | None]:
    """First byte and size of the whole from Content-Range (`bytes 5-9/10`, `bytes */10`); None where unknown."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if found is None:
        return None, None
    start, total = found.groups()
    return _count(start or ""), _count(total)


def _count(text: str) -> int | None:
    """A number of bytes in a header; None if it is none, or longer than any file."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _continues(response: httpx.Response, have: int, before: _Version | None, now: _Version) -> bool:
    """Whether a 206 answer is the rest of what we have: some servers ignore If-Range."""
    if before is None:
        return have == 0 and _range(response)[0] == 0
    same = all(not a or not b or a == b for a, b in ((before.etag, now.etag), (before.total, now.total)))
    return same and _range(response)[0] == have
