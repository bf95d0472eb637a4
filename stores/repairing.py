"""`mivos session repair`: makes a damaged session usable with the least loss, and puts aside what it gives up.

It goes from the outside in: settings, branches, commits, single frames. Each step is whole or not there, so a repair
that was killed is simply run again. Nothing is deleted: commits that are given up keep a branch `damaged-N`, files
that cannot be read are moved to SESSION/damaged.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import icechunk

from stores.checking import LIBRARY_ERRORS, REPOSITORY, Step, commits_of, damages, leftovers
from stores.draft_repair import set_aside
from stores.durable import sync_folder
from stores.errors import SessionNotFoundError, StoreError
from stores.frame_repair import mend_tip
from stores.history import BASE, HIDDEN, KEPT, MAIN, REDO, WORK
from stores.locking import WriterLock
from stores.repository import open_repository, store_errors
from stores.session import Session
from stores.snapshots import all_snapshots, branches, edit_snapshot, raw_id, read_ref, ref_file, replace_file, write_ref

FIRST_SNAPSHOT = "1CECHNKREP0F1RSTCMT0"  # Icechunk's id of it, in all repositories
NOTHING_LEFT = "move it away and decode the source video into a new session"


@dataclass
class RepairReport:
    """What was done, one line each; empty where nothing was damaged."""

    path: str
    actions: list[str] = field(default_factory=list)
    commit: str = ""

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write."""
        return asdict(self)


def repair_session(path: Path, progress: Step | None = None) -> RepairReport:
    """Mend what `check_session` finds.

    Args:
        progress: called with (frames read again, frames to read again).

    Raises:
        SessionNotFoundError: there is none. SessionLockedError: another process writes to it.
        StorageFullError: no room or no permission. StoreError: nothing of it can be saved.
    """
    path = Path(path)
    if not (path / REPOSITORY).is_dir():
        raise SessionNotFoundError(f"{path} holds no session", hint="give the folder that has session.icechunk in it")
    lock = WriterLock(path)
    with store_errors(path, "open the session for writing"):
        lock.acquire()
    report = RepairReport(str(path))
    try:
        with store_errors(path, "repair the session"):
            _Repair(path, report).outside()
        with Session(path, lock) as session:
            mend_tip(session, report.actions, progress)
            report.commit = session.commit_id
    finally:
        lock.release()
    return report


