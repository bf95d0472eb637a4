"""Opening annotation files that anybody may have made: zip archives, JSON and XML, all with limits."""

from __future__ import annotations

import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.parsers import expat

from stores.errors import MaskError
from stores.files import read_limited

MAX_BYTES = 256 * 2**20
MAX_MEMBERS = 100_000
DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, OSError, EOFError, ValueError
)  # fmt: skip
MAX_DEPTH = 64  # of XML elements; CVAT needs six


def looks_like_document(path: Path) -> bool:
    """Whether a file begins like JSON, XML or a zip archive."""
    try:
        with open(path, "rb") as file:
            head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return False
    return head[:1] in (b"<", b"{", b"[") or head.startswith(b"PK\x03\x04")


def load_document(path: Path) -> tuple[Path, bytes]:
    """The text of an annotation file, of the one inside if it is a zip archive; with the name that messages give it.

    Raises:
        MaskError: it cannot be read, is too large, or the archive holds no annotations.
    """
    data = read_limited(path, MAX_BYTES, MaskError)
    if data.startswith(b"PK\x03\x04"):
        path, data = _from_archive(path, data)
    return path, data.removeprefix(b"\xef\xbb\xbf")


def _from_archive(path: Path, packed: bytes) -> tuple[Path, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            names = [name for name in archive.namelist()[:MAX_MEMBERS] if not name.startswith("__MACOSX/")]
            xml = [name for name in names if name.lower().endswith(".xml")]
            found = [name for name in xml if name.rsplit("/", 1)[-1] == "annotations.xml"] or xml
            found = found or [name for name in names if name.lower().endswith(".json")]
            if len(found) != 1:
                what = "no annotations in it" if not found else f"{len(found)} annotation files, such as {found[0]}"
                raise MaskError(f"{path}: the archive has {what}", hint="unpack it and give one XML or JSON file")
            with archive.open(found[0]) as member:
                data = member.read(MAX_BYTES + 1)  # what the archive says about the size is only a claim
    except DAMAGED as error:
        raise MaskError(f"{path}: the archive cannot be read: {str(error) or type(error).__name__}") from error
    if len(data) > MAX_BYTES:
        raise MaskError(f"{path}: {found[0]} is larger than {MAX_BYTES // 2**20} MB")
    return path / found[0], data


def parse_json(path: Path, data: bytes) -> Any:
    """JSON to Python.

    Raises:
        MaskError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise MaskError(f"{path}: not JSON: byte {error.start} is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MaskError(f"{path}: not JSON: {reason}") from error


def parse_xml(
    path: Path, data: bytes, start: Callable[[str, dict[str, str], int], None], end: Callable[[str, str], None]
) -> None:
    """Walk through XML; nothing is kept in memory.

    Document types are refused: no annotation tool writes one, and entities, the means of attack, need one.

    Args:
        start: gets tag, attributes and line of an element that opens; end: tag and text of one that closes.

    Raises:
        MaskError: it is not XML, or has a document type.
    """
    parser = expat.ParserCreate()
    texts: list[list[str]] = []

    def refuse(*_: Any) -> None:
        raise MaskError(
            f"{path}: line {parser.CurrentLineNumber}: declares a document type, which annotations have no need for",
            hint="remove <!DOCTYPE ...> if you trust the file",
        )

    def opened(tag: str, attributes: dict[str, str]) -> None:
        if len(texts) >= MAX_DEPTH:
            raise MaskError(f"{path}: line {parser.CurrentLineNumber}: is nested more than {MAX_DEPTH} deep")
        texts.append([])
        start(tag, attributes, parser.CurrentLineNumber)

    def closed(tag: str) -> None:
        end(tag, "".join(texts.pop()).strip())

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = opened, closed
    parser.CharacterDataHandler = lambda text: texts[-1].append(text) if texts else None
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise MaskError(f"{path}: not XML: {error}") from error
    except (LookupError, ValueError) as error:  # an encoding that Python lacks
        raise MaskError(f"{path}: not XML: {error}") from error
