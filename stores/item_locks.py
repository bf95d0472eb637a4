"""Locks of single items in an output that several processes fill: sequences, videos, samples, small records.

As in `stores.locking` the operating system frees them when their process dies; a lock file that stays means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from stores.errors import SessionLockedError, StorageFullError
from stores.files import make_folder

PATIENCE = 60.0  # seconds for something that takes milliseconds


@contextmanager
def item_lock(file: Path, what: str) -> Iterator[None]:
    """The right to make one item, taken now or not at all.

    Args:
        file: the lock; its folder is made. what: is made, for the message.

    Raises:
        SessionLockedError: another process makes it. StorageFullError: nothing can be written there.
    """
    with _held(file, 0.0, f"{what} is being written by another process"):
        yield


@contextmanager
def record_lock(file: Path) -> Iterator[None]:
    """The right to read and change a small record; waits for others.

    Raises:
        SessionLockedError: it was not free for a minute. StorageFullError: nothing can be written there.
    """
    with _held(file, PATIENCE, f"{file}: another process holds it"):
        yield


@contextmanager
def _held(file: Path, seconds: float, message: str) -> Iterator[None]:
    make_folder(file.parent)
    lock = FileLock(file, timeout=seconds, thread_local=False)
    try:
        lock.acquire(poll_interval=0.02)
    except Timeout:
        raise SessionLockedError(message, hint="wait until it has finished, and run the command again") from None
    except OSError as error:
        raise StorageFullError(f"{file}: cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
