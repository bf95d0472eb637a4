"""The `mivos` command: which commands there are, and what exit code each kind of failure gets.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but for what was named, 130 interrupted, 141 the reader of our
output went away. Nothing heavy is imported here or in the command modules, so that help and completion answer at once.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NoReturn

import typer

from mivos_cli import (
    __version__,
    batch,
    bench,
    bench_compare,
    bench_confidence,
    bench_davis,
    bench_gui,
    bench_long,
    correspond,
    data,
    evaluate,
    gui_command,
    models,
    render,
    session,
    session_tools,
    synth,
    train,
)
from stores.errors import MivosError, one_line

INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + 13  # SIGPIPE by number: Windows has no such signal, but readers that leave, too

app = typer.Typer(
    name="mivos",
    help="Interactive video object segmentation: scribble on a frame, get masks for the whole video.",
    epilog="Start here: mivos segment VIDEO --scribbles SCRIBBLES.json -o OUT",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench_app = typer.Typer(help="Measure quality and speed.", no_args_is_help=True)
eval_app = typer.Typer(help="Semi-supervised benchmarks: follow given masks, score, pack.", no_args_is_help=True)
data_app = typer.Typer(help="Data sets for training.", no_args_is_help=True)
session_app = typer.Typer(help="Check, repair and compact a session.", no_args_is_help=True)
models_app = typer.Typer(help="Checkpoints of the authors: download, verify, import.", no_args_is_help=True)


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    try:
        app(prog_name="mivos")
    except KeyboardInterrupt:
        _leave_now(_interrupted())
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            _leave_now(INTERRUPTED)
        raise


def _leave_now(code: int) -> NoReturn:
    """End without Python's shutdown: libraries' threads may be in mid-work, and closing them from here fails.

    What was committed is on disk already (a killed process loses nothing either), locks go with the process.
    """
    for child in multiprocessing.active_children():
        child.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command: each failure becomes one line (and a hint) on stderr and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt) as error:
            raise typer.Exit(_explain(error)) from error

    return run


def _explain(error: BaseException) -> int:
    """Tell the user about `error` on stderr; returns the exit code."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _interrupted()
    if isinstance(error, BrokenPipeError):
        # Python flushes stdout once more on its way out; give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    if os.environ.get("MIVOS_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, MivosError):
        _say("error", error)
        if error.hint:
            _say("hint", error.hint)
        return error.exit_code
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        _say("error", f"{error.strerror}{where}")
        return 1
    _say("error", f"unexpected {type(error).__name__}: {error}")
    _say("hint", "set MIVOS_DEBUG=1 for the traceback")
    return 1


def _interrupted() -> int:
    typer.echo("interrupted; the same command continues where this one stopped", err=True)
    return INTERRUPTED


def _say(label: str, message: object) -> None:
    """One line on stderr, whatever line breaks a library put into its message."""
    typer.echo(f"{label}: {one_line(message)}", err=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mivos {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Segment": {
        "segment": session.segment,
        "batch": batch.batch,
        "gui": gui_command.gui,
        "info": session.info,
        "undo": session.undo,
        "redo": session.redo,
    },
    "Single stages": {
        "decode": session.decode,
        "interact": session.interact,
        "propagate": session.propagate,
        "fuse": session.fuse,
        "encode": session.encode,
        "correspond": correspond.correspond,
    },
    "Measure and train": {"render-bl30k": render.render_bl30k, "gen-fusion": synth.gen_fusion, "train": train.train},
}

BENCHMARKS: dict[str, Callable[..., None]] = {
    "davis": bench_davis.davis,
    "dev": bench.dev,
    "strokes": bench.strokes,
    "clicks": bench.clicks,
    "speed": bench.speed,
    "inference": bench.inference,
    "long": bench_long.long,
    "confidence": bench_confidence.confidence,
    "gui": bench_gui.gui,
    "growth": bench_compare.growth,
    "compare": bench_compare.compare,
}


def _fill(group: typer.Typer, commands: Mapping[str, Callable[..., None]], panel: str | None = None) -> None:
    for name, function in commands.items():
        group.command(name, rich_help_panel=panel)(guarded(function))


for title, members in COMMANDS.items():
    _fill(app, members, title)
_fill(bench_app, BENCHMARKS)
_fill(eval_app, evaluate.COMMANDS)
_fill(data_app, data.COMMANDS)
_fill(models_app, models.COMMANDS)
_fill(session_app, session_tools.COMMANDS)
app.add_typer(session_app, name="session", rich_help_panel="Segment")
app.add_typer(bench_app, name="bench", rich_help_panel="Measure and train")
app.add_typer(eval_app, name="eval", rich_help_panel="Measure and train")
app.add_typer(data_app, name="data", rich_help_panel="Measure and train")
app.add_typer(models_app, name="models", rich_help_panel="Checkpoints")
