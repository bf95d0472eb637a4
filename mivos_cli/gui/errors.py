"""Failures as the page sees them: a status and a JSON object with one line and perhaps a hint."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

from stores.errors import (
    InputError,
    MivosError,
    OutputExistsError,
    SessionLockedError,
    SessionNotFoundError,
    UsageError,
)

# the first that fits; everything else is ours to mend
STATUSES: tuple[tuple[type[MivosError], int], ...] = (
    (SessionNotFoundError, 404),
    (SessionLockedError, 409),
    (OutputExistsError, 409),
    (UsageError, 400),
    (InputError, 400),
)


class ApiError(MivosError):
    """A request that cannot be served, with the status that says why.

    Args:
        status: of HTTP: 400 nonsense, 401 no token, 403 foreign, 404 not there, 409 not now, 413 too large.
    """

    def __init__(self, status: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def status_of(error: BaseException) -> int:
    """The HTTP status for any exception."""
    if isinstance(error, ApiError):
        return error.status
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


def explain(error: BaseException) -> dict[str, Any]:
    """{"error": one line, "hint": one line or None} for any exception; MIVOS_DEBUG=1 traces the unexpected ones."""
    if isinstance(error, MivosError):
        return {"error": _line(error), "hint": error.hint and _line(error.hint)}
    if isinstance(error, OSError) and error.strerror:
        return {"error": error.strerror + (f": {error.filename}" if error.filename else ""), "hint": None}
    if os.environ.get("MIVOS_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    what = _line(error)
    return {
        "error": f"unexpected {type(error).__name__}" + (f": {what}" if what else ""),
        "hint": "start mivos with MIVOS_DEBUG=1 for the traceback",
    }


def _line(message: object) -> str:
    return " ".join(str(message).split())
