"""`mivos bench long`: what a memory budget costs in quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mivos_cli.options import Checkpoint, DataRoot, Device, Engine, Model, Precision, Record, Sequences, choose
from mivos_cli.output import Json, Output, Verbose, row_table

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_MEMORIES = ["none", "model", "6", "12"]


def long(
    data: DataRoot,
    memory: Annotated[
        list[str],
        typer.Option(
            "--memory",
            metavar="none|model|FRAMES|MB",
            help="Bound to try; repeat for several. none: all is kept, model: the model's own rule.",
        ),
    ] = DEFAULT_MEMORIES,
    frames: Annotated[int, typer.Option("--frames", min=3, help="Length of every sequence.")] = 400,
    size: Annotated[int, typer.Option("--size", min=16, help="Shorter side of the frames.")] = 480,
    sequence: Sequences = None,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    record: Record = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Score sequences made long by going forward and backward, under several bounds of memory."""
    out = Output(json=json, verbose=verbose)
    choice = choose(model, checkpoint, device, engine, precision)
    with out.progress() as progress:
        from pipelines.evaluation.long import measure_long

        report = measure_long(
            data,
            model=choice,
            memories=tuple(dict.fromkeys(memory)),
            frames=frames,
            size=size,
            sequences=sequence or None,
            progress=progress,
        )
    if record is not None:
        from pipelines.evaluation import recorded, records

        records.write_record(record, recorded.of_long(report, data, choice))

    def human(console: Console) -> None:
        rows = []
        for bound in report.memories:
            mean = report.mean(bound)
            rows.append(
                {
                    "memory": bound,
                    "J&F": mean["jf"],
                    "first turn": mean["jf_first"],
                    "last turn": mean["jf_last"],
                    "s/frame": mean["seconds_per_frame"],
                    "memory (MB)": mean["memory_mb"],
                }
            )
        count = len(report.rows) // len(report.memories)
        row_table(console, f"{report.model}, {count} sequences of {frames} frames, shorter side {report.size}", rows)

    out.result(report.to_json(), human)
