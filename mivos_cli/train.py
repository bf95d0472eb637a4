"""`mivos train`: train one of the networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mivos_cli.output import Json, Output, Verbose, path_lines, row_table
from stores.errors import OutputExistsError

if TYPE_CHECKING:
    from rich.console import Console


def train(
    recipe: Annotated[
        Literal["s2m", "propagation", "fusion"],
        typer.Argument(help="Which network.", show_default=False),
    ],
    data: Annotated[Path, typer.Option("--data", help="Data root in DAVIS layout.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for checkpoints, logs and weights.", show_default=False),
    ],
    iterations: Annotated[
        int | None,
        typer.Option("--iterations", min=1, help="Stop after so many.", show_default="the recipe's"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.0, help="Stop after this time.", show_default="no limit"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue what is in --out, if anything.")] = False,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.", show_default="all")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of sampling and initial weights.")] = 14159265,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a network by its named recipe; --resume continues where it stopped."""
    if not resume and output.is_dir() and any(output.iterdir()):
        raise OutputExistsError(f"{output} is not empty", hint="--resume continues it, or choose another --out")
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from pipelines.flow import Progress
        from pipelines.training.loop import train as run

        def step(done: int, total: int, scores: dict[str, float]) -> None:
            progress(Progress(recipe, done, total))

        report = run(
            recipe,
            data,
            output,
            iterations=iterations,
            minutes=minutes,
            threads=threads,
            seed=seed,
            progress=step,
        )

    def human(console: Console) -> None:
        scores = [{"score": name, "value": value} for name, value in report.scores.items()]
        row_table(console, f"{recipe}: {report.iterations} iterations, {report.seconds / 60:.1f} min", scores)
        path_lines(console, {"weights": report.weights})

    out.result(report.to_json(), human)
