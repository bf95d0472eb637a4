"""The repository's own files, where Icechunk itself cannot open them any more: branches and snapshots.

::

    refs/branch.NAME/ref.json    {"snapshot": "<id>"}
    snapshots/<id>               a header, then FlatBuffers compressed with Zstandard
    config.yaml                  settings; without it the defaults are taken

Only `mivos session repair` and `stores.transactions` use this.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import icechunk
from numcodecs import zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
CROCKFORD = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ref_file(folder: Path, branch: str) -> Path:
    """Where a branch's commit is written."""
    return folder / "refs" / f"branch.{branch}" / "ref.json"


def read_ref(folder: Path, branch: str) -> str | None:
    """The commit of a branch; None without one. ValueError: the file is damaged."""
    try:
        commit = json.loads(ref_file(folder, branch).read_bytes())["snapshot"]
    except FileNotFoundError:
        return None
    except (TypeError, KeyError) as error:
        raise ValueError("names no commit") from error
    if not isinstance(commit, str) or not is_id(commit):
        raise ValueError("names no commit")
    return commit


def write_ref(folder: Path, branch: str, commit: str) -> None:
    """Point a branch at a commit, whatever is there."""
    file = ref_file(folder, branch)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(folder, file, json.dumps({"snapshot": commit}).encode())


def branches(folder: Path) -> list[str]:
    """Names of all branches, damaged ones too."""
    found = (path.parent.name.removeprefix("branch.") for path in (folder / "refs").glob("branch.*/ref.json"))
    return sorted(found)


def is_id(name: str) -> bool:
    """Whether a name is that of a snapshot: 12 bytes in Crockford's base 32."""
    return len(name) == 20 and all(character in CROCKFORD for character in name.encode())


def raw_id(name: str) -> bytes:
    """The 12 bytes of a snapshot's id."""
    standard = name.encode().translate(bytes.maketrans(CROCKFORD, BASE32))
    return base64.b32decode(standard + b"=" * (-len(standard) % 8))


def all_snapshots(folder: Path, repository: icechunk.Repository) -> Iterator[icechunk.SnapshotInfo]:
    """Readable snapshots, reachable or not, in no order."""
    for file in (folder / "snapshots").iterdir():
        if is_id(file.name):
            with suppress(icechunk.IcechunkError, RuntimeError, ValueError):
                yield repository.lookup_snapshot(file.name)


def edit_snapshot(folder: Path, commit: str, old: bytes, new: bytes) -> bool:
    """Replace bytes that occur once in a snapshot; False, and nothing changed, if they do not.

    Args:
        old, new: of the same length.

    Raises:
        OSError: it cannot be read or written.
    """
    file = folder / "snapshots" / commit
    content = file.read_bytes()
    start = content.find(ZSTD_MAGIC)
    try:
        plain = zstd.decompress(content[start:]) if start > 0 else b""
    except (RuntimeError, ValueError):
        return False
    if plain.count(old) != 1 or len(old) != len(new):
        return False
    replace_file(folder, file, content[:start] + zstd.compress(plain.replace(old, new), 3))
    return True


def replace_file(folder: Path, file: Path, content: bytes) -> None:
    """Write a file in one step, on the disk when this returns; the temporary one lies outside Icechunk's folders."""
    temporary = folder.parent / f".{secrets.token_hex(6)}.tmp"
    try:
        with open(temporary, "xb") as target:
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, file)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
