"""Mends single frames of a session's last commit: what can be had again is, what cannot is marked as not computed."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from stores import arrays
from stores.checking import Damage, commits_of, damages
from stores.errors import MivosError
from stores.history import MAIN
from stores.pictures import EXACT, pack
from stores.repository import store_errors
from stores.results import CONFIDENCE, INTERACTIONS
from stores.session import REPOSITORY, Session

log = logging.getLogger("mivos")
Step = Callable[[int, int], None]


def mend_tip(session: Session, done: list[str], progress: Step | None = None) -> None:
    """Mend what can be mended of a session opened for writing, in one commit.

    Args:
        done: gets a line for each thing done.
        progress: called with (frames read, frames to read).
    """
    repository = session._timeline.repository
    found: dict[str, list[Damage]] = defaultdict(list)
    for damage in damages(repository, session.commit_id):
        found[damage.array or ""].append(damage)
    past = _past(session)
    if not found and not past:
        return
    tree = session._writing()
    before = len(done)
    _frames(session, found, done, progress)
    for damage in found["masks"]:
        _mask(session, tree, damage, {other.index for other in found["probs"]}, done)
    for damage in found["probs"]:
        _uncomputed(session, tree, damage.index, done)
    for damage in found["interactions"]:
        _interaction(session, tree, damage, {other.index for other in found["probs"]}, done)
    if found[CONFIDENCE]:
        _forget_confidence(session, tree, done)
    if past:
        done.append(f"{past} frames of older commits are damaged: `mivos undo` leads to them")
    with store_errors(session.path, "store what was repaired"):
        if session._changed() or (past and len(done) > before):
            tree.state["repairs"] = int(tree.state.get("repairs", 0)) + 1
            session.commit(f"repaired: {len(done) - before} changes", kind="repair")


def _past(session: Session) -> int:
    """Damaged things in older commits that no repair has told of yet."""
    repository = session._timeline.repository
    commits, _ = commits_of(session.path / REPOSITORY, repository, MAIN)
    count, known = 0, session.commit_id
    if commits and commits[0].metadata.get("kind") == "repair":
        return 0
    for info in commits[1:]:
        count += sum(1 for _ in damages(repository, info.id, since=known))
        known = info.id
        if info.metadata.get("kind") == "repair":
            break
    return count


def _frames(session: Session, found: dict[str, list[Damage]], done: list[str], progress: Step | None) -> None:
    """Frames and time stamps from the source video, where they are exactly what they were."""
    wanted = {damage.index for damage in found["frames"] if damage.index is not None}
    if not wanted and not found["pts"]:
        return
    from stores.video import fingerprint, read_frames  # loads FFmpeg

    source, tree = session.source, session._writing()
    times, restored = np.zeros(session.num_frames, np.int64), set()
    try:
        if fingerprint(Path(source.path)) != source.sha256:
            raise MivosError(f"{source.path} has changed since it was decoded")
        size = min(session.height, session.width)
        expected = tree.vector("frames_check").values
        with closing(read_frames(Path(source.path), size=size)) as frames:
            for frame in frames:
                if frame.index >= session.num_frames:
                    break
                times[frame.index] = frame.pts
                if frame.index in wanted:
                    picture = pack(frame.image, session.frame_coding)
                    # another version of the library may write other JPEGs, which are as good
                    if session.frame_coding != EXACT or arrays.checksum(picture[None]) == expected[frame.index]:
                        tree.put("frames", frame.index, picture)
                        restored.add(frame.index)
                if progress is not None:
                    progress(frame.index + 1, session.num_frames)
    except MivosError as error:
        done.append(f"the source video cannot help: {error}")
    else:
        if found["pts"]:
            _restore_times(tree, times, done)
    done += [f"frame {index}: read from the source video again" for index in sorted(restored)]
    for index in sorted(wanted - restored):
        black = np.zeros((session.height, session.width, 3), np.uint8)
        tree.put("frames", index, pack(black, session.frame_coding))
        done.append(f"frame {index}: its picture is lost and black now; its mask stays")


def _restore_times(tree: arrays.Tree, times: np.ndarray, done: list[str]) -> None:
    if arrays.checksum(times[None]) != tree.state["checks"].get("pts", 0):
        done.append("time stamps: those of the source video are not those that were stored")
    stored = tree.array("pts")
    stored.resize(times.shape)
    stored[:] = times
    tree.state["checks"] = {**tree.state["checks"], "pts": arrays.checksum(times[None])}
    done.append("time stamps: read from the source video again")


def _mask(session: Session, tree: arrays.Tree, damage: Damage, lost: set[int | None], done: list[str]) -> None:
    assert damage.index is not None
    if damage.index in lost:
        return  # told with its probabilities
    tree.put("masks", damage.index, arrays.label(session._without_border(tree.get("probs", damage.index))))
    done.append(f"frame {damage.index}: mask made from its probabilities again")


def _uncomputed(session: Session, tree: arrays.Tree, index: int | None, done: list[str]) -> None:
    assert index is not None
    tree.put("probs", index, np.zeros(tree.array("probs").shape[1:], tree.prob_dtype()))
    tree.put("masks", index, np.zeros((session.height, session.width), np.uint8))
    tree.vector("computed")[index] = 0
    done.append(f"frame {index}: its mask is lost, marked as not computed; `mivos undo` and its round again bring it")


def _interaction(session: Session, tree: arrays.Tree, damage: Damage, lost: set[int | None], done: list[str]) -> None:
    """The result of an interacted frame is what its round began with, as long as no later round wrote it."""
    assert damage.index is not None
    frame = session.rounds[damage.index].frame
    stored = tree.array(INTERACTIONS[0])
    planes = None if frame in lost else tree.get("probs", frame)
    if (
        planes is not None
        and tree.vector("probs_check").values[frame] == (tree.vector(f"{INTERACTIONS[0]}_check").values[damage.index])
    ):
        tree.put(INTERACTIONS[0], damage.index, planes)
        done.append(f"round {damage.index + 1}: what it began with was found in the result of its frame")
        return
    tree.put(INTERACTIONS[0], damage.index, np.zeros(stored.shape[1:], stored.dtype))
    tree.vector(INTERACTIONS[1])[damage.index] = 0
    done.append(f"round {damage.index + 1}: what it began with is lost; later rounds take the result of its frame")


def _forget_confidence(session: Session, tree: arrays.Tree, done: list[str]) -> None:
    del tree._root[CONFIDENCE]
    tree._arrays.pop(CONFIDENCE, None)
    tree.state["checks"] = {name: value for name, value in tree.state["checks"].items() if name != CONFIDENCE}
    done.append("how sure the masks are: lost, counted anew as frames are computed")
