"""On the disk rather than in the system's memory: what a pulled plug leaves.

`os.replace` makes a file appear whole to other processes; after a loss of power it may still be empty, because the
system writes data and names in an order of its own. A change is safe once it was synced, and what names it may only
be written after that.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def _find_syncfs() -> Any:
    """Linux' `syncfs`; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None


_SYNCFS = _find_syncfs()


def sync_folder(folder: Path) -> None:
    """Returns when everything written below a folder so far is on the disk.

    On Linux its whole file system is synced, which takes as long as others' unwritten data there need, too; on other
    systems all disks, or each file.

    Raises:
        OSError: the disk failed or is full, so that what was written may be lost.
    """
    if _SYNCFS is not None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            if _SYNCFS(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(folder))
        finally:
            os.close(descriptor)
    elif hasattr(os, "sync"):
        os.sync()
    else:
        for path in folder.rglob("*"):
            # A file that went away meanwhile needs no sync; opened for writing, as Windows wants it.
            with suppress(FileNotFoundError, PermissionError, IsADirectoryError), open(path, "rb+") as file:
                os.fsync(file.fileno())


def sync_names(folder: Path) -> None:
    """Returns when the names in a folder are on the disk; does nothing where folders cannot be synced."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # some network file systems refuse
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
