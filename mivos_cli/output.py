"""Where words go: results on stdout (a table, or JSON with --json), everything else on stderr.

A command that fails therefore leaves stdout empty, and a program can read stdout without filtering.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stores.errors import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.flow import Progress, StageReport

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel="Output")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.", rich_help_panel="Output")]


class Output:
    """What one command tells, and in which form.

    Args:
        json: print results as JSON and draw no progress bars.
        verbose: also pass on the log, and progress as plain lines where no bars can be drawn.
    """

    def __init__(self, *, json: bool = False, verbose: bool = False) -> None:
        from rich.console import Console

        self.json = json
        self.verbose = verbose
        # Names of files and commits are shown as they are, square brackets and colons included.
        plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
        self.stdout = Console(**plain)
        self.stderr = Console(stderr=True, **plain)
        log = logging.getLogger("mivos")
        log.handlers = [_ConsoleHandler(self.stderr)]
        log.setLevel(logging.DEBUG if verbose else logging.WARNING)
        log.propagate = False
        if not verbose and not sys.warnoptions:
            # Warnings of libraries are for their users, the programmers; ours come through the log.
            warnings.simplefilter("ignore")

    def result(self, data: Mapping[str, Any], human: Callable[[Console], None]) -> None:
        """Hand over the result: `data` as JSON, or whatever `human` prints on stdout."""
        if self.json:
            typer.echo(json.dumps(data, indent=2, default=str))
        else:
            human(self.stdout)

    @contextmanager
    def progress(self) -> Iterator[Callable[[Progress], None]]:
        """The progress callback for the `pipelines`, drawn on stderr while the block runs."""
        from mivos_cli.progress import Bars, plain_lines

        if self.stderr.is_terminal and not self.json:
            with Bars(self.stderr) as bars:
                yield bars.update
        elif self.verbose:
            yield plain_lines(self.stderr)
        else:
            yield lambda progress: None


class _ConsoleHandler(logging.Handler):
    """Log records as `warning: ...` lines above the progress bars."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        line = one_line(f"{record.levelname.lower()}: {record.getMessage()}")
        self.console.print(line, soft_wrap=True)


def stage_table(console: Console, title: str, stages: Sequence[StageReport]) -> None:
    """Frames and seconds of each stage."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("stage")
    for column in ("frames", "seconds", "frames/s"):
        table.add_column(column, justify="right")
    for stage in stages:
        if stage.skipped:
            table.add_row(stage.stage, str(stage.frames), "-", "already done")
        else:
            rate = f"{stage.frames / stage.seconds:.1f}" if stage.seconds > 0 else "-"
            table.add_row(stage.stage, str(stage.frames), f"{stage.seconds:.2f}", rate)
    console.print(table)


def row_table(console: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table with the rows' own keys as columns; numbers to the right, floats with two decimals."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        numeric = all(isinstance(row.get(column), int | float | None) for row in rows)
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console.print(table)


def path_lines(console: Console, paths: Mapping[str, str]) -> None:
    """One `name  path` line each; never wrapped, so that a path can be copied."""
    width = max(map(len, paths), default=0)
    for name, path in paths.items():
        # a program takes the path as it is, a terminal would obey what the name of a file says
        shown = one_line(path) if console.is_terminal else path
        console.print(f"{name:<{width}}  {shown}", soft_wrap=True)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else one_line(value)
