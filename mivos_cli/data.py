"""`mivos data`: commands about data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

import typer

from mivos_cli.output import Json, Output, Verbose

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.flow import Progress

NAMES = {"davis": "DAVIS", "bl30k": "BL30K", "youtube": "YouTube-VOS", "static": "stills"}


class Step(NamedTuple):
    """Fields of `pipelines.flow.Progress`, whose module takes seconds to load."""

    stage: str
    done: int
    total: int | None


def check(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the data set.", show_default=False)],
    quick: Annotated[
        bool, typer.Option("--quick", help="Headers only: no ids, no damage further inside the files.")
    ] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say what is wrong with a data set for training, and how to mend it.

    Videos in DAVIS, BL30K or YouTube-VOS layout, and stills. The exit code is 1 if there are errors, 0 with warnings
    only.
    """
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from stores.dataset_check import check_dataset

        report = check_dataset(
            root, quick=quick, progress=lambda done, total: progress(cast("Progress", Step("check", done, total)))
        )

    def human(console: Console) -> None:
        for problem in report.problems:
            console.print(problem.line(), soft_wrap=True)
        layouts = " and ".join(NAMES[layout] for layout in report.layouts) or "no known layout"
        console.print(f"{layouts}: {report.videos} videos, {report.frames} frames, {report.stills} stills")
        verdict = f"{report.errors} kinds of errors, {report.warnings} of warnings"
        console.print("nothing is wrong" if not report.problems else verdict)

    out.result(report.to_json(), human)
    if report.errors:
        raise typer.Exit(1)


COMMANDS: dict[str, Callable[..., None]] = {"check": check}
