"""`mivos session check`: reads all of a session and says what is damaged, what is lost, and what repair would do.

It only reads and takes no lock. What a writer does meanwhile is not looked at: the commits are those of the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import icechunk
import numpy as np

from stores.arrays import Tree
from stores.compacting import folder_bytes
from stores.draft_repair import damaged_drafts
from stores.drafts import FOLDER as DESK
from stores.errors import SessionNotFoundError, StoreError
from stores.history import HIDDEN, KEPT, MAIN, REDO, WORK
from stores.repository import VERSION, first_line, open_repository
from stores.snapshots import branches, read_ref

REPOSITORY = "session.icechunk"
# frames of an image array that hold something, by the vector that says so; None: all frames decoded
IMAGES = {
    "frames": None, "masks": "computed", "probs": "computed", "interactions": "interactions_done",
    "pending": "pending_done", "memory": "memory_done",
}  # fmt: skip
# Damaged vectors whose loss spoils the whole commit; without the others something small is missing.
SMALL = frozenset({"confidence", "pts"})
LIBRARY_ERRORS = (icechunk.IcechunkError, OSError, RuntimeError, ValueError, KeyError, TypeError, IndexError)
Step = Callable[[int, int], None]


@dataclass(frozen=True)
class Damage:
    """One thing in a commit that cannot be read: a frame of an array, a whole array (`index` None), or all of it."""

    array: str | None
    index: int | None
    reason: str

    @property
    def whole(self) -> bool:
        """Whether the commit cannot be used."""
        return self.index is None and self.array not in SMALL


@dataclass(frozen=True)
class Finding:
    """What `check_session` says about one thing.

    Attributes:
        what: one line; where: frame, array, commit, file; lost: what cannot be had back; repair: what repair would do.
        damage: False for remarks, which need no repair.
    """

    what: str
    where: str
    lost: str
    repair: str
    damage: bool = True

    def line(self) -> str:
        """All of it in one line."""
        label = "damaged" if self.damage else "note"
        return f"{label}: {self.where}: {self.what}; lost: {self.lost}; repair: {self.repair}"


@dataclass
class CheckReport:
    """What was read, and what was found."""

    path: str
    findings: list[Finding] = field(default_factory=list)
    commits: int = 0
    images: int = 0
    bytes: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing is damaged."""
        return not any(finding.damage for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json` can write."""
        return {**asdict(self), "clean": self.clean}


def check_session(path: Path, progress: Step | None = None) -> CheckReport:
    """Read a whole session: every commit, every frame of every array, drafts.

    Args:
        progress: called with (commits read, commits in all).

    Raises:
        SessionNotFoundError: there is none. StoreError: a newer mivos made it.
    """
    path = Path(path)
    folder = path / REPOSITORY
    if not folder.is_dir():
        raise SessionNotFoundError(f"{path} holds no session", hint="give the folder that has session.icechunk in it")
    report = CheckReport(str(path), bytes=folder_bytes(folder))
    report.findings += _leftovers(path)
    try:
        repository = open_repository(folder)
    except LIBRARY_ERRORS as error:
        report.findings.append(_unopened(folder, error))
    else:
        _check_branches(report, folder, repository, progress)
    report.findings += (
        Finding(what, f"drafts, {DESK}/{name}", "this drawing", f"moves it to {DESK}/damaged/")
        for name, what in damaged_drafts(path)
    )
    return report


def _check_branches(report: CheckReport, folder: Path, repository: icechunk.Repository, progress: Step | None) -> None:
    lists = [(branch, *commits_of(folder, repository, branch)) for branch in (MAIN, REDO, WORK)]
    total = sum(len(commits) for _, commits, _ in lists)
    seen: set[str] = set()
    for branch, commits, broken in lists:
        if broken is not None:
            lost, repair = _of_branch(branch, bool(commits))
            report.findings.append(Finding(broken, f"branch {branch}", lost, repair))
        known: str | None = None  # a commit further on, whose frames were read
        told = False  # damage before a repair was told then
        for info in commits:
            if info.id in seen:
                break
            seen.add(info.id)
            for damage in damages(repository, info.id, since=known, count=report):
                report.findings.append(_finding(branch, info, damage, known is None, told))
            known = info.id
            told = told or info.metadata.get("kind") == "repair"
            report.commits += 1
            if progress is not None:
                progress(min(report.commits, total), total)
    try:
        kept = read_ref(folder, KEPT)
        if kept is not None:
            repository.lookup_snapshot(kept)
    except LIBRARY_ERRORS as error:
        report.findings.append(
            Finding(f"cannot be read: {first_line(error)}", f"branch {KEPT}", "nothing", f"sets it to {MAIN}")
        )
    for branch in branches(folder):
        if branch.startswith("damaged-"):
            what = "holds what an earlier repair put aside"
            report.findings.append(Finding(what, f"branch {branch}", "nothing", "leaves it", damage=False))


def commits_of(
    folder: Path, repository: icechunk.Repository, branch: str
) -> tuple[list[icechunk.SnapshotInfo], str | None]:
    """Commits of a branch that can be read, newest first, without those in between; and what stopped the reading.

    Only the newest ones of `redo` and `work` that are not `main`'s are of interest, so a caller stops there.
    """
    found: list[icechunk.SnapshotInfo] = []
    try:
        tip = read_ref(folder, branch)
        if tip is None:
            return [], "there is no such branch" if branch == MAIN else None
        for info in repository.ancestry(snapshot_id=tip):
            if info.parent_id is not None and (not found or info.metadata.get("kind") not in HIDDEN):
                found.append(info)
    except LIBRARY_ERRORS as error:
        return found, f"cannot be read: {first_line(error)}"
    return found, None


def damages(
    repository: icechunk.Repository, commit: str, *, since: str | None = None, count: CheckReport | None = None
) -> Iterator[Damage]:
    """What cannot be read of a commit.

    Args:
        since: a later commit that was read already: frames that it shares with this one are not read again.

    Raises:
        StoreError: a newer mivos made it.
    """
    try:
        tree = Tree(repository.readonly_session(snapshot_id=commit))
        frames, version = int(tree.state["num_frames"]), int(tree.state["version"])
    except LIBRARY_ERRORS as error:
        yield Damage(None, None, first_line(error))
        return
    if version > VERSION:
        raise StoreError(f"a newer mivos made commit {commit} (version {version})", hint="install a newer mivos")
    try:
        tree.round_log()
    except LIBRARY_ERRORS as error:
        yield Damage("rounds", None, first_line(error))
    changed = None if since is None else _changed(repository, commit, since)
    for name, done in IMAGES.items():
        try:
            if not tree.has(name):
                continue
            tree.vector(f"{name}_check")
            wanted: Iterable[int] = range(frames) if done is None else np.flatnonzero(tree.vector(done).values).tolist()
        except LIBRARY_ERRORS as error:
            yield Damage(name, None, first_line(error))
            continue
        for index in wanted if changed is None else sorted(set(wanted) & changed.get(name, set())):
            try:
                tree.get(name, index)
            except LIBRARY_ERRORS as error:
                yield Damage(name, index, first_line(error))
            if count is not None:
                count.images += 1
    for name in SMALL:
        try:
            if tree.has(name):
                tree.vector(name)
        except LIBRARY_ERRORS as error:
            yield Damage(name, None, first_line(error))


def _changed(repository: icechunk.Repository, older: str, newer: str) -> dict[str, set[int]] | None:
    """Array -> frames whose chunks differ between two commits; None if that cannot be told."""
    try:
        diff = repository.diff(from_snapshot_id=older, to_snapshot_id=newer)
    except LIBRARY_ERRORS:
        return None
    if diff.deleted_arrays:
        return None
    return {name.lstrip("/"): {int(place[0]) for place in places} for name, places in diff.updated_chunks.items()}


def _finding(branch: str, info: icechunk.SnapshotInfo, damage: Damage, tip: bool, told: bool) -> Finding:
    frame = "" if damage.index is None else f"frame {damage.index}, "
    if damage.array == "interactions" and damage.index is not None:
        frame = f"round {damage.index + 1}, "
    what = damage.array or "attributes"
    where = f"{frame}{what}, commit {info.id} ({info.message})"
    if branch == MAIN and tip:
        lost, repair = _at_tip(damage)
    elif branch == MAIN:
        lost, repair = "it, where `mivos undo` leads", "tells it, the present state has it whole"
    else:
        lost, repair = _of_branch(branch, damage.index is not None)
    return Finding(damage.reason, where, lost, repair, damage=not (told and branch == MAIN))


def _at_tip(damage: Damage) -> tuple[str, str]:
    if damage.whole:
        return "what was done since the last whole commit", "goes back to that commit, keeps this one under a name"
    return {
        "frames": ("nothing if the source video is unchanged", "reads it from the source video again"),
        "pts": ("nothing if the source video is unchanged", "reads it from the source video again"),
        "masks": ("nothing if its probabilities are whole", "makes it from them again, else marks it as not computed"),
        "probs": ("the mask of this frame", "marks the frame as not computed"),
        "interactions": ("what this round began with", "takes the result of its frame"),
        "confidence": ("how sure the masks are", "forgets the numbers"),
    }.get(damage.array or "", ("this frame of a round in progress", "drops the round in progress"))


def _of_branch(branch: str, some: bool) -> tuple[str, str]:
    if branch == MAIN:
        lost = "older commits: `undo` ends there" if some else "what was done since the last whole commit"
        return lost, "leaves them out" if some else "goes back to that commit"
    if branch == WORK:
        return "the round in progress", "drops it; the same command begins it again"
    return "undone rounds", "puts them aside under a name"


def _unopened(folder: Path, error: Exception) -> Finding:
    try:
        commit = read_ref(folder, MAIN)
    except (ValueError, OSError):
        commit = None
    if commit is None:
        lost, repair = _of_branch(MAIN, False)
        return Finding(f"cannot be read: {first_line(error)}", f"branch {MAIN}", lost, repair)
    return Finding(f"cannot be opened: {first_line(error)}", REPOSITORY, "settings only", "writes the settings anew")


def _leftovers(path: Path) -> Iterator[Finding]:
    for stale in leftovers(path):
        yield Finding("was left by a killed process", stale.name, "nothing", "removes it", damage=False)


def leftovers(path: Path) -> list[Path]:
    """Temporary files and folders of processes that were killed; of a writer that works, perhaps."""
    patterns = (f".{REPOSITORY}-*", ".*.tmp", "writer.tmp", f"{DESK}/.*.tmp")
    return sorted(found for pattern in patterns for found in path.glob(pattern))
