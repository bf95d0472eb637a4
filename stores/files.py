"""Small file helpers shared by the readers and writers in this package."""

from __future__ import annotations

import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from stores.durable import sync_names
from stores.errors import DatasetError, InputError, MivosError, StorageFullError

TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.tmp")
MAX_NAME_BYTES = 200  # of a name that becomes a file's; file systems take 255, and a suffix must fit


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when complete.

    The bytes go to a hidden temporary file in the same folder, which replaces `path` on a clean exit and is
    removed on any other, Ctrl-C included. The folder must exist. A killed process leaves the temporary file, see
    `remove_abandoned`.

    Args:
        durable: on the disk when the block ends, so that a loss of power leaves either file whole. Off for files of
            which many are written, and synced together or made anew.

    Raises:
        StorageFullError: nothing can be written there (disk full, no permission, no such folder).
    """
    # Not `tempfile`: its files are readable by the owner only, whatever the umask says.
    temporary = path.parent / f".{secrets.token_hex(6)}.tmp"
    try:
        with open(temporary, "xb") as file:
            with suppress(OSError):  # network file systems without locks
                _claim(file)
            yield file
            if durable and not file.closed:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            sync_names(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageFullError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files of `atomic_file` whose process was killed; those in use stay."""
    for path in folder.glob(".*.tmp"):
        if TEMPORARY.fullmatch(path.name):
            with suppress(OSError), open(path, "rb") as file:
                _claim(file)
                path.unlink()  # Windows refuses what another process has open


def _claim(file: BinaryIO) -> None:
    """Lock a file for as long as it is open; OSError: another process has it. The system unlocks for the dead."""
    with suppress(ImportError):  # Windows
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def open_regular(path: Path, error: type[MivosError]) -> BufferedReader:
    """Open a file for reading, to be closed by the caller. Devices and pipes are refused: they may never end.

    Raises:
        error: it is missing, not readable, a folder, a device or a pipe; one line that names the file.
    """
    try:
        # Opening a pipe waits for its writer, unless told not to.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
    except (OSError, ValueError) as reason:  # ValueError: a name that no file can have
        problem = getattr(reason, "strerror", None) or reason
        raise error(f"{path}: cannot be read: {problem}", hint="check path and permissions") from reason
    what = "Is a directory" if stat.S_ISDIR(mode) else "it is a device or a pipe, not a file"
    raise error(f"{path}: cannot be read: {what}", hint="give the path of a file on disk")


def read_limited(path: Path, limit: int, error: type[MivosError]) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Raises:
        error: it is missing, not readable, a folder, a device, or larger than `limit`; one line that names the file.
    """
    with open_regular(path, error) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            # Python reserves as much memory as is asked for, so not `limit`.
            data = file.read(size + 1) if size <= limit else None
        except OSError as reason:
            raise error(f"{path}: cannot be read: {reason.strerror or reason}") from reason
        except MemoryError as reason:
            raise error(f"{path}: needs more memory than there is", hint="split it") from reason
    if data is None or len(data) > limit:
        raise error(f"{path}: is larger than {limit // 2**20} MB", hint="split it, or check that it is the right file")
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


def check_name(name: str, what: str, error: type[MivosError] = DatasetError) -> None:
    """Refuse names that could lead to another folder, or be no file's name, when they become part of a path.

    Raises:
        error: the name is empty or longer than `MAX_NAME_BYTES`, has a separator or a control character, or begins
            with a dot.
    """
    try:
        fits = len(os.fsencode(name)) <= MAX_NAME_BYTES
    except ValueError:  # half a surrogate pair
        fits = False
    plain = fits and name and name[0] != "." and name == name.strip()
    if not plain or any(c in "/\\" or unicodedata.category(c) == "Cc" for c in name):
        raise error(f"{what}: {name[:60]!r} is not a plain name")
