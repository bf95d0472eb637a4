"""Commands on one video: the whole way (`segment`), its single stages, and a look at a session.

Each function reads options and calls the function of the same name in `pipelines.flow`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mivos_cli.options import (
    DEFAULT_FORMATS,
    Checkpoint,
    Device,
    Engine,
    Force,
    Format,
    Fusion,
    ImportFrames,
    KeepFrames,
    Masks,
    MemoryBudget,
    Model,
    Out,
    Precision,
    Scribbles,
    SessionPath,
    Size,
    Snap,
    Source,
    choose,
    unique_formats,
)
from mivos_cli.output import Json, Output, Verbose, path_lines, stage_table
from stores.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.flow import Progress, StageReport


def segment(
    source: Source,
    *,
    scribbles: Scribbles = None,
    masks: Masks = None,
    snap: Snap = False,
    import_frames: ImportFrames = "10",
    size: Size = 480,
    frames: KeepFrames = "exact",
    fusion: Fusion = "full",
    memory_budget: MemoryBudget = None,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    output: Out,
    session: Annotated[
        Path | None,
        typer.Option("--session", help="Keep the session here.", show_default="OUT/session", rich_help_panel="Output"),
    ] = None,
    formats: Format = DEFAULT_FORMATS,
    force: Force = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Segment a video from scribbles or given masks: all stages in one pass.

    Run it again after a break or a crash: what is done is not done twice.
    """
    _exactly_one(scribbles, masks)
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from pipelines import flow

        report = flow.segment(
            source,
            output,
            scribbles=scribbles,
            masks=masks,
            snap=snap,
            import_frames=import_frames,
            session=session,
            size=size or None,
            frames=frames,
            model=choose(model, checkpoint, device, engine, precision, fusion, memory_budget),
            formats=unique_formats(formats),
            force=force,
            progress=progress,
        )

    def human(console: Console) -> None:
        title = f"{report.frames} frames, {report.objects} objects, {report.rounds} rounds"
        stage_table(console, title, report.stages)
        path_lines(console, {**report.outputs, "session": report.session})

    out.result(asdict(report), human)


def decode(
    source: Source,
    session: SessionPath,
    size: Size = 480,
    prob_bits: Annotated[
        Literal["8", "16"] | None,
        typer.Option(
            "--prob-bits",
            help="Bits of a stored probability.",
            show_default="what the model needs",
            rich_help_panel="Video",
        ),
    ] = None,
    frames: KeepFrames = "exact",
    model: Model = "nano",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Read a video's frames into a session."""

    def work(progress: Callable[[Progress], None]) -> StageReport:
        from pipelines import flow

        bits = int(prob_bits) if prob_bits else None
        return flow.decode(
            source, session, size=size or None, prob_bits=bits, frames=frames, model=model, progress=progress
        )

    _run_stage(work, json=json, verbose=verbose)


def interact(
    session: SessionPath,
    scribbles: Scribbles = None,
    masks: Masks = None,
    snap: Snap = False,
    import_frames: ImportFrames = "10",
    fusion: Fusion = "full",
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Turn scribbles, or masks, on some frames into the objects to follow."""
    _exactly_one(scribbles, masks)

    def work(progress: Callable[[Progress], None]) -> StageReport:
        from pipelines import flow

        return flow.interact(
            session,
            scribbles=scribbles,
            masks=masks,
            snap=snap,
            import_frames=import_frames,
            model=choose(model, checkpoint, device, engine, precision, fusion),
            progress=progress,
        )

    _run_stage(work, json=json, verbose=verbose)


def propagate(
    session: SessionPath,
    fusion: Fusion = "full",
    memory_budget: MemoryBudget = None,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Carry the objects from the frames worked on to all others."""

    def work(progress: Callable[[Progress], None]) -> StageReport:
        from pipelines import flow

        return flow.propagate(
            session,
            model=choose(model, checkpoint, device, engine, precision, fusion, memory_budget),
            progress=progress,
        )

    _run_stage(work, json=json, verbose=verbose)


def fuse(
    session: SessionPath,
    fusion: Fusion = "full",
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Blend what was propagated with the round before, and end the round."""

    def work(progress: Callable[[Progress], None]) -> StageReport:
        from pipelines import flow

        return flow.fuse(session, model=choose(model, checkpoint, device, engine, precision, fusion), progress=progress)

    _run_stage(work, json=json, verbose=verbose)


def encode(
    session: SessionPath,
    output: Out,
    formats: Format = DEFAULT_FORMATS,
    force: Force = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write a session's masks as images and videos at the source's own size."""
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from pipelines import flow

        wanted = unique_formats(formats)
        report, outputs = flow.encode(session, output, formats=wanted, force=force, progress=progress)

    def human(console: Console) -> None:
        stage_table(console, "encode", [report])
        path_lines(console, outputs)

    out.result({**asdict(report), "outputs": outputs}, human)


def info(session: SessionPath, json: Json = False, verbose: Verbose = False) -> None:
    """Show a session: source, frames, objects, rounds, history."""
    from mivos_cli.session_info import describe, print_description
    from stores.session import Session

    out = Output(json=json, verbose=verbose)
    with Session.open(session) as opened:
        data = describe(opened)
    out.result(data, lambda console: print_description(console, data))


def undo(session: SessionPath, json: Json = False, verbose: Verbose = False) -> None:
    """Take the last round back."""
    _move(session, "undo", json=json, verbose=verbose)


def redo(session: SessionPath, json: Json = False, verbose: Verbose = False) -> None:
    """Bring an undone round back."""
    _move(session, "redo", json=json, verbose=verbose)


def _exactly_one(scribbles: Path | None, masks: Path | None) -> None:
    if (scribbles is None) == (masks is None):
        problem = "neither was given" if scribbles is None else "both were given"
        raise UsageError(
            f"exactly one of --scribbles and --masks is needed, {problem}",
            hint="--scribbles FILE.json draws the objects, --masks FILE|FOLDER gives them finished",
        )


def _run_stage(work: Callable[[Callable[[Progress], None]], StageReport], *, json: bool, verbose: bool) -> None:
    """Run one stage under progress bars and report it."""
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        report = work(progress)
    out.result(asdict(report), lambda console: stage_table(console, report.stage, [report]))


def _move(session: Path, direction: Literal["undo", "redo"], *, json: bool, verbose: bool) -> None:
    from stores.session import Session

    out = Output(json=json, verbose=verbose)
    with Session.open(session, write=True) as opened:
        entry = opened.undo() if direction == "undo" else opened.redo()
    done = "undone" if direction == "undo" else "back again"
    out.result(asdict(entry), lambda console: console.print(f"{done}: {entry.message}"))
