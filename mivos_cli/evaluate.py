"""`mivos eval`: semi-supervised benchmarks, from the given first masks to scores or a file for the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from mivos_cli.options import Checkpoint, Device, Engine, Force, MemoryBudget, Model, Out, Precision, Sequences, choose
from mivos_cli.output import Json, Output, Verbose, path_lines, row_table

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.evaluation.eval_report import EvalReport
    from pipelines.evaluation.eval_sequences import DavisProtocol, YouTubeProtocol
    from pipelines.evaluation.eval_tasks import Share
    from pipelines.execution.executors import Setup

Root = Annotated[
    Path,
    typer.Option("--root", "--data", help="Data set: the folder as published, or the one that holds JPEGImages."),
]
DavisSplit = Annotated[str, typer.Option("--split", help="A list in ImageSets: val, test-dev, train, ...")]
Archive = Annotated[
    bool | None,
    typer.Option(
        "--zip/--no-zip",
        help="Write submission.zip.",
        show_default="if masks cannot be scored here",
        rich_help_panel="Output",
    ),
]
Worst = Annotated[
    int,
    typer.Option("--worst", min=0, help="Frames in the picture of the worst ones.", rich_help_panel="Output"),
]
Every = Annotated[
    int | None,
    typer.Option(
        "--mem-every",
        min=1,
        help="Frames between two that stay in memory.",
        show_default="the model's own",
        rich_help_panel="Memory",
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        min=0,
        help="Memory positions that each position reads; 0: all.",
        show_default="the model's own",
        rich_help_panel="Memory",
    ),
]
IncludeLast = Annotated[
    bool | None,
    typer.Option(
        "--include-last/--no-include-last",
        help="Keep the previous frame in memory.",
        show_default="the model's own",
        rich_help_panel="Memory",
    ),
]
Kernel = Annotated[
    float | None,
    typer.Option(
        "--kernel",
        min=0.1,
        help="Width of kernelised reading (the authors: 5.6).",
        show_default="off",
        rich_help_panel="Memory",
    ),
]


def davis16(
    root: Root,
    output: Out,
    sequence: Sequences = None,
    split: DavisSplit = "val",
    mem_every: Every = None,
    top_k: TopK = None,
    include_last: IncludeLast = None,
    kernel: Kernel = None,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    memory_budget: MemoryBudget = None,
    archive: Archive = None,
    worst: Worst = 8,
    force: Force = False,
    workers: Workers = None,
    executor: ExecutorName = None,
    cluster: Cluster = None,
    shard: Shard = None,
    retries: Retries = 1,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """DAVIS 2016: one object, all of the first mask. Run again after a break: finished sequences are kept."""
    _davis("2016", root, split, output, sequence, _changes(mem_every, top_k, include_last, kernel),
           choose(model, checkpoint, device, engine, precision, memory_budget=memory_budget),
           archive, worst, force, json, verbose,
           execution(workers, executor, cluster, shard, retries))  # fmt: skip


def davis17(
    root: Root,
    output: Out,
    sequence: Sequences = None,
    split: DavisSplit = "val",
    mem_every: Every = None,
    top_k: TopK = None,
    include_last: IncludeLast = None,
    kernel: Kernel = None,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    memory_budget: MemoryBudget = None,
    archive: Archive = None,
    worst: Worst = 8,
    force: Force = False,
    workers: Workers = None,
    executor: ExecutorName = None,
    cluster: Cluster = None,
    shard: Shard = None,
    retries: Retries = 1,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """DAVIS 2017: all objects of the first mask. Run again after a break: finished sequences are kept.

    The split test-dev has no ground truth: it ends in submission.zip for the server.
    """
    _davis("2017", root, split, output, sequence, _changes(mem_every, top_k, include_last, kernel),
           choose(model, checkpoint, device, engine, precision, memory_budget=memory_budget),
           archive, worst, force, json, verbose,
           execution(workers, executor, cluster, shard, retries))  # fmt: skip


def youtube(
    root: Root,
    output: Out,
    sequence: Sequences = None,
    split: Annotated[str, typer.Option("--split", help="valid, test or train.")] = "valid",
    size: Annotated[int, typer.Option("--size", min=16, help="Shorter side to work at; the authors: 480.")] = 480,
    output_all: Annotated[
        bool,
        typer.Option("--output-all", help="Write every frame, not only those that meta.json lists."),
    ] = False,
    mem_every: Every = None,
    top_k: TopK = None,
    include_last: IncludeLast = None,
    kernel: Kernel = None,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    memory_budget: MemoryBudget = None,
    archive: Archive = None,
    worst: Worst = 8,
    force: Force = False,
    workers: Workers = None,
    executor: ExecutorName = None,
    cluster: Cluster = None,
    shard: Shard = None,
    retries: Retries = 1,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """YouTube-VOS: objects given where they first appear, on all frames of the video (the folder all_frames).

    Ends in submission.zip for the server. Run again after a break: finished videos are kept.
    """
    from pipelines.evaluation.eval_sequences import YouTubeProtocol

    protocol = YouTubeProtocol(root, split, size, output_all)
    rules = _changes(mem_every, top_k, include_last, kernel)
    choice = choose(model, checkpoint, device, engine, precision, memory_budget=memory_budget)
    setup = execution(workers, executor, cluster, shard, retries)
    _evaluate(protocol, output, sequence, rules, choice, archive, worst, force, json, verbose, setup)


def folder(
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="True masks, TRUTH/SEQUENCE/FRAME.png.")],
    predicted: Annotated[Path, typer.Argument(metavar="PREDICTED", help="Masks to score, with the same names.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write scores and the picture here.", show_default=False, rich_help_panel="Output"
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Frames for the picture, IMAGES/SEQUENCE/FRAME.jpg.", show_default=False),
    ] = None,
    sequence: Sequences = None,
    edges: Annotated[
        bool, typer.Option("--edges", help="Also score the first and the last frame, which DAVIS leaves out.")
    ] = False,
    binary: Annotated[
        bool, typer.Option("--binary", help="Everything that is not 0 is one object (DAVIS 2016).")
    ] = False,
    worst: Worst = 8,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Score a folder of masks against the true ones: J, F and their mean."""
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from pipelines.evaluation.scoring import score_folders

        report = score_folders(
            truth,
            predicted,
            images=images,
            sequences=sequence,
            edges=edges,
            binary=binary,
            out=output,
            worst=worst,
            progress=progress,
        )
    out.result(report.to_json(), lambda console: _print(console, report))


