"""Small file helpers shared by the readers and writers in this package."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stores.errors import DatasetError, InputError, MivosError, StorageFullError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when complete.

    The bytes go to a hidden temporary file in the same folder, which replaces `path` on a clean exit and is
    removed on any other, Ctrl-C included. The folder must exist.

    Raises:
        StorageFullError: nothing can be written there (disk full, no permission, no such folder).
    """
    # Not `tempfile`: its files are readable by the owner only, whatever the umask says.
    temporary = path.parent / f".{secrets.token_hex(6)}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageFullError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise


def read_limited(path: Path, limit: int, error: type[MivosError]) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Raises:
        error: it is missing, not readable, a folder, or larger than `limit`; one line that names the file.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1) if os.fstat(file.fileno()).st_size <= limit else None
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror or reason}") from reason
    if data is None or len(data) > limit:
        raise error(f"{path}: is larger than {limit // 2**20} MB")
    return data


def make_folder(path: Path) -> None:
    """Make a folder with its parents; one that exists is fine.

    Raises:
        StorageFullError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFullError(f"{path}: cannot be made: {error.strerror or error}") from error


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `img2` comes before `img10`."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((1, int(p), "") if i % 2 else (0, 0, p) for i, p in enumerate(parts))


def list_files(folder: Path, suffixes: Collection[str], error: type[InputError]) -> list[Path]:
    """Return the visible files of a folder with one of the (lower-case) suffixes, in natural order.

    Raises:
        error: the folder is missing or not readable.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as reason:
        raise error(f"{folder}: cannot be read: {reason.strerror or reason}") from reason
    paths = [folder / name for name in sorted(names, key=natural_key)]
    return [p for p in paths if p.suffix.lower() in suffixes and p.is_file()]


def list_folders(folder: Path, error: type[InputError]) -> list[str]:
    """Return the names of the visible folders in a folder, in natural order.

    Raises:
        error: the folder is missing or not readable.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."]
    except OSError as reason:
        raise error(f"{folder}: cannot be read: {reason.strerror or reason}") from reason
    return sorted(names, key=natural_key)


def check_name(name: str, what: str) -> None:
    """Refuse names that could lead to another folder when they become part of a path.

    Raises:
        DatasetError: the name is empty, has a separator, or begins with a dot.
    """
    if not name or name[0] == "." or any(c in name for c in "/\\\0") or name != name.strip():
        raise DatasetError(f"{what}: {name[:60]!r} is not a plain name")
