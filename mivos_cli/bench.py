"""`mivos bench`: quality on the dev split, and speed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mivos_cli.options import Device, Engine, Model, device_name
from mivos_cli.output import Json, Output, Verbose, row_table

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_OBJECTS = [1, 3]


def dev(
    data: Annotated[
        Path,
        typer.Option("--data", help="Data root in DAVIS layout, with ImageSets/2017/val.txt.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write masks and scores here.", show_default=False),
    ] = None,
    sequence: Annotated[
        list[str] | None,
        typer.Option("--sequence", help="Only this one; repeat for several.", show_default="all of the split"),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Also score the simple methods to beat.")
    ] = True,
    model: Model = "nano",
    device: Device = "auto",
    engine: Engine = "auto",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Score masks propagated from the first frame's true mask: J, F and their mean."""
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from pipelines.evaluation.dev_split import evaluate_dev_split

        report = evaluate_dev_split(
            data,
            model=model,
            device=device_name(device),
            engine=engine,
            baselines=baselines,
            sequences=sequence,
            out=output,
            progress=progress,
        )

    def human(console: Console) -> None:
        scores = {(row.method, row.sequence): row.jf for row in report.rows}
        by_sequence = [
            {"J&F": name, **{method: scores.get((method, name)) for method in report.methods}}
            for name in report.sequences
        ]
        row_table(console, f"J&F by sequence ({report.split}; {report.scorer})", by_sequence)
        row_table(console, "mean over objects", [asdict(report.mean(method)) for method in report.methods])

    out.result(report.to_json(), human)


def strokes(
    data: Annotated[
        Path,
        typer.Option("--data", help="Data root in DAVIS layout, with Scribbles/.", show_default=False),
    ],
    sequence: Annotated[
        list[str] | None,
        typer.Option("--sequence", help="Only this one; repeat for several.", show_default="all of the split"),
    ] = None,
    model: Model = "nano",
    device: Device = "auto",
    engine: Engine = "auto",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Score the mask of one frame from one scribble file: J of the interacted frame."""
    out = Output(json=json, verbose=verbose)
    with out.progress():
        from pipelines.evaluation.dev_split import evaluate_s2m

        report = evaluate_s2m(data, model=model, device=device_name(device), engine=engine, sequences=sequence)

    def human(console: Console) -> None:
        row_table(console, f"{report.model}: mean J {report.mean:.3f}", [asdict(row) for row in report.rows])

    out.result(report.to_json(), human)


def speed(
    objects: Annotated[
        list[int], typer.Option("--objects", min=1, help="Number of objects; repeat for several.")
    ] = DEFAULT_OBJECTS,
    frames: Annotated[int, typer.Option("--frames", min=1, help="Frames to measure over.")] = 40,
    size: Annotated[int, typer.Option("--size", min=16, help="Shorter side of the frames.")] = 480,
    model: Model = "nano",
    device: Device = "auto",
    engine: Engine = "auto",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure frames per second from the decoded frame to the stored mask."""
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from pipelines.evaluation.speed import measure_speed

        report = measure_speed(
            model=model,
            device=device_name(device),
            engine=engine,
            objects=tuple(objects),
            frames=frames,
            size=size,
            progress=progress,
        )

    def human(console: Console) -> None:
        rows = [
            {
                "objects": row.objects,
                "frames": row.frames,
                **{f"{stage} (s)": seconds for stage, seconds in row.stages.items()},
                "frames/s": row.frames_per_second,
                "startup (s)": row.startup,
                "peak memory (MB)": row.peak_rss_mb,
            }
            for row in report.rows
        ]
        where = f"{report.device}, {report.engine}, {report.threads} threads"
        row_table(console, f"{report.model} at {report.width}x{report.height} ({where})", rows)

    out.result(report.to_json(), human)
