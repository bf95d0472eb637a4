"""`mivos train`: train one of the networks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mivos_cli.output import Json, Output, Verbose, path_lines, row_table
from stores.errors import OutputExistsError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

DATA, RUN, CHECK = "Data", "Run", "Validation and log"


def train(
    part: Annotated[
        Literal["s2m", "propagation", "fusion", "fusion-no-difference"],
        typer.Argument(help="Which network.", show_default=False),
    ],
    recipe: Annotated[
        str, typer.Option("--recipe", help="Which recipe of it; --list tells.", rich_help_panel=RUN)
    ] = "nano",
    list_recipes: Annotated[bool, typer.Option("--list", help="Tell the recipes of this network and end.")] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Data root in DAVIS layout.", show_default=False, rich_help_panel=DATA),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for checkpoints, logs and weights.", show_default=False, rich_help_panel=RUN
        ),
    ] = None,
    synthetic: Annotated[
        list[Path] | None,
        typer.Option(
            "--synthetic", help="Root in BL30K layout, repeatable.", show_default="none", rich_help_panel=DATA
        ),
    ] = None,
    fusion_data: Annotated[
        list[Path] | None,
        typer.Option(
            "--fusion-data",
            help="Run of `mivos gen-fusion`, repeatable.",
            show_default="DATA/fusion",
            rich_help_panel=DATA,
        ),
    ] = None,
    youtube: Annotated[
        Path | None,
        typer.Option("--youtube", help="Root of YouTube-VOS.", show_default="none", rich_help_panel=DATA),
    ] = None,
    static: Annotated[
        Path | None,
        typer.Option(
            "--static",
            help="Root of still pairs NAME.jpg, NAME.png.",
            show_default="DATA/static",
            rich_help_panel=DATA,
        ),
    ] = None,
    lvis: Annotated[
        Path | None, typer.Option("--lvis", help="Root of LVIS v1.", show_default="none", rich_help_panel=DATA)
    ] = None,
    start_from: Annotated[
        list[str] | None,
        typer.Option(
            "--start-from",
            help="Weights to begin with: a file (of this network, an earlier stage, ImageNet or VOC), or imagenet, "
            "none, nano. Repeat for several.",
            show_default="the recipe's",
            rich_help_panel=RUN,
        ),
    ] = None,
    propagation_weights: Annotated[
        Path | None,
        typer.Option(
            "--propagation-weights",
            help="Propagation network that fusion is trained with.",
            show_default="the model's own",
            rich_help_panel=RUN,
        ),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(
            "--iterations",
            min=1,
            help="Length of the run; with fewer than the recipe's all its phases shrink alike.",
            show_default="the recipe's",
            rich_help_panel=RUN,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", min=0.01, help="Stop after this time (nano).", show_default="no limit", rich_help_panel=RUN
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            min=1,
            help="Samples per step and process.",
            show_default="the recipe's",
            rich_help_panel=RUN,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes that load data.", rich_help_panel=RUN)
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="CPU threads.", show_default="all", rich_help_panel=RUN),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"],
        typer.Option("--device", help="Where it runs.", rich_help_panel=RUN),
    ] = "auto",
    amp: Annotated[
        bool | None,
        typer.Option(
            "--amp/--no-amp",
            help="Mixed precision: fp16 on cuda, else bf16.",
            show_default="the recipe's",
            rich_help_panel=RUN,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of sampling and initial weights.", rich_help_panel=RUN)
    ] = 14159265,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue what is in --out, if anything.", rich_help_panel=RUN)
    ] = False,
    validate: Annotated[
        Path | None,
        typer.Option(
            "--validate",
            help="Score the val split of this DAVIS-layout root at the end.",
            show_default="none",
            rich_help_panel=CHECK,
        ),
    ] = None,
    validate_every: Annotated[
        int | None,
        typer.Option(
            "--validate-every",
            min=1,
            help="Also every so many iterations.",
            show_default="no",
            rich_help_panel=CHECK,
        ),
    ] = None,
    validate_sequences: Annotated[
        int | None,
        typer.Option(
            "--validate-sequences",
            min=1,
            help="Only so many sequences.",
            show_default="all",
            rich_help_panel=CHECK,
        ),
    ] = None,
    validate_frames: Annotated[
        int | None,
        typer.Option(
            "--validate-frames",
            min=3,
            help="Only so many frames of each.",
            show_default="all",
            rich_help_panel=CHECK,
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="Folder for TensorBoard.", show_default="OUT/tensorboard", rich_help_panel=CHECK),
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a network by a named recipe; --resume continues where it stopped, with the same result.

    The nano recipes train what is built in; the others are the authors' recipes for their networks. Several processes:
    torchrun --nproc_per_node=N -m mivos_cli train ...
    """
    out = Output(json=json, verbose=verbose)
    if list_recipes:
        _list(out, part)
        return
    if output is None:
        raise UsageError("--out is missing", hint="give a folder for checkpoints, logs and weights")
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    if first and not resume and output.is_dir() and any(output.iterdir()):
        raise OutputExistsError(f"{output} is not empty", hint="--resume continues it, or choose another --out")
    with out.progress() as progress:
        from pipelines.flow import Progress
        from pipelines.training.loop import train as run
        from pipelines.training.options import TrainOptions

        def step(done: int, total: int, scores: dict[str, float]) -> None:
            progress(Progress(part, done, total))

        options = TrainOptions(
            iterations=iterations,
            minutes=minutes,
            batch=batch,
            workers=workers,
            threads=threads,
            device=device,
            amp=amp,
            seed=seed,
            synthetic=tuple(synthetic or ()),
            fusion=tuple(fusion_data or ()),
            youtube=youtube,
            static=static,
            lvis=lvis,
            propagation=propagation_weights,
            start_from=tuple(start_from or ()),
            validate=validate,
            validate_every=validate_every,
            validate_sequences=validate_sequences,
            validate_frames=validate_frames,
            log=log,
        )
        report = run(f"{part}/{recipe}", data, output, options=options, progress=step)

    def human(console: Console) -> None:
        scores = [{"score": name, "value": value} for name, value in report.scores.items()]
        row_table(console, f"{report.recipe}: {report.iterations} iterations, {report.seconds / 60:.1f} min", scores)
        path_lines(console, {"weights": report.weights})

    if first:
        out.result(report.to_json(), human)


def _list(out: Output, part: str) -> None:
    """Name, length and first line of what each recipe says of itself."""
    from pipelines.training.recipes import RECIPES

    recipes = RECIPES[part.partition("-")[0]]
    rows = [
        {
            "recipe": recipe.name,
            "iterations": recipe.iterations,
            "batch": f"{recipe.processes} x {recipe.batch}",
            "trains": recipe.network,
            "what": (recipe.__doc__ or "").partition("\n")[0],
        }
        for recipe in recipes.values()
    ]

    def human(console: Console) -> None:
        row_table(console, f"recipes of {part}", rows)

    out.result({"part": part, "recipes": rows}, human)
