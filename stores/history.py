"""Rounds as commits: what is recorded about each, and how the branches move.

::

    main    created -- decode ... -- decoded -- round 1 -- round 2      what every reader sees
    kept                                                      ^         the last place of `main` known to be on disk
    work                                                      |-- checkpoint            the round in progress
    redo                                                      `-- round 3               undone rounds

A commit is a snapshot that is synced to the disk before `main` moves to it. Checkpoints replace each other, so
`work` stays short (see `stores.transactions`). `undo` moves `main` back and keeps the tip on `redo`; a new commit on
`main` drops `redo`. A branch that no longer continues `main` is stale and ignored, so a process killed between two
of these steps leaves nothing half done.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import icechunk

from stores.durable import sync_folder
from stores.errors import UsageError
from stores.repository import first_line, open_repository
from stores.snapshots import ref_file

MAIN, WORK, REDO, KEPT = "main", "work", "redo", "kept"
BASE = "base"  # where the transaction of a resumed round starts; see `stores.transactions`
HIDDEN = frozenset({"decode", "checkpoint"})  # kinds of commits that are steps towards one that matters
log = logging.getLogger("mivos")
STEPS = frozenset({"round", "deletion"})  # kinds of commits that `undo` takes back one by one


@dataclass(frozen=True)
class RoundRecord:
    """What was drawn in one round, and with what it was computed.

    Attributes:
        number: 1 for the first round.
        kind: "scribbles", "masks" or "edits" (drawn in the page).
        frame: the interacted frame.
        objects: ids drawn in this round.
        strokes: the strokes, or the actions of edits, in JSON form; empty for masks.
        model: names and settings of the networks.
        stages: names of the stages that ran, in order.
        created: ISO 8601 time in UTC.
        seconds: wall time per stage.
    """

    number: int
    kind: str
    frame: int
    objects: tuple[int, ...] = ()
    strokes: list[Any] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    stages: tuple[str, ...] = ()
    created: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write."""
        return {**asdict(self), "objects": list(self.objects), "stages": list(self.stages)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RoundRecord:
        """Inverse of `to_json`; fields this version does not know are ignored."""
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        return cls(**{**known, "objects": tuple(known["objects"]), "stages": tuple(known["stages"])})

    def facts(self) -> dict[str, Any]:
        """What the commit's metadata says about the round."""
        facts = {"kind": "round", "round": self.number, "frame": self.frame}
        return {**facts, "objects": list(self.objects), "input": self.kind}

    def message(self) -> str:
        """The commit message, one line."""
        drawn = ", ".join(str(number) for number in self.objects) or "none"
        return f"round {self.number}: {self.kind} on frame {self.frame}, objects {drawn}"


@dataclass(frozen=True)
class HistoryEntry:
    """One commit of a session.

    Attributes:
        id: the commit; parent: the entry before it, None for the first.
        message: one line.
        kind: "created", "decoded", "round", "deletion" (of an object) or what `Session.commit` was told.
        round: the round's number, None for other kinds.
        written: ISO 8601 time in UTC.
        state: "past", "current" (what readers see) or "undone".
        facts: everything else that was recorded with the commit.
    """

    id: str
    parent: str | None
    message: str
    kind: str
    round: int | None
    written: str
    state: str
    facts: dict[str, Any]


class Timeline:
    """The branches of the repository in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reopen()

    def reopen(self) -> None:
        """Forget what is remembered of the files."""
        self.repository = open_repository(self.folder)

    def history(self) -> list[HistoryEntry]:
        """Commits of `main`, oldest first, followed by the undone ones that `redo` can bring back."""
        past = list(self._visible(MAIN))[::-1]
        entries: list[HistoryEntry] = []
        undone = self._undone()
        states = ["past"] * (len(past) - 1) + ["current"] + ["undone"] * len(undone)
        for info, state in zip([*past, *undone], states, strict=True):
            entries.append(_entry(info, entries[-1].id if entries else None, state))
        return entries

    def unfinished(self) -> dict[str, Any] | None:
        """Progress of the last checkpoint of a round that was started from `main`'s tip and not committed."""
        if (tip := self._tip(WORK)) is None:
            return None
        start = self._tip(MAIN)
        latest = next(self._ancestry(WORK))
        for info in self._ancestry(WORK):
            if info.id == start:
                return latest.metadata["progress"] if tip != start else None
            if info.metadata.get("kind") != "checkpoint":
                return None
        return None

    def recover(self) -> None:
        """Finish a round commit that was killed between its commit on `work` and the move of `main`."""
        if (tip := self._tip(WORK)) is None or tip == (start := self._tip(MAIN)):
            return
        try:
            commits = self._ancestry(WORK)
            if next(commits).metadata.get("kind") != "round":
                return
            before = next((info.id for info in commits if info.metadata.get("kind") != "checkpoint"), None)
        except (icechunk.IcechunkError, RuntimeError, ValueError):
            return  # told by who asks for the round in progress; nothing committed is in it
        if before == start:
            self.advance(tip)

    def start_work(self) -> None:
        """A fresh `work` branch at `main`'s tip."""
        self._point(WORK, self.repository.lookup_branch(MAIN))

    def move_work(self, commit: str) -> None:
        """A checkpoint was written. It counts once it is on the disk: going on from half of one would spoil a round."""
        sync_folder(self.folder)
        self._point(WORK, commit)

    def base_branch(self, commit: str) -> str:
        """A branch at a commit; Icechunk gives out sessions to write with only for tips of branches."""
        if self.repository.lookup_branch(MAIN) == commit:
            return MAIN
        self._point(BASE, commit)
        return BASE

    def drop_work(self) -> None:
        """Forget the round in progress."""
        self._drop(WORK)
        self._drop(BASE)

    def advance(self, commit: str) -> None:
        """Move `main` forward to a new commit; undone rounds and `work` are over."""
        sync_folder(self.folder)
        self._move(commit)
        self.drop_work()
        self._drop(REDO)

    def _move(self, commit: str) -> None:
        """Move `main` to a commit whose files are on the disk."""
        self._point(MAIN, commit)
        sync_folder(self.folder)
        self._point(KEPT, commit)

    def undo(self) -> HistoryEntry:
        """Move `main` to before the last round or deletion of an object; returns what was undone.

        Raises:
            UsageError: there is no round.
        """
        entries = list(self._visible(MAIN))
        position = next((i for i, info in enumerate(entries) if _is_step(info)), None)
        if position is None:
            raise UsageError("there is no round to undo")
        if not self._undone():  # else `redo` already keeps a later tip
            self._point(REDO, self.repository.lookup_branch(MAIN))
        undone, target = entries[position], entries[position + 1]
        self._move(target.id)
        self.drop_work()
        return _entry(undone, target.id, "undone")

    def redo(self) -> HistoryEntry:
        """Move `main` over the next undone round or deletion; returns it.

        Raises:
            UsageError: nothing is undone.
        """
        undone = self._undone()
        rounds = [position for position, info in enumerate(undone) if _is_step(info)]
        if not rounds:
            raise UsageError("there is no undone round to bring back")
        # Changes between two rounds belong to the round before them, as in `undo`.
        last = rounds[1] - 1 if len(rounds) > 1 else len(undone) - 1
        parent = next(self._visible(MAIN)).id
        self._move(undone[last].id)
        self.drop_work()
        if last == len(undone) - 1:
            self._drop(REDO)
        return _entry(undone[rounds[0]], parent, "current")

    def _undone(self) -> list[icechunk.SnapshotInfo]:
        """Visible commits of `redo` after `main`'s tip, oldest first; none if `redo` is stale."""
        if self._tip(REDO) is None:
            return []
        start = self._tip(MAIN)
        found: list[icechunk.SnapshotInfo] = []
        for info in self._ancestry(REDO):
            if info.id == start:
                return found[::-1]
            if info.metadata.get("kind") not in HIDDEN:
                found.append(info)
        return []

    def _visible(self, branch: str) -> Iterator[icechunk.SnapshotInfo]:
        """Commits of a branch, newest first, without the steps in between."""
        for info in self._ancestry(branch):
            if info.parent_id is not None and info.metadata.get("kind") not in HIDDEN:
                yield info

    def _ancestry(self, branch: str) -> Iterator[icechunk.SnapshotInfo]:
        return iter(self.repository.ancestry(snapshot_id=self.repository.lookup_branch(branch)))

    def _tip(self, branch: str) -> str | None:
        try:
            return self.repository.lookup_branch(branch)
        except icechunk.IcechunkError as error:
            # Asked only now, since a writer may drop a branch between a reader's question and its answer.
            if branch not in self.repository.list_branches():
                return None
            if branch == MAIN:
                raise
            log.warning("%s: branch %s cannot be read and is left out: %s", self.folder, branch, first_line(error))
            return None

    def _point(self, branch: str, commit: str) -> None:
        if self._tip(branch) is None:
            ref_file(self.folder, branch).unlink(missing_ok=True)  # there only if it cannot be read
            self.repository.create_branch(branch, commit)
        else:
            self.repository.reset_branch(branch, commit)

    def _drop(self, branch: str) -> None:
        if self._tip(branch) is not None:
            self.repository.delete_branch(branch)
        else:
            ref_file(self.folder, branch).unlink(missing_ok=True)


def _is_step(info: icechunk.SnapshotInfo) -> bool:
    return info.metadata.get("kind") in STEPS


def _entry(info: icechunk.SnapshotInfo, parent: str | None, state: str) -> HistoryEntry:
    facts = dict(info.metadata)
    kind, number = facts.pop("kind", "change"), facts.pop("round", None)
    written = info.written_at.isoformat(timespec="seconds")
    return HistoryEntry(info.id, parent, info.message, kind, number, written, state, facts)
