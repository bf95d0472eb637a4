"""A session: one video's frames, masks, probabilities and history, on disk, changed only in whole commits.

::

    SESSION/session.icechunk/    the repository; zarr reads it through icechunk
    SESSION/writer.lock          held while a process writes
    SESSION/writer.json          who that is
    SESSION/damaged/             files that a repair put aside

Any number of readers see the last commit as it was when they opened the session; they neither lock nor wait.
One writer changes things, and a process that is killed, or a loss of power, leaves the last commit, plus the last
checkpoint of the round it was in. See `stores.history` for how rounds become commits, `stores.arrays` for the arrays.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import icechunk

from stores import arrays
from stores.compacting import collect_after_round
from stores.errors import OutputExistsError, SessionNotFoundError, StorageFullError, StoreError
from stores.history import MAIN, WORK, HistoryEntry, RoundRecord, Timeline
from stores.locking import WriterLock
from stores.pictures import CODINGS, EXACT
from stores.repository import VERSION, build_repository, first_line, store_errors
from stores.results import SessionResults
from stores.source import SourceInfo
from stores.transactions import Transaction

__all__ = ["HistoryEntry", "RoundRecord", "Session"]

REPOSITORY = "session.icechunk"
log = logging.getLogger("mivos")


class Session(SessionResults):
    """A session opened by `Session.create` or `Session.open`; a context manager.

    Closing forgets what was neither committed nor checkpointed; the last checkpoint of a round in progress stays.
    """

    link_checkpoints = 32  # after so many the next ones follow the last: each writes the list of chunks since its base

    def __init__(self, path: Path, lock: WriterLock | None) -> None:
        """Private: use `create` or `open`."""
        self.path = path
        self._lock = lock
        self._tree: arrays.Tree | None = None
        self._commit_id = ""
        self._transaction: Transaction | None = None  # of a writer
        self._checkpoints = 0  # written since the transaction began
        self._number: int | None = None
        with store_errors(path, "open the session"):
            self._timeline = Timeline(path / REPOSITORY)
            if lock is not None:
                self._timeline.recover()
            self._switch(MAIN)
            if (version := self._reading().state["version"]) > VERSION:
                raise StoreError(f"{path}: a newer mivos made it (version {version})", hint="install a newer mivos")

    # ---- opening and closing

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether there is a session at `path`, damaged or not."""
        return (Path(path) / REPOSITORY).is_dir()

    @classmethod
    def create(
        cls, path: Path, source: SourceInfo, *, height: int, width: int, prob_bits: int = 8,
        border: tuple[int, int, int, int] = (0, 0, 0, 0), frames: str = EXACT,
    ) -> Session:  # fmt: skip
        """Make a new session without frames and open it for writing.

        Args:
            path: its folder, made if missing.
            source: what will be decoded.
            height, width: working size in pixels.
            prob_bits: 8 or 16 bits per stored probability.
            border: pixels left, right, above and below a frame that results cover, too.
            frames: how they are kept, "exact" or "jpeg".

        Raises:
            OutputExistsError: there is a session already.
            SessionLockedError: another process is making one right now.
            StorageFullError: the folder cannot be made or written to.
            ValueError: `prob_bits` is neither 8 nor 16, or `frames` is unknown.
        """
        if prob_bits not in (8, 16):
            raise ValueError(f"prob_bits is {prob_bits}, not 8 or 16")
        if frames not in CODINGS:
            raise ValueError(f"frames are kept as one of {', '.join(CODINGS)}, not {frames}")
        path = Path(path)
        with store_errors(path, "create a session"):
            path.mkdir(parents=True, exist_ok=True)
        lock = cls._locked(path)
        try:
            if cls.exists(path):
                raise OutputExistsError(f"{path} already holds a session", hint="choose another folder")
            with store_errors(path, "create a session"):
                build_repository(path / REPOSITORY, source.to_json(), height, width, prob_bits, border, frames)
            return cls(path, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Session:
        """Open a session.

        Raises:
            SessionNotFoundError: there is none at `path`.
            SessionLockedError: `write` was asked for while another process is writing.
            StorageFullError: `write` was asked for and the folder is not writable.
            StoreError: it is damaged, or was written by a newer version.
        """
        path = Path(path)
        if not cls.exists(path):
            what = "is not a session" if path.exists() else "does not exist"
            raise SessionNotFoundError(f"{path} {what}", hint="make one with `mivos segment`")
        lock = cls._locked(path) if write else None
        try:
            return cls(path, lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    @staticmethod
    def _locked(path: Path) -> WriterLock:
        lock = WriterLock(path)
        with store_errors(path, "open the session for writing"):
            lock.acquire()
        return lock

    def close(self) -> None:
        """Give the lock back; uncommitted changes are forgotten. May be called twice."""
        self._tree = self._transaction = self._number = None
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def refresh(self, commit: str | None = None) -> None:
        """Let a reader see what has been committed since, or an earlier commit. Does nothing for a writer."""
        if self._lock is None:
            with store_errors(self.path, "read the session"):
                self._switch(MAIN, commit)

    # ---- rounds

    def begin_round(self) -> None:
        """Start the next round from the last commit; checkpoints of an abandoned round are dropped.

        Raises:
            StoreError: read-only, not decoded, in a round, or with uncommitted changes.
        """
        self._require_clean("begin a round")
        if not self.decoded:
            raise StoreError(f"{self.path}: the video is not decoded yet", hint="run `mivos decode` again")
        number = len(self.rounds) + 1
        with store_errors(self.path, "begin a round"):
            self._timeline.start_work()
            self._switch(MAIN)
        self._number = number

    def checkpoint(self, progress: dict[str, Any]) -> None:
        """Make what the round has written so far survive the process; `resume_round` returns `progress`."""
        tree = self._writing(in_round=True)
        tree.state["checkpoint"] += 1  # icechunk refuses commits without a change
        commit = self._snapshot(f"round {self._number} in progress", {"kind": "checkpoint", "progress": progress})
        with store_errors(self.path, "keep a checkpoint"):
            self._timeline.move_work(commit)
            self._checkpoints += 1
            if self._checkpoints >= self.link_checkpoints:
                self._switch(WORK)

    def unfinished(self) -> dict[str, Any] | None:
        """Progress of the last checkpoint of a round begun from the last commit and not committed."""
        self._reading()
        try:
            return self._timeline.unfinished()
        except (icechunk.IcechunkError, RuntimeError, ValueError, KeyError) as error:
            log.warning("%s: the round in progress cannot be read and is left out: %s", self.path, first_line(error))
            return None

    def resume_round(self) -> dict[str, Any] | None:
        """Go on with the round at its last checkpoint, and return its progress; None if there is none."""
        self._require_clean("resume a round")
        if (progress := self.unfinished()) is None:
            return None
        try:
            with store_errors(self.path, "resume a round"):
                self._switch(WORK)
            self._number = len(self.rounds) + 1
        except StorageFullError:
            raise
        except StoreError as error:
            log.warning("the round in progress is dropped: %s", error)
            self._number = None
            with store_errors(self.path, "drop the round in progress"):
                self._switch(MAIN)
                self._timeline.drop_work()
            return None
        return progress

    def suspend(self) -> None:
        """Forget what the round in progress wrote since its last checkpoint, and leave it there for `resume_round`."""
        self._writing()
        with store_errors(self.path, "leave the round"):
            self._switch(MAIN)
        self._number = None

    def commit_round(self, record: RoundRecord) -> str:
        """Append the round to the log and publish everything it wrote in one commit; returns the commit's id.

        Raises:
            ValueError: `record.number` is not the number of the round in progress.
        """
        tree = self._writing(in_round=True)
        if record.number != self._number:
            raise ValueError(f"record of round {record.number}, but round {self._number} is in progress")
        tree.state["checkpoint"] = 0
        with store_errors(self.path, "store the round"):
            tree.append_round(record.to_json())
        commit = self._publish(record.message(), record.facts())
        self._number = None
        self._tidy()
        return commit

    def rollback(self) -> None:
        """Forget uncommitted changes and the round in progress, its checkpoints included."""
        self._writing()
        with store_errors(self.path, "roll back"):
            if self._number is not None:
                self._timeline.drop_work()
            self._switch(MAIN)
        self._number = None

    # ---- other commits and history

    def commit(self, message: str, **facts: Any) -> str:
        """Commit changes made outside a round; returns the commit's id, the present one if nothing changed.

        Args:
            message: one line.
            facts: JSON values to keep with the commit; `kind` names the sort of change.
        """
        self._writing()
        if self._number is not None:
            raise StoreError(f"{self.path}: round {self._number} is in progress, use commit_round")
        if facts.get("kind") in ("round", "checkpoint"):
            raise ValueError(f"kind {facts['kind']!r} is reserved")
        if not self._changed():
            return self.commit_id
        return self._publish(message, {"kind": "change", **facts})

    @property
    def commit_id(self) -> str:
        """The commit that this session looks at, or started its transaction from."""
        self._reading()
        return self._commit_id

    def history(self) -> list[HistoryEntry]:
        """Commits, oldest first, then the undone ones that `redo` can bring back."""
        self._reading()
        with store_errors(self.path, "read the history"):
            return self._timeline.history()

    def undo(self) -> HistoryEntry:
        """Go back to before the last round (and what was changed after it); returns that round.

        Raises:
            UsageError: there is no round to undo.
        """
        self._require_clean("undo")
        with store_errors(self.path, "undo"):
            entry = self._timeline.undo()
            self._switch(MAIN)
        return entry

    def redo(self) -> HistoryEntry:
        """Bring the next undone round back; returns it.

        Raises:
            UsageError: nothing is undone.
        """
        self._require_clean("redo")
        with store_errors(self.path, "redo"):
            entry = self._timeline.redo()
            self._switch(MAIN)
        return entry

    # ---- the current snapshot or transaction

    @property
    def _round(self) -> int | None:
        return self._number

    def _reading(self) -> arrays.Tree:
        if self._tree is None:
            raise StoreError(f"{self.path}: the session is closed")
        return self._tree

    def _writing(self, *, in_round: bool = False) -> arrays.Tree:
        tree = self._reading()
        if self._lock is None:
            raise StoreError(f"{self.path}: the session was opened for reading")
        if in_round and self._number is None:
            raise StoreError(f"{self.path}: no round was begun")
        return tree

    def _changed(self) -> bool:
        return self._transaction is not None and self._transaction.changed

    def _require_clean(self, doing: str) -> None:
        self._writing()
        if self._number is not None or self._changed():
            what = "a round is in progress" if self._number is not None else "there are uncommitted changes"
            raise StoreError(f"{self.path}: cannot {doing}: {what}", hint="commit or roll back first")

    def _switch(self, branch: str, commit: str | None = None) -> None:
        """Look at the tip of a branch (a reader: or at a commit), forgetting all uncommitted changes."""
        self._commit_id = commit or self._timeline.repository.lookup_branch(branch)
        self._checkpoints = 0
        if self._lock is not None:
            self._transaction = Transaction(self._timeline, self._commit_id)
            self._tree = self._transaction.tree
        else:
            self._tree = arrays.Tree(self._timeline.repository.readonly_session(snapshot_id=self._commit_id))

    def _snapshot(self, message: str, metadata: dict[str, Any]) -> str:
        assert self._transaction is not None
        with store_errors(self.path, "commit"):
            return self._transaction.snapshot(message, metadata)

    def _publish(self, message: str, metadata: dict[str, Any]) -> str:
        """Commit all changes to `main`."""
        commit = self._snapshot(message, metadata)
        with store_errors(self.path, "publish the commit"):
            self._timeline.advance(commit)
            self._switch(MAIN)
        return commit

    def _tidy(self) -> None:
        """Collect dropped checkpoints where there are many; that it fails is no reason to fail."""
        try:
            collect_after_round(self.path / REPOSITORY, self._timeline.repository)
        except (icechunk.IcechunkError, RuntimeError, OSError) as error:
            log.warning("%s: what is no longer needed could not be removed: %s", self.path, first_line(error))
