"""`mivos render-bl30k`: synthetic videos with exact masks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mivos_cli.execution_options import PARTLY_DONE, Cluster, ExecutorName, Retries, Shard, execution
from mivos_cli.output import Json, Output, Verbose, path_lines
from stores.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from blender.render import RenderOptions
    from pipelines.execution.executors import Setup

LINE_INTERVAL = 30.0  # seconds between two lines of progress where no bar can be drawn
Panel = "Renderer"


def render_bl30k(
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the data set (BL30K layout).", show_default=False)
    ] = None,
    videos: Annotated[int, typer.Option("--videos", min=1, help="How many videos.")] = 1,
    start: Annotated[int, typer.Option("--start", min=0, help="Index of the first one.")] = 0,
    frames: Annotated[int, typer.Option("--frames", min=1, help="Frames per video.")] = 160,
    size: Annotated[str, typer.Option("--size", metavar="WIDTHxHEIGHT", help="Of the frames.")] = "768x512",
    samples: Annotated[
        int,
        typer.Option(
            "--samples", min=1, help="Per pixel, before the denoiser. The paper used 64; 8 take a sixth of the time."
        ),
    ] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Video K of a seed is always the same.")] = 0,
    meshes: Annotated[
        list[Path] | None,
        typer.Option(
            "--meshes", help="ShapeNet tree, or folder of .glb and .obj; repeatable.", show_default="built-in shapes"
        ),
    ] = None,
    textures: Annotated[
        Path | None, typer.Option("--textures", help="Folder of images.", show_default="painted ones")
    ] = None,
    skies: Annotated[
        Path | None, typer.Option("--skies", help="Folder of images.", show_default="painted ones")
    ] = None,
    scenes_only: Annotated[bool, typer.Option("--scenes-only", help="Write the scene files, render nothing.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Renderer processes, one core each (about 1 GB at full size).",
            show_default="all cores",
            rich_help_panel=Panel,
        ),
    ] = None,
    set_up: Annotated[
        bool, typer.Option("--setup", help="Install the renderer in an environment of its own.", rich_help_panel=Panel)
    ] = False,
    environment: Annotated[
        Path | None,
        typer.Option(
            "--renderer-env",
            help="Folder of that environment.",
            envvar="MIVOS_BLENDER_ENV",
            show_default="found",
            rich_help_panel=Panel,
        ),
    ] = None,
    blender: Annotated[
        Path | None,
        typer.Option(
            "--blender",
            help="An installed Blender (4.2, blenderproc in its Python) instead.",
            show_default=False,
            rich_help_panel=Panel,
        ),
    ] = None,
    executor: ExecutorName = None,
    cluster: Cluster = None,
    shard: Shard = None,
    retries: Retries = 1,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Render synthetic videos with exact masks, as in BL30K. Run again to continue."""
    out = Output(json=json, verbose=verbose)
    if set_up:
        _set_up(out, environment)
        if output is None:
            return
    if output is None:
        raise UsageError("--out is missing", hint="mivos render-bl30k --out FOLDER; --setup installs the renderer")
    from blender.render import RenderOptions
    from blender.render import render_bl30k as run

    setup = execution(workers, executor, cluster, shard, retries)
    distributed = executor is not None or cluster is not None
    options = RenderOptions(
        videos=videos,
        frames=frames,
        size=parse_size(size),
        samples=samples,
        seed=seed,
        start=start,
        workers=None if distributed else workers,
        shard=setup.shard,
        meshes=tuple(meshes or ()),
        textures=textures,
        skies=skies,
    )
    if distributed and not scenes_only:
        _render_with(setup, out, output, options, blender, environment)
        return
    with _progress(out) as progress:
        report = run(
            output,
            options,
            scenes_only=scenes_only,
            blender=blender,
            environment=environment,
            progress=progress,
            warn=lambda line: out.stderr.print(f"warning: {line}", soft_wrap=True),
        )

    def human(console: Console) -> None:
        done = f"{report.rendered} rendered, {report.already_done} were there" if not scenes_only else "scenes only"
        names = {f"{len(options.indices)} videos": str(output / ("scenes" if scenes_only else ""))}
        if not scenes_only:
            names["manifest"] = str(output / "manifest.jsonl")
        path_lines(console, names)
        console.print(f"{done}, {len(report.replaced)} files replaced, {report.seconds:.0f} s")

    out.result(report.to_json(), human)