class _Repair:
    """Everything that is done before the session can be opened."""

    def __init__(self, path: Path, report: RepairReport) -> None:
        self.path, self.folder = path, path / REPOSITORY
        self.done = report.actions

    def outside(self) -> None:
        """Leftovers, drafts, settings, branches, commits."""
        for stale in leftovers(self.path):
            _remove(stale)
            self.done.append(f"removed {stale.name}, left by a killed process")
        for name in set_aside(self.path):
            self.done.append(f"moved draft {name} to desk/damaged")
        for branch in branches(self.folder):
            self._readable_ref(branch)
        repository = self._opened()
        self._main(repository)
        repository = open_repository(self.folder)
        self._side_branches(repository)
        sync_folder(self.path)

    def _readable_ref(self, branch: str) -> None:
        try:
            read_ref(self.folder, branch)
        except ValueError:
            self._put_away(ref_file(self.folder, branch), f"branch-{branch}.json")
            if branch != MAIN:
                self.done.append(f"dropped branch {branch}, which could not be read")

    def _opened(self) -> icechunk.Repository:
        """The repository, if need be with settings or a branch `main` made anew."""
        if read_ref(self.folder, MAIN) is None:
            self._guess_main()
        try:
            return open_repository(self.folder)
        except LIBRARY_ERRORS:
            if (self.folder / "config.yaml").exists():
                self._put_away(self.folder / "config.yaml", "config.yaml")
                self.done.append("the settings could not be read; the usual ones are used")
            return open_repository(self.folder)

    def _guess_main(self) -> None:
        """`kept` is where `main` was last known to be; without it the last commit of all is taken."""
        commit = read_ref(self.folder, KEPT)
        if commit is None:
            # Icechunk opens nothing without `main`, so it gets one to look with.
            names = [file.name for file in (self.folder / "snapshots").glob("?" * 20)]
            for name in names:
                write_ref(self.folder, MAIN, name)
                try:
                    found = list(all_snapshots(self.folder, open_repository(self.folder)))
                except LIBRARY_ERRORS:
                    continue
                commit = _last(found)
                break
        if commit is None:
            ref_file(self.folder, MAIN).unlink(missing_ok=True)
            raise self._lost()
        write_ref(self.folder, MAIN, commit)
        self.done.append(f"branch main was lost; set it to commit {commit}")

    def _main(self, repository: icechunk.Repository) -> None:
        """Leave `main` at the latest commit that can be used, with a history that can be walked."""
        tip = read_ref(self.folder, MAIN)
        assert tip is not None
        good = next(self._usable(repository, tip), None)
        if good is None:
            raise self._lost()
        if good.id != tip:
            self._keep(tip)
            write_ref(self.folder, MAIN, good.id)
            self.done.append(f"the last commit is damaged; went back to: {good.message}")
        self._relink(repository, good)

    def _usable(self, repository: icechunk.Repository, tip: str) -> Iterator[icechunk.SnapshotInfo]:
        """Commits that can be used, the best first: those of `main`, then all others, the newest first."""
        commits, _ = commits_of(self.folder, repository, MAIN)
        others = sorted(all_snapshots(self.folder, repository), key=lambda info: info.written_at, reverse=True)
        undone = {info.id for info in commits_of(self.folder, repository, REDO)[0]}
        known = {info.id for info in commits}
        steps = [info for info in others if info.id not in known | undone and _visible(info)]
        # A decode that was under way ends on `main` with a step of its own.
        decoding = [info for info in others if info.metadata.get("kind") == "decode"]
        for info in [*commits, *steps, *decoding]:
            if not any(damage.whole for damage in damages(repository, info.id)):
                yield info

    def _relink(self, repository: icechunk.Repository, tip: icechunk.SnapshotInfo) -> None:
        """Where an older commit cannot be read, the one after it gets the one before it as its parent."""
        for _ in range(1000):
            try:
                walked = []
                for info in repository.ancestry(snapshot_id=tip.id):
                    walked.append(info)
                return
            except LIBRARY_ERRORS:
                last = walked[-1] if walked else tip
            if last.parent_id == FIRST_SNAPSHOT:
                self._first_snapshot()
                repository = open_repository(self.folder)
                continue
            later = {info.id for info in walked}
            before = [
                info for info in all_snapshots(self.folder, repository)
                if info.id not in later and info.written_at < last.written_at and (_visible(info) or not info.parent_id)
            ]  # fmt: skip
            new = max(before, key=lambda info: info.written_at, default=None)
            old = last.parent_id
            if new is None or old is None or not edit_snapshot(self.folder, last.id, raw_id(old), raw_id(new.id)):
                self.done.append(f"commits before {last.id} cannot be read; `mivos undo` ends there")
                return
            self._put_away(self.folder / "snapshots" / old, f"snapshot-{old}")
            self.done.append(f"commit {old} cannot be read; `mivos undo` steps over it")
            repository = open_repository(self.folder)

    def _first_snapshot(self) -> None:
        """The empty one that every repository begins with."""
        self._put_away(self.folder / "snapshots" / FIRST_SNAPSHOT, f"snapshot-{FIRST_SNAPSHOT}")
        with tempfile.TemporaryDirectory(prefix=f".{REPOSITORY}-", dir=self.path) as fresh:
            open_repository(Path(fresh), create=True)
            content = (Path(fresh) / "snapshots" / FIRST_SNAPSHOT).read_bytes()
        replace_file(self.folder, self.folder / "snapshots" / FIRST_SNAPSHOT, content)
        self.done.append("the empty first commit could not be read; made it anew")

    def _side_branches(self, repository: icechunk.Repository) -> None:
        """`work` and `redo` are dropped where they cannot be used; `kept` follows `main`."""
        for branch in (WORK, REDO):
            tip = read_ref(self.folder, branch)
            if tip is None:
                continue
            commits, broken = commits_of(self.folder, repository, branch)
            past = {info.id for info in commits_of(self.folder, repository, MAIN)[0]}
            own = [info for info in commits if info.id not in past]
            if broken is None and not any(True for info in own for _ in damages(repository, info.id)):
                continue
            self._keep(tip)
            ref_file(self.folder, branch).unlink(missing_ok=True)
            what = "the round in progress is" if branch == WORK else "undone rounds are"
            self.done.append(f"{what} damaged: dropped")
        main = read_ref(self.folder, MAIN)
        if main is not None and read_ref(self.folder, KEPT) != main:
            write_ref(self.folder, KEPT, main)
        if read_ref(self.folder, WORK) is None:
            ref_file(self.folder, BASE).unlink(missing_ok=True)

    def _keep(self, commit: str) -> None:
        """A name for a commit that is given up; one that cannot be read at all has no use for one."""
        taken = branches(self.folder)
        if any(read_ref(self.folder, name) == commit for name in taken if name.startswith("damaged-")):
            return
        number = next(n for n in range(1, 10**6) if f"damaged-{n}" not in taken)
        if (self.folder / "snapshots" / commit).exists():
            write_ref(self.folder, f"damaged-{number}", commit)
            self.done.append(f"commit {commit} is kept as branch damaged-{number}")

    def _put_away(self, file: Path, name: str) -> None:
        aside = self.path / "damaged"
        aside.mkdir(exist_ok=True)
        if file.exists():
            number = next(n for n in range(1, 10**6) if not (aside / f"{n}-{name}").exists())
            file.rename(aside / f"{number}-{name}")

    def _lost(self) -> StoreError:
        return StoreError(f"{self.path}: no commit of the session can be read, nothing can be saved", hint=NOTHING_LEFT)


def _visible(info: icechunk.SnapshotInfo) -> bool:
    return info.parent_id is not None and info.metadata.get("kind") not in HIDDEN


def _last(found: list[icechunk.SnapshotInfo]) -> str | None:
    """The newest commit that nothing follows, checkpoints left out."""
    commits = [info for info in found if info.parent_id is not None and info.metadata.get("kind") != "checkpoint"]
    newest = max(commits, key=lambda info: info.written_at, default=None)
    return None if newest is None else newest.id


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
