"""Commands that make training data: `mivos gen-fusion`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from mivos_cli.execution_options import PARTLY_DONE, Cluster, ExecutorName, Retries, Shard, Workers, execution
from mivos_cli.options import Checkpoint, Device, Engine, Model, Precision, choose
from mivos_cli.output import Json, Output, Verbose, path_lines

if TYPE_CHECKING:
    from rich.console import Console


class Settings(TypedDict):
    """Options that decide what is written."""

    separation: int
    reach: int | None
    mem_every: int | None
    size: int | None


def gen_fusion(
    data: Annotated[Path, typer.Option("--data", help="Data root in DAVIS or BL30K layout.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder of this run, for `mivos train fusion --fusion-data`, which reads DATA/fusion if not told.",
            show_default=False,
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option("--split", help="ImageSets/2017/<split>.txt.", show_default="train, or every video without lists"),
    ] = None,
    videos: Annotated[
        list[str] | None, typer.Option("--videos", help="Only this one; repeat for several.", show_default="all")
    ] = None,
    start: Annotated[
        int | None, typer.Option("--start", min=0, help="First video, counted from 0.", show_default="the first")
    ] = None,
    end: Annotated[
        int | None, typer.Option("--end", min=0, help="Last video, itself included.", show_default="the last")
    ] = None,
    separation: Annotated[int, typer.Option("--separation", min=1, help="Frames between reference frames.")] = 25,
    reach: Annotated[
        int | None,
        typer.Option("--range", min=1, help="Frames to go from a reference.", show_default="the whole video"),
    ] = None,
    mem_freq: Annotated[
        int | None,
        typer.Option("--mem-freq", min=1, help="Frames between permanent memory frames.", show_default="the model's"),
    ] = None,
    size: Annotated[
        int, typer.Option("--size", min=0, help="Shorter side of frames and maps, never enlarged; 0: as the data.")
    ] = 0,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    workers: Workers = None,
    executor: ExecutorName = None,
    cluster: Cluster = None,
    shard: Shard = None,
    retries: Retries = 1,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Propagate true masks of reference frames: the training data of the fusion network.

    Run again to continue. A video that cannot be read is skipped and named at the end; the exit code is 3 then.
    """
    setup = execution(workers, executor, cluster, shard, retries)
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from pipelines.engine import networks
        from pipelines.flow import Progress
        from pipelines.synthesis.fusion_data import generate_fusion
        from pipelines.synthesis.fusion_videos import find_fusion_videos

        found = find_fusion_videos(data, split=split, videos=videos or None, start=start, end=end)
        choice = choose(model, checkpoint, device, engine, precision)
        settings: Settings = {"separation": separation, "reach": reach, "mem_every": mem_freq, "size": size or None}
        if setup.plain:
            report = generate_fusion(
                found,
                output,
                networks(choice),
                **settings,
                progress=lambda done, total: progress(Progress("gen-fusion", done, total)),
            )
        else:
            from pipelines.synthesis.fusion_tasks import generate_fusion_with

            report = generate_fusion_with(setup, found, output, choice, **settings, progress=progress)

    def human(console: Console) -> None:
        already = f", {report.existing} were there" if report.existing else ""
        empty = f", {report.empty} frames without an object" if report.empty else ""
        made = f"{report.references} new references ({report.maps} maps) of {report.videos} videos{already}{empty}"
        path_lines(console, {made: report.out})
        for failure in report.failed:
            console.print(f"not finished: {failure.video}: {failure.problem}", soft_wrap=True)

    out.result(report.to_json(), human)
    if report.failed:
        raise typer.Exit(PARTLY_DONE)
