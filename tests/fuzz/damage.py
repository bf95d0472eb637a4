"""Strategies: what goes wrong in files. Damage to bytes, and edits to JSON that leave it JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

NUMBERS = [0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
HOSTILE_TEXT = [
    "", ".", "..", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "C:\\x", "a\0b", "\x1b[31m\x1b]0;x\x07", "a\nb",
    "\u202e gnp", "\ud800", "\udcff", "a" * 5000, "%s%n", "00000", "-1", "1e400", "http://127.0.0.1:9/x", "\x7f",
]  # fmt: skip
HOSTILE_NUMBERS = [
    -1, 0, 1, 2, 254, 255, 256, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e308, 1e-320, float("inf"),
    float("-inf"), float("nan"), 1.0000001,
]  # fmt: skip

hostile_text = st.one_of(st.sampled_from(HOSTILE_TEXT), st.text(max_size=6))
leaves = st.one_of(st.none(), st.booleans(), st.sampled_from(HOSTILE_NUMBERS), st.integers(-2, 300), hostile_text)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(hostile_text, inner, max_size=3)),
    max_leaves=5,
)
# where, as a fraction of the length; hypothesis likes 0, which would mostly hit the first byte
places = st.integers(0, 2**16 - 1).map(lambda number: (number * 40503 + 29000) % 2**16 / 2**16)


@st.composite
def damaged(draw: Callable[..., Any], seed: bytes, *, most: int = 4, ends: bool = False) -> bytes:
    """`seed` with a few bytes changed, cut, inserted, moved or doubled.

    Args:
        ends: prefer the first and last KB, where headers and indices are.
    """
    data = bytearray(seed)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, most]))):
        where = draw(places)
        if ends and draw(st.integers(0, 3)):
            near = min(len(data), 1024)
            at = int(where * near) if draw(st.booleans()) else len(data) - near + int(where * near)
        else:
            at = int(where * len(data))
        span = draw(st.sampled_from([1, 1, 2, 4, 8, 64, 700]))
        kind = draw(st.sampled_from(["flip", "number", "bytes", "cut", "drop", "insert", "double", "swap", "zero"]))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "number":
            order = draw(st.sampled_from(["little", "big"]))
            width = draw(st.sampled_from([1, 2, 4]))
            number = draw(st.sampled_from(NUMBERS)) & ((1 << 8 * width) - 1)
            data[at : at + width] = number.to_bytes(width, order)
        elif kind == "bytes":
            data[at : at + span] = draw(st.binary(max_size=8))
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + span]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=8))
        elif kind == "double":
            data[at:at] = data[at : at + span]
        elif kind == "swap":
            other = int(draw(places) * len(data))
            data[at : at + span], data[other : other + span] = data[other : other + span], data[at : at + span]
        elif kind == "zero":
            data[at : at + span] = bytes(len(data[at : at + span]))
    return bytes(data)


@st.composite
def edited(draw: Callable[..., Any], document: Any, *, most: int = 3) -> Any:
    """A copy of a JSON document with 0..`most` values or keys replaced, removed, doubled or wrapped."""
    holder = [copy.deepcopy(document)]
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2, most]))):
        spots = _spots(holder)
        parent, key = spots[int(draw(places) ** 2 * len(spots))]  # the first ones are the outer ones
        kind = draw(st.sampled_from(["value", "value", "value", "remove", "double", "wrap", "key", "many"]))
        if kind == "remove" and parent is not holder:
            del parent[key]
        elif kind == "double" and isinstance(parent, list) and parent is not holder:
            parent.insert(key, copy.deepcopy(parent[key]))
        elif kind == "many" and isinstance(parent[key], list) and parent[key]:
            parent[key] = parent[key][:1] * draw(st.sampled_from([0, 2, 255, 300, 2000]))
        elif kind == "wrap":
            parent[key] = [parent[key]]
        elif kind == "key" and isinstance(parent, dict):
            parent[draw(hostile_text)] = parent.pop(key)
        else:
            parent[key] = draw(values)
    return holder[0]


def _spots(holder: list[Any]) -> list[tuple[Any, Any]]:
    """(container, key) of every value, the outer ones first; bounded."""
    spots: list[tuple[Any, Any]] = [(holder, 0)]
    for parent, key in spots:
        if len(spots) > 300:
            break
        value = parent[key]
        if isinstance(value, dict):
            spots += [(value, name) for name in value]
        elif isinstance(value, list):
            spots += [(value, index) for index in range(min(len(value), 20))]
    return spots


ODD_TEXTS = [
    b"", b"\xef\xbb\xbf", b"null", b"[]", b"{}", b"\xff\xfe{\x00}\x00", b"1" * 5000, b"NaN", b"\x00" * 100,
    b"[" * 100_000, b'{"a":' * 5000, b"[" + b"0," * 300_000 + b"0]", b'"' + b"a" * 100_000 + b'"',
    b'{"scribbles": [' + b"[]," * 50_000 + b"[]]}",
]  # fmt: skip


@st.composite
def json_files(draw: Callable[..., Any], documents: st.SearchStrategy[Any]) -> bytes:
    """Bytes of a file that should be JSON: edited documents, some damaged as text too, and what is no JSON."""
    kind = 19 - draw(st.integers(0, 19))
    if kind == 0:
        return draw(st.one_of(st.binary(max_size=200), st.sampled_from(ODD_TEXTS)))
    if kind == 1:
        return json.dumps(draw(values)).encode()
    text = json.dumps(draw(edited(draw(documents))), ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    return draw(damaged(text)) if kind <= 4 else text
