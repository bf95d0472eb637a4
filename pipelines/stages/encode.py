"""Stage `encode`: the committed masks of a session become files. The session is only read.

Masks are decided at the source's own resolution: soft probabilities are upsampled first. One frame is in
memory at a time, all formats are written in one pass over it.

Nothing half-made is ever seen: outputs grow in a hidden folder inside the output folder and are moved into
place together when all are whole. An error or Ctrl-C removes the hidden folder; what a killed process left is
removed by the next run.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import cv2
import filelock
import numpy as np

from pipelines.stages.outputs import FORMATS, Item, Job, Sink, decide
from stores.durable import sync_folder, sync_names
from stores.errors import OutputExistsError, UsageError, VideoError
from stores.exchange.names import object_names
from stores.files import make_folder
from stores.session import Session
from stores.video import SourceInfo, fingerprint, read_frames
from stores.video_writer import storage_errors

__all__ = ["FORMATS", "encode"]

logger = logging.getLogger("mivos")

STAGING = ".mivos-encode-"


def encode(
    session: Session,
    out: Path,
    *,
    formats: Sequence[str] = ("png", "overlay"),
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """Write a session's masks.

    Frames that were never computed get no mask file; in videos they appear plain (overlay) or fully
    transparent. Pictures are read again from the source; if that is gone or has changed, the session's own
    frames are enlarged instead and a warning says so.

    Args:
        out: output folder, made if missing.
        formats: keys of `FORMATS`.
        force: replace outputs that exist.
        progress: called with (frames done, frames in all) after each frame.

    Returns:
        format -> path of the file or folder made, in the order given.

    Raises:
        UsageError: unknown format, or the session has no finished round.
        OutputExistsError: an output exists and `force` is off; nothing was done.
        StorageFullError: no room or no permission; nothing is left behind.
    """
    out = Path(out)
    chosen = _choose(formats)
    computed = session.computed() > 0
    if not session.rounds or not computed.any():
        raise UsageError(
            f"session {session.path} has no masks yet",
            hint="run `mivos interact` and `mivos propagate` first",
        )
    targets = check_outputs(out, formats, force=force)
    total = session.num_frames
    if missing := total - int(computed.sum()):
        logger.warning("%d of %d frames were never computed and get no mask", missing, total)

    pictures: Pictures | None = None
    if any(sink.needs_images(session.source) for sink in chosen.values()):
        pictures = Pictures(session)
    sound = pictures.path if pictures is not None and session.source.has_audio else None
    names = object_names(session.path, session.object_ids)
    job = Job(session.source, session.object_ids, computed, sound, names)
    with _staging(out) as staging:
        with ExitStack() as stack:
            sinks: list[Sink] = [stack.enter_context(sink(staging / sink.target, job)) for sink in chosen.values()]
            images: Generator[np.ndarray | None, None, None]
            images = stack.enter_context(closing(pictures.stream() if pictures else _no_images()))
            for index in range(total):
                item = _item(session, index, next(images))
                for sink in sinks:
                    sink.write(item)
                if progress is not None:
                    progress(index + 1, total)
        _publish(staging, targets)
    return {name: str(target) for name, target in targets.items()}


def check_outputs(out: Path, formats: Sequence[str], *, force: bool = False) -> dict[str, Path]:
    """Where each format will go.

    Raises:
        UsageError: unknown format. OutputExistsError: something is there already and `force` is off.
    """
    targets = {name: Path(out) / sink.target for name, sink in _choose(formats).items()}
    for name, target in targets.items():
        if not force and _exists(target):
            raise OutputExistsError(f"{target} exists already (format {name})", hint="use --force to replace it")
    return targets


def _choose(formats: Sequence[str]) -> dict[str, type[Sink]]:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        what = f"unknown format {unknown[0]!r}" if unknown else "no output format given"
        raise UsageError(what, hint=f"choose from {', '.join(FORMATS)}")
    return {name: FORMATS[name] for name in formats}


def _item(session: Session, index: int, image: np.ndarray | None) -> Item:
    source = session.source
    probs = session.probs(index)
    labels = None
    if probs is not None:
        labels = np.array([0, *session.object_ids], np.uint8)[decide(probs, source.height, source.width)]
    return Item(index, source.frame_name(index), session.pts(index), labels, image)


def _no_images() -> Generator[None, None, None]:
    while True:
        yield None


class Pictures:
    """The session's frames at the source's resolution, from the source as long as it is the same.

    Attributes:
        path: the source, None if it is gone or has changed.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.path = _unchanged(session.source)

    def stream(self) -> Generator[np.ndarray, None, None]:
        """uint8 [H, W, 3] RGB of frame 0, 1, ... num_frames - 1."""
        source = self.session.source
        done = 0
        if self.path is not None:
            try:
                with closing(read_frames(self.path, size=None)) as frames:
                    for frame in frames:
                        if frame.image.shape[:2] != (source.height, source.width):
                            raise VideoError(f"{self.path}: frame {frame.index} has another size now")
                        yield frame.image
                        done = frame.index + 1
                logger.warning("%s has %d frames now, the session %d", self.path, done, self.session.num_frames)
            except VideoError as error:
                logger.warning("%s; from frame %d on the session's smaller pictures are used", error, done)
        for index in range(done, self.session.num_frames):
            image = self.session.frame(index)
            size = (source.width, source.height)
            yield (image if image.shape[1::-1] == size else cv2.resize(image, size, interpolation=cv2.INTER_CUBIC))


def _unchanged(source: SourceInfo) -> Path | None:
    path = Path(source.path)
    try:
        if fingerprint(path) == source.sha256:
            return path
        what = "has changed since it was decoded"
    except VideoError:
        what = "is gone"
    logger.warning("%s %s: using the session's smaller pictures, without sound", path, what)
    return None


def _exists(target: Path) -> bool:
    """Whether there is something to lose at `target`; an empty folder is nothing."""
    if target.is_dir() and not target.is_symlink():
        return any(target.iterdir())
    return os.path.lexists(target)


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A hidden folder in `out` that is gone afterwards; so is `out` if it was made here and stays empty."""
    fresh = not out.exists()
    make_folder(out)
    with storage_errors(out):
        _remove_abandoned(out)
        folder = out / f"{STAGING}{secrets.token_hex(4)}"
    lock = filelock.FileLock(folder / "lock")  # tells a folder in use from one whose process was killed
    try:
        with storage_errors(out):
            folder.mkdir()
            lock.acquire()
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)
        if fresh:
            with suppress(OSError):
                out.rmdir()


def _remove_abandoned(out: Path) -> None:
    for folder in out.glob(f"{STAGING}*"):
        with suppress(filelock.Timeout, OSError), filelock.FileLock(folder / "lock", timeout=0):
            shutil.rmtree(folder, ignore_errors=True)


def _publish(staging: Path, targets: dict[str, Path]) -> None:
    """Move finished outputs into place; what was there goes away with the staging folder."""
    replaced = staging / "replaced"
    with storage_errors(staging.parent):
        replaced.mkdir()
        sync_folder(staging)
        for target in targets.values():
            if os.path.lexists(target):
                os.replace(target, replaced / target.name)
            os.replace(staging / target.name, target)
        sync_names(staging.parent)
