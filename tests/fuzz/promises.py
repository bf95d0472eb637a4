"""What every reader promises: a value, or one plain line that names the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stores.errors import MivosError, one_line

MAX_LENGTH = 6000  # of an error line


@dataclass(frozen=True)
class Reader:
    """One target.

    Attributes:
        check: reads the file and asserts what must hold.
        errors: what it may raise; named: whether the message must name the file (or one inside the folder).
        start: loads what is slow to load, before memory is bounded.
    """

    check: Callable[[Path], None]
    errors: tuple[type[MivosError], ...]
    named: bool = True
    start: Callable[[], object] = lambda: None

    def warm_up(self) -> None:
        self.start()

    def problem_of(self, error: MivosError, path: Path) -> str | None:
        """What is wrong with an error, None if it is as it should be."""
        message = str(error)
        if not isinstance(error, self.errors):
            return f"an error of another kind, {type(error).__name__}"
        for text in (message, error.hint or ""):
            if text != one_line(text) or len(text) > MAX_LENGTH:
                return "more than one plain line"
        return "the file is not named" if self.named and one_line(path) not in message else None


@contextmanager
def may_refuse(kind: type[MivosError], path: Path) -> Iterator[None]:
    """A second reader of a file that the first one took; its error must be right too, but the case counts as read."""
    try:
        yield
    except MivosError as error:
        problem = Reader(lambda path: None, (kind,)).problem_of(error, path)
        assert problem is None, (problem, str(error))