def _render_with(
    setup: Setup, out: Output, folder: Path, options: RenderOptions, blender: Path | None, environment: Path | None
) -> None:
    """One task of an executor for each video that has no record yet."""
    from dataclasses import asdict

    from pipelines.execution.execute import execute
    from pipelines.execution.tasks import Outcome, Task
    from pipelines.rounds import Progress

    def text(path: Path | None) -> str | None:
        return None if path is None else str(path.absolute())

    folders = {"textures": text(options.textures), "skies": text(options.skies)}
    meshes = [text(path) for path in options.meshes]
    cores = 1 if setup.cluster in (None, "local") else None  # the workers share this machine
    given = {**asdict(options), **folders, "meshes": meshes, "workers": cores, "shard": None}
    common = {"out": text(folder), "options": given, "blender": text(blender), "environment": text(environment)}
    tasks = [
        Task(f"{index:05d}", "render", "blender.render:render_video", {**common, "index": index})
        for index in options.indices
    ]
    with out.progress() as progress:

        def told(outcome: Outcome, done: int, total: int) -> None:
            for line in (outcome.result or {}).get("warnings", ()):
                out.stderr.print(f"warning: {line}", soft_wrap=True)
            progress(Progress("videos", done, total))

        outcomes = execute(tasks, setup.open(), retries=setup.retries, told=told)
    failed = [outcome for outcome in outcomes if outcome.state != "done"]
    rendered = sum(outcome.result["rendered"] for outcome in outcomes if outcome.state == "done")

    def human(console: Console) -> None:
        path_lines(console, {f"{len(tasks) - len(failed)} videos": str(folder)})
        console.print(f"{rendered} rendered now")
        for outcome in failed:
            console.print(f"failed: {outcome.id}: {outcome.error}", soft_wrap=True)

    problems = [{"name": outcome.id, "error": outcome.error, "hint": outcome.hint} for outcome in failed]
    out.result({"out": str(folder), "rendered": rendered, "videos": len(tasks), "failed": problems}, human)
    if failed:
        raise typer.Exit(PARTLY_DONE)


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of "768x512".

    Raises:
        UsageError: it has another form.
    """
    match = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text.strip())
    if match is None:
        raise UsageError(f"--size {text}: is not of the form 768x512 (width x height)")
    return int(match[1]), int(match[2])


def duration(seconds: float) -> str:
    """Time left in words."""
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 1.5:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"


def _set_up(out: Output, environment: Path | None) -> None:
    from blender.environment import set_up

    folder = set_up(environment, lambda line: out.stderr.print(line, soft_wrap=True))
    out.stderr.print(f"the renderer is ready in {folder}", soft_wrap=True)


@contextmanager
def _progress(out: Output) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) that draws a bar on a terminal and else writes a line now and then."""
    if out.stderr.is_terminal and not out.json:
        from mivos_cli.progress import Bars
        from pipelines.rounds import Progress

        with Bars(out.stderr) as bars:
            yield lambda done, total: bars.update(Progress("render", done, total))
        return
    if out.json and not out.verbose:
        yield lambda done, total: None
        return
    began, first, last = time.monotonic(), -1, -LINE_INTERVAL

    def line(done: int, total: int) -> None:
        nonlocal first, last
        now = time.monotonic() - began
        first = done if first < 0 else first
        if now - last >= LINE_INTERVAL or done == total:
            last = now
            left = f", {duration(now / (done - first) * (total - done))} left" if first < done < total else ""
            out.stderr.print(f"render {done}/{total} frames{left}", soft_wrap=True)

    yield line
