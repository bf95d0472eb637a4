"""One writer at a time: a lock the operating system frees when its process dies.

The lock itself is `flock` (package `filelock`) on `writer.lock`. The file `writer.json` beside it only says
who holds it, for the message; it proves nothing, so one left behind by a killed process does no harm.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from stores.errors import SessionLockedError


class WriterLock:
    """The right to write to one session folder.

    Args:
        folder: the session's folder; it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._card = folder / "writer.json"
        # thread_local=False: a session may be opened in one thread and closed in another.
        self._lock = FileLock(folder / "writer.lock", timeout=0, thread_local=False)

    def acquire(self) -> None:
        """Take the lock now or fail; it never waits.

        Raises:
            SessionLockedError: another process (or another `Session` of this one) holds it.
            OSError: the folder cannot be written to.
        """
        try:
            self._lock.acquire()
        except Timeout:
            raise SessionLockedError(
                f"{self._folder} is being written by {self._holder()}",
                hint="wait until it has finished, or stop it and run the command again",
            ) from None
        except NotImplementedError as error:  # what `filelock` says where the system knows no `flock`
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)) from error
        card = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": shlex.join(sys.argv),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            temporary = self._card.with_suffix(".tmp")
            temporary.write_text(json.dumps(card), encoding="utf-8")
            temporary.replace(self._card)
        except OSError:
            self._lock.release()
            raise

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._lock.is_locked:
            with suppress(OSError):  # the card is a courtesy, and the folder may be gone
                self._card.unlink(missing_ok=True)
            self._lock.release()

    def _holder(self) -> str:
        try:
            card = json.loads(self._card.read_text(encoding="utf-8"))
            return f"process {card['pid']} on {card['host']} since {card['since']} ({card['command']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"  # it has the lock and has not signed yet
