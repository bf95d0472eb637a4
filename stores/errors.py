"""Every error that mivos raises on purpose.

::

    MivosError                  exit 1   something failed
    |-- UsageError              exit 2   the request itself makes no sense
    |-- InputError              exit 1   a file given to us cannot be used
    |   |-- VideoError                   not a video, empty, damaged
    |   |-- ScribbleError                scribble JSON
    |   |-- MaskError                    mask PNGs
    |   `-- DatasetError                 a data set folder
    |-- StoreError              exit 1   a session or an output on disk
    |   |-- SessionNotFoundError
    |   |-- SessionLockedError           another process is writing
    |   |-- OutputExistsError   exit 2   would overwrite; needs --force
    |   `-- StorageFullError             no room or no permission to write
    |-- ModelError              exit 1   weights, devices, engines
    |-- RenderError             exit 1   the synthetic-data renderer
    `-- ClusterError            exit 1   executors and schedulers

The message is one line that says what is wrong and where; `hint` says what to do next. Both can hold names of
files, which may hold anything: `one_line` makes them safe to show.
"""

from __future__ import annotations

MAX_MESSAGE = 5000  # characters of a message; a path alone may have 4,095


def one_line(text: object) -> str:
    """Text as one line that does nothing to a terminal.

    Line breaks and tabs become spaces. Other characters without a picture (control characters, terminal escapes,
    signs that turn the direction of writing, bytes of a name that are no UTF-8) become backslash escapes. What is
    longer than `MAX_MESSAGE` loses its middle.
    """
    line = " ".join(str(text).split())
    if not line.isprintable():
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    if len(line) > MAX_MESSAGE:
        half = MAX_MESSAGE // 2 - 5
        line = f"{line[:half]} [...] {line[-half:]}"
    return line


class MivosError(Exception):
    """Base of all expected failures.

    Args:
        message: one line: what, and in which file, field or frame.
        hint: the next thing to do, also one line.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(one_line(message))
        self.hint = None if hint is None else one_line(hint)


class UsageError(MivosError):
    """The options contradict each other or name something unknown."""

    exit_code = 2


class InputError(MivosError):
    """A given file cannot be used."""


class VideoError(InputError):
    """A video or image folder cannot be read."""


class ScribbleError(InputError):
    """A scribble file is not what it should be."""


class MaskError(InputError):
    """A mask file is not what it should be."""


class DatasetError(InputError):
    """A data set folder lacks a file or has a wrong one."""


class StoreError(MivosError):
    """A session or output folder cannot be read or written."""


class SessionNotFoundError(StoreError):
    """There is no session at this path."""


class SessionLockedError(StoreError):
    """Another process is writing to this session."""


class OutputExistsError(StoreError):
    """An output is already there and overwriting was not asked for."""

    exit_code = 2


class StorageFullError(StoreError):
    """The disk is full or not writable."""


class ModelError(MivosError):
    """Weights, a device or an inference engine cannot be used."""


class RenderError(MivosError):
    """The renderer failed."""


class ClusterError(MivosError):
    """An executor or scheduler failed."""
