"""What can be wrong with the lists of a data set in DAVIS layout: part of `stores.dataset_check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from stores.dataset_files import Found

MAX_LIST_BYTES = 2**24


def check_lists(folder: Path, images: Path, names: Sequence[str], found: Found) -> None:
    """Compare the lists ``<folder>/*.txt`` with the videos that are there.

    Args:
        folder: of the lists; images: of the videos; names: of the videos that are there; found: told of every problem.
    """
    files = sorted(folder.glob("[!.]*.txt")) if folder.is_dir() else []
    if folder / "train.txt" not in files:
        found("list-missing", folder / "train.txt")
    there, lists = set(names), dict[str, set[str]]()
    for file in files:
        listed = _read(file, found)
        lists[file.stem] = set(listed)
        for name, count in Counter(listed).items():
            if count > 1:
                found("list-twice", file, name)
            if len(name.split()) > 1 or "/" in name or name.startswith("."):
                found("list-name", file, repr(name[:60]))
            elif name not in there:
                found("list-absent", file, name)
    for name in sorted(lists.get("train", set()) & lists.get("val", set())):
        found("list-leak", folder / "train.txt", name)
    if files:
        for name in names:
            if not any(name in listed for listed in lists.values()):
                found("unlisted", images / name)


def _read(file: Path, found: Found) -> list[str]:
    """The entries of a list; none where it cannot be read."""
    try:
        if file.stat().st_size > MAX_LIST_BYTES:
            raise ValueError("larger than 16 MB")
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        found("list-unreadable", file, " ".join(str(error).split())[:80])
        return []
    if not any(lines):
        found("list-empty", file)
    elif not all(lines):
        found("list-blank", file, f"line {lines.index('') + 1}", count=lines.count(""))
    return [line for line in lines if line]
