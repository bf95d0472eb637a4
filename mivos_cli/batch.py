"""`mivos batch`: segment every video of a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mivos_cli.execution_options import PARTLY_DONE, Cluster, ExecutorName, Retries, Shard, Workers, execution
from mivos_cli.options import (
    DEFAULT_FORMATS,
    Checkpoint,
    Device,
    Engine,
    Format,
    Fusion,
    ImportFrames,
    KeepFrames,
    MemoryBudget,
    Model,
    Out,
    Precision,
    Size,
    Snap,
    choose,
    unique_formats,
)
from mivos_cli.output import Json, Output, Verbose, path_lines, row_table

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 50  # in the table; all are in the report


def batch(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST",
            help="CSV with a header, or JSON Lines: video, and scribbles or masks; name; options of the row.",
            show_default=False,
        ),
    ],
    output: Out,
    snap: Snap = False,
    import_frames: ImportFrames = "10",
    size: Size = 480,
    frames: KeepFrames = "exact",
    fusion: Fusion = "full",
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    memory_budget: MemoryBudget = None,
    formats: Format = DEFAULT_FORMATS,
    force: Annotated[
        bool, typer.Option("--force", help="Make finished items again.", rich_help_panel="Output")
    ] = False,
    workers: Workers = None,
    executor: ExecutorName = None,
    cluster: Cluster = None,
    shard: Shard = None,
    retries: Retries = 1,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Segment every video of a manifest, each into OUT/NAME.

    Run again to do what is left. A video that fails stops no other and is named at the end; the exit code is 3 then.
    """
    setup = execution(workers, executor, cluster, shard, retries)
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from pipelines.batch import run_batch

        report = run_batch(
            manifest,
            output,
            size=size or None,
            snap=snap,
            import_frames=import_frames,
            frames=frames,
            model=choose(model, checkpoint, device, engine, precision, fusion, memory_budget),
            formats=unique_formats(formats),
            force=force,
            setup=setup,
            progress=progress,
        )
    counts = report.to_json()["counts"]

    def human(console: Console) -> None:
        # of many, those that failed matter
        shown = report.items if len(report.items) <= MOST_ROWS else report.failed[:MOST_ROWS]
        rows = [
            {
                "name": item.name,
                "state": "was done" if item.resumed else item.state,
                "frames": item.frames,
                "seconds": item.seconds,
                "attempts": item.attempts,
            }
            for item in shown
        ]
        title = "{done} done, {resumed} were done, {failed} failed".format(**counts)
        row_table(console, title, rows) if rows else console.print(title)
        for item in report.failed[:MOST_ROWS]:
            hint = f" ({item.hint})" if item.hint else ""
            console.print(f"failed: {item.name}: {item.stage}: {item.error}{hint}", soft_wrap=True)
        path_lines(console, {"report": report.files["json"], "table": report.files["csv"]})

    out.result(report.to_json(), human)
    if report.failed:
        raise typer.Exit(PARTLY_DONE)
