"""JSON files that others wrote: read with bounds on bytes, values and depth, so that none of them fills the memory.

A value in Python takes up to 24 times the bytes it has in the file (`[],` is three bytes and a list), so the number of
values is bounded besides the size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stores.errors import MivosError
from stores.files import read_limited

MAX_JSON_BYTES = 64 * 2**20  # as text up to four times as much
MAX_JSON_VALUES = 8_000_000  # some 90 bytes each at worst: 700 MB
MAX_JSON_DEPTH = 100


def read_json(path: Path, error: type[MivosError], *, limit: int = MAX_JSON_BYTES, hint: str | None = None) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark.

    Args:
        error: what to raise.
        limit: bytes the file may have.
        hint: what to do about a file that is no JSON.

    Raises:
        error: it cannot be read, is no JSON, or is over a limit; one line that names the file.
    """
    return parse_json(read_limited(path, limit, error), path, error, hint=hint)


def parse_json(raw: bytes, source: object, error: type[MivosError], *, hint: str | None = None) -> Any:
    """The content of JSON text; `source` names it in messages. Raises as `read_json`."""
    values = raw.count(b",") + raw.count(b"[") + raw.count(b"{") + raw.count(b":")
    if values > MAX_JSON_VALUES:
        raise error(
            f"{source}: holds more than {MAX_JSON_VALUES} JSON values",
            hint="split it, or check that it is the right file",
        )
    try:
        data = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as reason:
        raise error(f"{source}: not JSON: byte {reason.start} is not UTF-8 text", hint=hint) from reason
    except RecursionError as reason:
        raise error(f"{source}: not JSON: is nested too deeply", hint=hint) from reason
    except MemoryError as reason:
        raise error(f"{source}: needs more memory than there is", hint="split it") from reason
    except ValueError as reason:
        raise error(f"{source}: not JSON: {reason}", hint=hint) from reason
    if _too_deep(data):
        raise error(f"{source}: is nested too deeply, more than {MAX_JSON_DEPTH} levels", hint=hint)
    return data


def _too_deep(data: Any) -> bool:
    """Whether lists and objects lie in each other more than `MAX_JSON_DEPTH` times."""
    level = [data]
    for _ in range(MAX_JSON_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += [item for item in value.values() if isinstance(item, dict | list)]
            elif isinstance(value, list):
                inner += [item for item in value if isinstance(item, dict | list)]
        if not inner:
            return False
        level = inner
    return True
