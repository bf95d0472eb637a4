"""Removing what no branch of a session needs: dropped checkpoints, rounds that were undone and replaced.

The order of commits is never changed, so `undo` and `redo` lead where they led before.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import icechunk

from stores.repository import open_repository, store_errors

READERS = timedelta(minutes=15)  # a process may go on reading what was dropped since
MANY_SNAPSHOTS = 64  # unneeded ones; fewer are not worth looking through all chunks after a round


@dataclass(frozen=True)
class CompactReport:
    """Bytes of a session's repository before and after, and the files that went."""

    bytes_before: int
    bytes_after: int
    chunks: int
    manifests: int
    snapshots: int
    frames: int

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write."""
        return {**asdict(self), "bytes_per_1000_frames": self.bytes_per_1000_frames}

    @property
    def bytes_per_1000_frames(self) -> int:
        """Bytes after, for each thousand frames of the video; 0 without frames."""
        return round(1000 * self.bytes_after / self.frames) if self.frames else 0


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; one that goes away meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def collect(repository: icechunk.Repository, keep: timedelta) -> icechunk.GCSummary:
    """Delete what no branch reaches and is older than `keep`. Only for the holder of the writer lock, between commits.

    Raises:
        icechunk.IcechunkError: something cannot be read; nothing that a branch reaches was deleted.
    """
    # Files that a clock set back has left in the future are as unneeded as the others.
    before = datetime.now(UTC) - keep if keep else datetime.now(UTC) + timedelta(days=36_500)
    return repository.garbage_collect(before)


def collect_after_round(folder: Path, repository: icechunk.Repository, branches: Iterable[str] = ("main",)) -> None:
    """`collect`, where a round has left many checkpoints behind."""
    needed = {info.id for branch in branches for info in repository.ancestry(branch=branch)}
    if len(os.listdir(folder / "snapshots")) - len(needed) > MANY_SNAPSHOTS:
        collect(repository, READERS)


def compact_session(path: Path, *, now: bool = False) -> CompactReport:
    """Delete everything that no branch reaches; `undo` and `redo` stay.

    Args:
        now: also what was dropped within the last 15 minutes, which other processes may still be reading.

    Raises:
        SessionNotFoundError: there is none. SessionLockedError: another process writes to it.
        StoreError: it is damaged; nothing was deleted.
    """
    from stores.session import REPOSITORY, Session  # which collects, too

    path = Path(path)
    with Session.open(path, write=True) as session, store_errors(path, "remove what is not needed"):
        folder = path / REPOSITORY
        before, repository = folder_bytes(folder), open_repository(folder)
        summary = collect(repository, timedelta(0) if now else READERS)
        return CompactReport(
            before, folder_bytes(folder), summary.chunks_deleted, summary.manifests_deleted,
            summary.snapshots_deleted, session.num_frames,
        )  # fmt: skip
