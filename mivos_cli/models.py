"""`mivos models`: the authors' checkpoints on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mivos_cli.options import Force
from mivos_cli.output import Json, Output, Verbose, path_lines, row_table
from stores.errors import ModelError, OutputExistsError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from pipelines.models import Status

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="Names as in `mivos models list`.", show_default=False),
]
Replace = Annotated[bool, typer.Option("--force", help="Replace what is installed.")]


def list_known(json: Json = False, verbose: Verbose = False) -> None:
    """Show the known checkpoints and which are installed; -v adds addresses and hashes."""
    from pipelines import models

    out = Output(json=json, verbose=verbose)
    entries = models.status()
    folder = models.store_dir()

    def human(console: Console) -> None:
        rows = [
            {
                "name": entry.checkpoint.name,
                "state": entry.state,
                "MB": round(entry.bytes / 1e6, 1) if entry.bytes else None,
                "used by": ", ".join(entry.checkpoint.used_by) or "-",
                "licence": entry.checkpoint.licence,
                "note": entry.checkpoint.note,
            }
            for entry in entries
        ]
        row_table(console, f"checkpoints in {folder}", rows)
        if verbose:
            path_lines(console, {entry.checkpoint.name: _origin(entry) for entry in entries})

    listed = [{**asdict(entry.checkpoint), **asdict(entry), "checkpoint": entry.checkpoint.name} for entry in entries]
    out.result({"folder": str(folder), "checkpoints": listed}, human)


def download(
    names: Names = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="All that this model needs: mivos or mivos-stcn.", show_default=False),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            help="A mirror that has the files under their names; also $MIVOS_MODELS_URL.",
            show_default="the authors' addresses",
        ),
    ] = None,
    force: Replace = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Download checkpoints; run it again after a break and it goes on."""
    from pipelines import models

    wanted = [*(names or []), *(models.needed(model) if model else [])]
    if not wanted:
        raise UsageError("nothing to download was named", hint="give names, or --model mivos or --model mivos-stcn")
    out = Output(json=json, verbose=verbose)
    with _byte_bars(out) as progress:
        arrivals = models.download(wanted, base_url=mirror, force=force, progress=progress)
    _show_arrivals(out, [asdict(arrival) for arrival in arrivals])


def verify(names: Names = None, json: Json = False, verbose: Verbose = False) -> None:
    """Check hashes and contents of installed checkpoints; all of them without names.

    The result is printed also when some file is damaged; the exit code is 1 then.
    """
    from pipelines import models

    out = Output(json=json, verbose=verbose)
    results = models.verify(names or [])

    def human(console: Console) -> None:
        for result in results:
            console.print(f"{result.name}: {result.problem or 'sound'}", soft_wrap=True)
        if not results:
            console.print(f"nothing is installed in {models.store_dir()}", soft_wrap=True)

    out.result({"checkpoints": [asdict(result) for result in results]}, human)
    damaged = [result.name for result in results if result.problem]
    if damaged:
        again = " ".join(damaged)
        raise ModelError(f"damaged: {', '.join(damaged)}", hint=f"mivos models download --force {again}")


def path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name as in `mivos models list`.", show_default=False)],
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Print where an installed checkpoint is."""
    from pipelines import models

    out = Output(json=json, verbose=verbose)
    found = models.path(name)
    out.result({"name": name, "path": str(found)}, lambda console: console.print(str(found), soft_wrap=True))


def import_checkpoint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth or .safetensors file.", show_default=False)],
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Which checkpoint it is.", show_default="recognised"),
    ] = None,
    force: Replace = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Put a checkpoint file that you have into place; which network it holds is recognised."""
    from pipelines import models

    out = Output(json=json, verbose=verbose)
    _show_arrivals(out, [asdict(models.import_file(file, name, force=force))])


def average(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Weight files of one network.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--out", "-o", help="The new file (safetensors).", show_default=False)],
    force: Force = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write the mean of several runs that began with the same weights."""
    if output.exists() and not force:
        raise OutputExistsError(f"{output} is there already", hint="--force replaces it, or choose another --out")
    from pipelines.training.averaging import average_weights

    out = Output(json=json, verbose=verbose)
    network = average_weights(files, output)
    out.result({"network": network, "out": str(output)}, lambda console: path_lines(console, {network: str(output)}))


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_known,
    "download": download,
    "verify": verify,
    "path": path,
    "import": import_checkpoint,
    "average": average,
}


def _origin(entry: Status) -> str:
    """Address, size and hash; the authors published neither of the last two."""
    published = entry.checkpoint
    size = f"{published.size} bytes" if published.size else "size unknown"
    return f"{published.page}  {size}  SHA-256 {published.sha256 or entry.recorded_sha256 or 'unknown'}"


def _show_arrivals(out: Output, arrivals: list[dict[str, Any]]) -> None:
    def human(console: Console) -> None:
        for arrival in arrivals:
            state = "new" if arrival["fresh"] else "was there"
            console.print(f"{arrival['name']} ({state}): {arrival['path']}", soft_wrap=True)

    out.result({"checkpoints": arrivals}, human)


@contextmanager
def _byte_bars(out: Output) -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress callback for bytes, drawn on stderr; nothing where no bars can be drawn."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    visible = out.stderr.is_terminal and not out.json
    with Progress(*columns, TimeRemainingColumn(), console=out.stderr, disable=not visible) as bars:
        tasks: dict[str, TaskID] = {}

        def update(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield update
