"""Opens the icechunk repository of a session with small caches, and turns its errors into ours."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import zarr

from stores.arrays import Tree, sealed
from stores.durable import sync_folder, sync_names
from stores.errors import MivosError, StorageFullError, StoreError
from stores.pictures import EXACT, stored_shape

VERSION = 3  # of the layout; larger numbers are refused. 2: results may have a border, 3: frames may be JPEGs
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
SPLIT_FRAMES = 256  # frames per manifest file: a commit rewrites only the manifests of the frames it touched

if "ICECHUNK_LOG" not in os.environ:
    # Otherwise every open prints a warning about concurrent commits, which the writer lock rules out.
    icechunk.set_logs_filter("error")


def open_repository(folder: Path, *, create: bool = False) -> icechunk.Repository:
    """Open or create the repository in `folder`, holding at most a few MB of caches.

    Raises:
        icechunk.IcechunkError: it cannot be opened; see `store_errors`.
    """
    config = icechunk.RepositoryConfig.default()
    # Chunks are frames: read once, in order, so caching their bytes would only cost memory.
    config.caching = icechunk.CachingConfig(
        num_snapshot_nodes=500,
        num_chunk_refs=20_000,
        num_transaction_changes=500,
        num_bytes_attributes=500_000,
        num_bytes_chunks=0,
    )
    frames = ((icechunk.ManifestSplitDimCondition.Axis(0), SPLIT_FRAMES),)
    splitting = icechunk.ManifestSplittingConfig(((icechunk.ManifestSplitCondition.AnyArray(), frames),))
    config.manifest = icechunk.ManifestConfig(splitting=splitting)
    storage = icechunk.local_filesystem_storage(str(folder))
    if create:
        return icechunk.Repository.create(storage, config=config)
    return icechunk.Repository.open(storage, config=config)


def build_repository(
    folder: Path,
    source: dict[str, Any],
    height: int,
    width: int,
    prob_bits: int,
    border: tuple[int, int, int, int],
    frames: str = EXACT,
) -> None:
    """Make the repository of a session without frames.

    It is made under another name and renamed, so it exists completely or not at all.

    Args:
        folder: where; it must not exist, its parent must.
        source: `SourceInfo.to_json`.
        height, width: working size.
        prob_bits: 8 or 16.
        border: of results, left, right, top, bottom.
        frames: how they are kept, see `stores.pictures`.

    Raises:
        OSError, icechunk.IcechunkError: it cannot be written; see `store_errors`.
    """
    for stale in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        os.chmod(temporary, folder.parent.stat().st_mode & 0o777)  # mkdtemp would keep other users out
        state = {
            "format": "mivos-session",
            "version": 3 if frames != EXACT else 2 if any(border) else 1,
            "source": json.loads(json.dumps(source)),  # tuples become lists, as they will when read back
            "height": height,
            "width": width,
            "prob_bits": prob_bits,
            "border": list(border),
            "num_frames": 0,
            "num_objects": 0,
            "decoded": False,
            "checkpoint": 0,
            "checks": {},
            **({} if frames == EXACT else {"frames": frames}),
        }
        session = open_repository(temporary, create=True).writable_session("main")
        root = zarr.create_group(session.store, attributes=sealed(state))
        root.create_group("rounds", attributes=sealed({"log": []}))
        tree = Tree(session)
        shape = (0, *stored_shape(frames, height, width))
        tree.create_images(
            "frames", shape, np.uint8, ("frame", "y", "x", "channel") if frames == EXACT else ("frame", "byte")
        )
        tree.create_array("pts", (0,), np.int64, ("frame",))
        session.commit(f"created for {source['path']}", {"kind": "created"})
        sync_folder(temporary)
        temporary.rename(folder)
        sync_names(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def store_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn what the storage libraries raise inside the block into one line about the session at `path`.

    Args:
        path: the session's folder, named in the message.
        doing: what was attempted, a verb phrase: "store frame 12".

    Raises:
        StorageFullError: the disk is full, read-only, or the user may not write there.
        StoreError: anything else; mostly that means that files are damaged or were changed by others.
    """
    try:
        yield
    except MivosError:
        raise
    except (OSError, icechunk.IcechunkError, RuntimeError, ValueError, KeyError) as error:
        number, reason = _diagnose(error)
        quoted = shlex.quote(str(path))
        if "clock has drifted" in str(error) or "timestamp ordering" in str(error):
            raise StoreError(
                f"{path}: cannot {doing}: the clock of this machine and the times of the files disagree",
                hint="set the clock right (of the server, too, if the folder is on one)",
            ) from error
        if number in NO_ROOM | NO_PERMISSION:
            hint = "free some space" if number in NO_ROOM else "make it writable"
            raise StorageFullError(
                f"{path}: cannot {doing}: {reason}",
                hint=f"{hint} or use another folder; everything committed before is intact",
            ) from error
        if number in NO_LOCKS:
            hint = "keep the session on a disk whose file system has locks, or mount this one with them"
            raise StoreError(f"{path}: cannot {doing}: {reason}", hint=hint) from error
        if number is not None:
            hint = f"try again; if it stays, run `mivos session check {quoted}`"
            raise StoreError(f"{path}: cannot {doing}: {reason}", hint=hint) from error
        raise StoreError(
            f"{path}: cannot {doing}, the session is damaged: {reason}",
            hint=f"run `mivos session check {quoted}`, then `mivos session repair {quoted}`",
        ) from error


def _diagnose(error: Exception) -> tuple[int | None, str]:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno, os.strerror(error.errno).lower()
    text = str(error)
    # icechunk reports system errors as text only: "... No space left on device (os error 28)".
    found = re.search(r"\(os error (\d+)\)", text)
    if found and int(found[1]) in NO_ROOM | NO_PERMISSION:
        return int(found[1]), os.strerror(int(found[1])).lower()
    return None, first_line(error)


def first_line(error: Exception) -> str:
    """What a storage library says, short."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, KeyError | zarr.errors.NodeNotFoundError) or not lines:
        return "its metadata cannot be read"
    return lines[0].removeprefix("x ").removeprefix("object store error ")
