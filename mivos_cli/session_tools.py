"""`mivos session`: what is wrong with a session, mending it, and giving back its unneeded bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mivos_cli.data import Step
from mivos_cli.options import SessionPath
from mivos_cli.output import Json, Output, Verbose

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.flow import Progress


def _steps(progress: Callable[[Progress], None], stage: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(cast("Progress", Step(stage, done, total)))


def check(session: SessionPath, json: Json = False, verbose: Verbose = False) -> None:
    """Read all of a session and say what is damaged, what is lost, and what repair would do.

    Nothing is changed, and a writer may work meanwhile. The exit code is 1 if something is damaged.
    """
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from stores.checking import check_session

        report = check_session(session, _steps(progress, "check"))

    def human(console: Console) -> None:
        for finding in report.findings:
            console.print(finding.line(), soft_wrap=True)
        damaged = sum(finding.damage for finding in report.findings)
        verdict = f"{damaged} things are damaged: run `mivos session repair`" if damaged else "nothing is damaged"
        console.print(f"{report.commits} commits, {report.images} images, {_megabytes(report.bytes)}: {verdict}")

    out.result(report.to_json(), human)
    if not report.clean:
        raise typer.Exit(1)


def repair(session: SessionPath, json: Json = False, verbose: Verbose = False) -> None:
    """Make a damaged session usable with the least loss; what is given up is put aside, not deleted."""
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from stores.repairing import repair_session

        report = repair_session(session, _steps(progress, "repair"))

    def human(console: Console) -> None:
        for line in report.actions:
            console.print(line, soft_wrap=True)
        console.print("repaired" if report.actions else "nothing was damaged")

    out.result(report.to_json(), human)


def compact(
    session: SessionPath,
    now: Annotated[
        bool, typer.Option("--now", help="Also what was dropped in the last 15 minutes and may still be read.")
    ] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Delete what no round needs: dropped checkpoints, undone rounds that were replaced.

    Undo and redo lead where they led before.
    """
    from stores.compacting import compact_session

    out = Output(json=json, verbose=verbose)
    report = compact_session(session, now=now)

    def human(console: Console) -> None:
        console.print(f"{_megabytes(report.bytes_before)} before, {_megabytes(report.bytes_after)} now")
        files = report.chunks + report.manifests + report.snapshots
        console.print(f"{files} files removed; {_megabytes(report.bytes_per_1000_frames)} per 1,000 frames")

    out.result(report.to_json(), human)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB"


COMMANDS: dict[str, Callable[..., Any]] = {"check": check, "repair": repair, "compact": compact}