COMMANDS: dict[str, Callable[..., None]] = {
    "davis16": davis16,
    "davis17": davis17,
    "youtube": youtube,
    "folder": folder,
}


def _changes(every: int | None, top_k: int | None, temporary: bool | None, sigma: float | None) -> dict[str, Any]:
    """The fields of `MemoryRules` that options change."""
    asked = {"every": every, "temporary": temporary, "kernel_sigma": sigma}
    changes: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    return changes if top_k is None else {**changes, "top_k": top_k or None}


def _davis(year: Literal["2016", "2017"], root: Path, split: str, *rest: Any) -> None:
    from pipelines.evaluation.eval_sequences import DavisProtocol

    _evaluate(DavisProtocol(root, year, split), *rest)


def _evaluate(
    protocol: DavisProtocol | YouTubeProtocol, output: Path, sequences: list[str] | None, rules: dict[str, Any],
    model: Any, archive: bool | None, worst: int, force: bool, json: bool, verbose: bool, setup: Setup,
) -> None:  # fmt: skip
    out = Output(json=json, verbose=verbose)
    share: Share | None = None
    with out.progress() as progress:
        from pipelines.evaluation.semi_supervised import evaluate

        if not setup.plain:
            from pipelines.evaluation.eval_tasks import follow_sequences

            share = follow_sequences(
                protocol, output, setup, model=model, rules=rules, sequences=sequences, force=force, progress=progress
            )
            force = False  # that was before the first sequence
        report = None
        if share is None or share.whole:
            report = evaluate(
                protocol,
                output,
                model=model,
                rules=rules,
                sequences=sequences,
                archive=archive,
                worst=worst,
                force=force,
                progress=progress,
            )
    if report is None:
        assert share is not None
        end_of_share(out, share, "sequences")
    out.result(report.to_json(), lambda console: _print(console, report))


def _print(console: Console, report: EvalReport) -> None:
    """The table of sequences and their mean, then what could not be scored and where everything is."""
    rows: list[dict[str, Any]] = []
    timed = report.frames_per_second is not None
    for row in report.rows:
        scores = row.scores
        found: tuple[Any, ...] = (
            (len(scores.objects), scores.jf, scores.j, scores.f, scores.worst.frame, scores.worst.j)
            if scores
            else (None,) * 6
        )
        rows.append(_line(row.sequence, row.frames, found, row.frames_per_second, row.peak_memory_mb, timed))
    mean = report.mean
    found = (mean["objects"], mean["jf"], mean["j"], mean["f"], None, None) if mean else (None,) * 6
    frames = sum(row.frames for row in report.rows)
    rows.append(_line("all", frames, found, report.frames_per_second, report.peak_memory_mb, timed))
    model = f", {report.settings['model']}" if "model" in report.settings else ""
    row_table(console, f"{report.protocol}{model} ({report.scorer}; 'all': mean over objects)", rows)
    for note in report.notes:
        console.print(note, soft_wrap=True)
    path_lines(console, report.outputs)


def _line(
    name: str, frames: int, found: tuple[Any, ...], rate: float | None, memory: float | None, timed: bool
) -> dict[str, Any]:
    objects, jf, j, f, frame, worst = found
    line = {"sequence": name, "frames": frames, "objects": objects, "J&F": jf, "J": j, "F": f}
    speed = {"frames/s": rate, "peak memory (MB)": memory} if timed else {}
    return {**line, **speed, "worst frame": frame, "its J": worst}
