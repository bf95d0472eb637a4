"""Manifests of `mivos batch`: which videos to segment, from what, with which options.

CSV with a header, or JSON Lines (one object per line). Columns: `video`, and `scribbles` or `masks`; `name` (default:
the video's stem); and options: `size`, `snap`, `model`, `checkpoint`, `device`, `engine`, `precision`, `fusion`,
`memory_budget`, `import_frames`, `frames`, `format`. Empty cells count as absent. Several checkpoints or formats are
separated by ";" in CSV, a list in JSON. Relative paths are relative to the manifest. What values mean (whether there is
such a model) is not decided here.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stores.errors import DatasetError, MivosError, UsageError
from stores.files import check_name, read_limited

MAX_BYTES = 2**28
MAX_ROWS = 1_000_000
MAX_FIELD = 4096  # characters; the longest path that Linux takes
MAX_LIST = 100  # checkpoints or formats of one row
PATHS = ("video", "scribbles", "masks")
TEXTS = ("model", "device", "engine", "precision", "fusion", "memory_budget", "import_frames", "frames")
LISTS = ("checkpoint", "format")
COLUMNS = (*PATHS, "name", "size", "snap", *TEXTS, *LISTS)
TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
TAKEN = re.compile(r"report(-\d+-of-\d+)?\.(json|csv)", re.IGNORECASE)  # files beside the items' folders
HINT = f"columns: {', '.join(COLUMNS)}"


@dataclass(frozen=True, slots=True)
class Item:
    """One row.

    Attributes:
        name: of its folder in the output; video, and scribbles or masks: absolute paths that exist.
        options: those given: size int (0 for the source's), snap bool, checkpoint tuple of absolute paths, format
            tuple of str, the others str. line: where it stands in the manifest, from 1.
    """

    name: str
    video: Path
    scribbles: Path | None
    masks: Path | None
    options: dict[str, Any] = field(default_factory=dict)
    line: int = 0


def read_manifest(path: Path) -> list[Item]:
    """Reads and checks a whole manifest.

    Raises:
        UsageError: anything is wrong with it; the message names file, line and column.
    """
    path = Path(path)
    raw = read_limited(path, MAX_BYTES, UsageError)
    if b"\0" in raw:
        line = raw[: raw.index(b"\0")].count(b"\n") + 1
        raise UsageError(f"{path}, line {line}: holds a NUL byte", hint="save it as plain UTF-8 text")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}, line {line}: is not UTF-8 text", hint="save it as UTF-8") from error
    rows = _json_rows(path, text) if _is_json(path, text) else _csv_rows(path, text)
    items: list[Item] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        if len(items) == MAX_ROWS:
            raise UsageError(f"{path}, line {line}: there are more than {MAX_ROWS} rows", hint="split the manifest")
        item = _item(path, line, row)
        # file systems of macOS and Windows know neither case nor composed accents apart
        key = unicodedata.normalize("NFC", item.name).casefold()
        if key in seen:
            raise UsageError(
                f"{path}, line {line}, column name: {item.name!r} is taken by line {seen[key]}",
                hint="give each row a name of its own in the column name",
            )
        seen[key] = line
        items.append(item)
    if not items:
        raise UsageError(f"{path}: has no rows", hint=HINT)
    return items


def _is_json(path: Path, text: str) -> bool:
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return True
    return path.suffix.lower() != ".csv" and text.lstrip()[:1] == "{"


Rows = Iterator[tuple[int, dict[str, Any]]]


def _csv_rows(path: Path, text: str) -> Rows:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            first, line = line, reader.line_num + 1  # a quoted cell may hold line breaks
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_columns(path, first, header)
                continue
            if len(cells) > len(header):
                raise UsageError(
                    f"{path}, line {first}: has {len(cells)} cells, the header {len(header)}",
                    hint="put cells that hold a comma into double quotes",
                )
            yield first, dict(zip(header, (cell.strip() for cell in cells), strict=False))
    except csv.Error as error:
        raise UsageError(f"{path}, line {max(1, reader.line_num)}: is not CSV: {error}", hint=HINT) from error


def _json_rows(path: Path, text: str) -> Rows:
    for line, content in enumerate(io.StringIO(text), start=1):
        if not content.strip():
            continue
        if len(content) > MAX_FIELD * (len(COLUMNS) + MAX_LIST):
            raise UsageError(f"{path}, line {line}: is too long", hint="one JSON object per line")
        try:
            pairs = json.loads(content, object_pairs_hook=list, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            what = "nested too deeply" if isinstance(error, RecursionError) else error
            raise UsageError(f"{path}, line {line}: is not JSON: {what}", hint="one JSON object per line") from error
        # an object came as pairs, so that a name given twice can be told
        if content.lstrip()[:1] != "{" or not isinstance(pairs, list):
            raise UsageError(f"{path}, line {line}: is no JSON object", hint="one JSON object per line")
        _check_columns(path, line, [name for name, _ in pairs], needs_video=False)
        yield line, {name: value for name, value in pairs if value is not None}


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _check_columns(path: Path, line: int, names: list[str], *, needs_video: bool = True) -> None:
    for position, name in enumerate(names):
        if name not in COLUMNS:
            raise UsageError(f"{path}, line {line}: unknown column {name[:60]!r}", hint=HINT)
        if name in names[:position]:
            raise UsageError(f"{path}, line {line}: column {name} is given twice", hint="keep one of them")
    if needs_video and "video" not in names:
        raise UsageError(f"{path}, line {line}: the header lacks the column video", hint=HINT)


def _item(path: Path, line: int, row: dict[str, Any]) -> Item:
    where = _Row(path, line)
    found = {name: where.value(name, value) for name, value in row.items()}
    found = {name: value for name, value in found.items() if value not in ("", ())}
    if "video" not in found:
        raise where.error("video", "is missing")
    if ("scribbles" in found) == ("masks" in found):
        what = "both are given" if "masks" in found else "neither is given"
        raise where.error("scribbles", f"a row needs either scribbles or masks, {what}")
    paths = {name: where.path(name, found.pop(name)) for name in PATHS if name in found}
    if "checkpoint" in found:
        found["checkpoint"] = tuple(where.path("checkpoint", text) for text in found["checkpoint"])
    video = paths["video"]
    name = found.pop("name", None)
    if name is None:
        name = video.name if video.is_dir() else video.stem
    try:
        check_name(name, "name")
    except DatasetError as error:
        raise where.error("name", f"{name[:60]!r} is not a plain name") from error
    if TAKEN.fullmatch(name):
        raise where.error("name", f"{name!r} is the name of the report")
    return Item(name, video, paths.get("scribbles"), paths.get("masks"), found, line)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row's place, for messages and relative paths."""

    file: Path
    line: int

    def error(self, column: str, what: str) -> MivosError:
        return UsageError(f"{self.file}, line {self.line}, column {column}: {what}", hint=HINT)

    def value(self, column: str, value: Any) -> Any:
        """A cell in its column's type."""
        if column == "size":
            number = isinstance(value, int) and not isinstance(value, bool)
            text = str(value) if number or isinstance(value, str) else "?"
            if text == "":
                return text
            if not (text.isascii() and text.isdigit() and len(text) < 6):
                raise self.error(column, f"{str(value)[:60]!r} is no number of pixels, 0..99999")
            return int(text)
        if column == "snap":
            known = value if isinstance(value, bool) else TRUTH.get(str(value).lower())
            if known is None and value != "":
                raise self.error(column, f"{str(value)[:60]!r} is neither true nor false")
            return "" if known is None else known
        if column in LISTS:
            parts: Iterable[Any] = value.split(";") if isinstance(value, str) else value
            if not isinstance(value, str | list) or len(value) > MAX_LIST * MAX_FIELD:
                raise self.error(column, "is no list of texts")
            texts = tuple(self.text(column, part).strip() for part in parts)
            if len(texts) > MAX_LIST:
                raise self.error(column, f"has more than {MAX_LIST} entries")
            return tuple(text for text in texts if text)
        return self.text(column, value)

    def text(self, column: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self.error(column, "is no text")
        if len(value) > MAX_FIELD:
            raise self.error(column, f"has more than {MAX_FIELD} characters")
        return value

    def path(self, column: str, text: str) -> Path:
        try:
            path = Path(os.path.abspath(self.file.parent / text))
            there = path.exists()
        except (OSError, ValueError) as error:
            raise self.error(column, f"{text[:200]!r} is no path: {error}") from error
        if not there:
            raise self.error(column, f"{path} does not exist")
        return path
