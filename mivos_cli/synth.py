"""Commands that make training data: `mivos gen-fusion`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mivos_cli.options import Checkpoint, DataRoot, Device, Engine, Model, Precision, choose
from mivos_cli.output import Json, Output, Verbose, path_lines
from stores.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


def gen_fusion(
    data: DataRoot,
    output: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder of this run; `mivos train fusion` reads ROOT/fusion.", show_default=False
        ),
    ],
    split: Annotated[str, typer.Option("--split", help="ImageSets/2017/<split>.txt.")] = "train",
    separation: Annotated[int, typer.Option("--separation", min=1, help="Frames between reference frames.")] = 25,
    reach: Annotated[
        int | None,
        typer.Option("--range", min=1, help="Frames to go from a reference.", show_default="the whole video"),
    ] = None,
    size: Annotated[int, typer.Option("--size", min=16, help="Shorter side of frames and maps.")] = 480,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Propagate true masks of reference frames: the training data of the fusion network. Run again to continue."""
    out = Output(json=json, verbose=verbose)
    with out.progress() as progress:
        from pipelines.engine import networks
        from pipelines.flow import Progress
        from pipelines.synthesis.fusion_data import generate_fusion
        from pipelines.training.samples import find_videos

        clips = find_videos(data, split)
        if not clips:
            raise UsageError(f"{data}: the list {split}.txt names no sequences")
        written = generate_fusion(
            clips,
            output,
            networks(choose(model, checkpoint, device, engine, precision)),
            separation=separation,
            reach=reach,
            size=size,
            progress=lambda done, total: progress(Progress("gen-fusion", done, total)),
        )

    def human(console: Console) -> None:
        path_lines(console, {f"{written} new references": str(output)})

    out.result({"references": written, "out": str(output)}, human)
