"""What a writer has changed since a commit, and how it becomes a snapshot.

Icechunk ends a session with each of its commits, and chains them: an hour of checkpoints would stay in the history
for good. Here changes are gathered in a fork, of which a copy is written each time. All checkpoints of a round, and
the round, are children of the commit it began at; those that are replaced can be collected as garbage.
"""

from __future__ import annotations

import pickle
import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import icechunk

from stores.arrays import Tree
from stores.errors import StoreError
from stores.history import Timeline
from stores.snapshots import edit_snapshot

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Transaction:
    """Changes since one commit. Forgetting it forgets them.

    Args:
        timeline: of the repository.
        commit: where to start.

    Attributes:
        base: that commit.
        tree: to read and write with; `snapshot` leaves it usable.
    """

    def __init__(self, timeline: Timeline, commit: str) -> None:
        self.base = commit
        self._timeline = timeline
        self._changes = timeline.repository.writable_session(timeline.base_branch(commit)).fork()
        self.tree = Tree(self._changes)

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return self.tree.changed or bool(self._changes.has_uncommitted_changes)

    def snapshot(self, message: str, metadata: dict[str, Any]) -> str:
        """Write all changes since `base` as a snapshot that no branch knows yet; returns its id.

        Raises:
            OSError, icechunk.IcechunkError: see `stores.repository.store_errors`.
        """
        self.tree.flush()
        if let_follow(self._timeline.folder, self._timeline.repository, self.base):
            self._timeline.reopen()  # it remembers the base as it was before
        target = self._timeline.repository.writable_session(self._timeline.base_branch(self.base))
        # A copy, because merging takes the changes away.
        target.merge(pickle.loads(pickle.dumps(self._changes)))
        return target.flush(message, metadata)


def let_follow(folder: Path, repository: icechunk.Repository, commit: str) -> bool:
    """See to it that a new snapshot may follow `commit` although the clock was set back; True if that changed a file.

    Icechunk refuses snapshots that are older than their parent, which would make a session unusable until the clock
    has caught up. The parent's time is what gives way: it is only shown, the order of commits is that of their links.

    Raises:
        StoreError: the time is not where it is expected in the parent's file.
    """
    written = repository.lookup_snapshot(commit).written_at
    behind = (written - datetime.now(UTC)).total_seconds()
    if behind < 0:
        return False
    if behind < 1:  # clocks are corrected by such steps
        time.sleep(behind + 0.01)
        return False
    if not edit_snapshot(folder, commit, time_bytes(written), time_bytes(datetime.now(UTC) - timedelta(seconds=1))):
        raise StoreError(
            f"{folder.parent}: the clock of this machine is {behind:.0f} s behind the last commit",
            hint="set the clock right",
        )
    return True


def time_bytes(when: datetime) -> bytes:
    """How a snapshot's file holds its time: microseconds since 1970."""
    passed = when - EPOCH
    return struct.pack("<Q", (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds)
