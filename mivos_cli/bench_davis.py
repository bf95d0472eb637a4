"""`mivos bench davis`: the DAVIS interactive benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import typer

from mivos_cli.execution_options import (
    Cluster,
    ExecutorName,
    Retries,
    Shard,
    Workers,
    end_of_share,
    execution,
)
from mivos_cli.options import (
    Checkpoint,
    Device,
    Engine,
    Force,
    Fusion,
    MemoryBudget,
    Model,
    Out,
    Precision,
    Record,
    Sequences,
    choose,
)
from mivos_cli.output import Json, Output, Verbose, path_lines, row_table

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.engine import ModelChoice
    from pipelines.evaluation.eval_tasks import Share


class Settings(TypedDict):
    """Options that decide what is played."""

    subset: str
    sequences: list[str] | None
    model: ModelChoice
    interactions: int
    max_time: int
    samples: int | None
    masks: bool


def davis(
    root: Annotated[Path, typer.Option("--davis", help="DAVIS folder with Scribbles.", show_default=False)],
    output: Out,
    subset: Annotated[
        Literal["train", "val", "trainval"], typer.Option("--subset", help="List in ImageSets to play.")
    ] = "val",
    sequence: Sequences = None,
    interactions: Annotated[int, typer.Option("--interactions", min=1, max=8, help="Scribbles for each sample.")] = 8,
    max_time: Annotated[
        int, typer.Option("--max-time", min=1, max=600, help="Seconds per object for a sample, robot included.")
    ] = 240,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples-per-sequence", min=1, help="Play only the first ones.", show_default="all scribble files"
        ),
    ] = None,
    masks: Annotated[bool, typer.Option("--masks/--no-masks", help="Also keep the last masks of each sample.")] = False,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    memory_budget: MemoryBudget = None,
    fusion: Fusion = "full",
    force: Force = False,
    record: Record = None,
    workers: Workers = None,
    executor: ExecutorName = None,
    cluster: Cluster = None,
    shard: Shard = None,
    retries: Retries = 1,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Play the official DAVIS robot against a model: J&F over time and over interactions.

    The same command goes on after a stop, at the next sample. Timed is the model, from scribble to masks; decoding,
    scoring and the robot are not, but count towards --max-time.
    """
    out = Output(json=json, verbose=verbose)
    choice = choose(model, checkpoint, device, engine, precision, fusion, memory_budget)
    setup = execution(workers, executor, cluster, shard, retries)
    settings: Settings = {
        "subset": subset,
        "sequences": sequence,
        "model": choice,
        "interactions": interactions,
        "max_time": max_time,
        "samples": samples,
        "masks": masks,
    }
    share: Share | None = None
    with out.progress() as progress:
        from pipelines.evaluation.davis_interactive import evaluate_davis_interactive

        if not setup.plain:
            from pipelines.evaluation.davis_tasks import play_sequences

            share = play_sequences(root, output, setup, **settings, force=force, progress=progress)
            force = False  # that was before the first sample
        report = None
        if share is None or share.whole:
            report = evaluate_davis_interactive(
                root, output, **settings, force=force, played_elsewhere=share is not None, progress=progress
            )
    if report is None:
        assert share is not None
        end_of_share(out, share, "sequences")

    from pipelines.evaluation import recorded, records

    records.write_record(record or output / "record.json", recorded.of_davis(report, root, choice))

    def human(console: Console) -> None:
        by_sequence = [
            {
                "": row["sequence"],
                **{name: 100 * row[key] for name, key in (("J", "j"), ("F", "f"), ("J&F", "j_and_f"))},
                "s/sample": row["seconds"],
            }
            for row in report.sequences
        ]
        row_table(console, f"after the last interaction ({report.subset}, {report.samples} samples)", by_sequence)
        curve = [
            {"interaction": row["interaction"], "J&F": 100 * row["j_and_f"], "s": row["seconds"]} for row in report.rows
        ]
        row_table(console, f"{report.model}: mean over objects", curve)
        console.print(f"AUC {100 * report.auc:.2f}, J&F@60s {100 * report.at_60:.2f}")
        if report.cut_short:
            console.print(f"cut short by the time limit: {', '.join(report.cut_short)}", soft_wrap=True)
        if report.missing:
            console.print(f"not there: {', '.join(report.missing)}", soft_wrap=True)
        path_lines(console, report.files)

    out.result(report.to_json(), human)
