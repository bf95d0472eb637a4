"""Options that several commands share, spelled once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from pipelines.engine import ModelChoice


class OutputFormat(StrEnum):
    """What `encode` can write (an enum because Typer takes no list of literals)."""

    PNG = "png"
    OVERLAY = "overlay"
    BINARY = "binary"
    WEBM = "webm"
    PRORES = "prores"
    COCO = "coco"
    YOUTUBE_VIS = "youtube-vis"
    CVAT = "cvat"
    LABEL_STUDIO = "label-studio"
    OME_ZARR = "ome-zarr"


DEFAULT_FORMATS = [OutputFormat.PNG, OutputFormat.OVERLAY]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="Networks to use: nano is built in; mivos and mivos-stcn need checkpoints (`mivos models`).",
        rich_help_panel="Model",
    ),
]
Checkpoint = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint",
        help="Weight file to use; which network it holds is recognised. Repeat for several.",
        show_default="the model's own",
        rich_help_panel="Model",
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option("--device", help="Where the networks run.", rich_help_panel="Model"),
]
Engine = Annotated[
    Literal["auto", "torch", "winograd", "openvino"],
    typer.Option("--engine", help="What runs them; auto is the fastest here.", rich_help_panel="Model"),
]
Precision = Annotated[
    Literal["float32", "bfloat16", "float16"],
    typer.Option(
        "--precision",
        help="Of the networks: bfloat16 for CPUs that have it and GPUs, float16 for GPUs.",
        rich_help_panel="Model",
    ),
]
MemoryBudget = Annotated[
    str | None,
    typer.Option(
        "--memory-budget",
        metavar="FRAMES|MB",
        help="Bound what propagation remembers, in frames (12) or bytes (500MB, 2GB): marked frames stay, recent ones "
        "in full, older ones as a digest.",
        show_default="the model's own rule",
        rich_help_panel="Model",
    ),
]
Record = Annotated[
    Path | None,
    typer.Option(
        "--record",
        help="Write a record for `bench compare` here.",
        show_default="OUT/record.json where there is an -o",
        rich_help_panel="Output",
    ),
]
DataRoot = Annotated[Path, typer.Option("--data", help="Data root in DAVIS layout.", show_default=False)]
Sequences = Annotated[
    list[str] | None,
    typer.Option("--sequence", help="Only this one; repeat for several.", show_default="all of the split"),
]
Fusion = Annotated[
    Literal["full", "no-difference", "off"],
    typer.Option(
        "--fusion",
        help="How a new round joins the one before, the same for all stages of a round. no-difference: without telling "
        "the network what the round corrected; off: the new masks replace the old ones.",
        rich_help_panel="Model",
    ),
]
SessionPath = Annotated[
    Path,
    typer.Argument(metavar="SESSION", help="Session folder (OUT/session of segment).", show_default=False),
]
Source = Annotated[
    Path, typer.Argument(metavar="VIDEO", help="A video file or a folder of images.", show_default=False)
]
Scribbles = Annotated[
    Path | None,
    typer.Option("--scribbles", help="Scribble file (DAVIS JSON).", show_default=False, rich_help_panel="Objects"),
]
Masks = Annotated[
    Path | None,
    typer.Option(
        "--masks",
        help="Palette PNG of the first frame, a folder of PNGs named after their frames, or masks of another tool: "
        "COCO, YouTube-VIS, CVAT XML, Label Studio JSON, OME-Zarr labels.",
        show_default=False,
        rich_help_panel="Objects",
    ),
]
ImportFrames = Annotated[
    str,
    typer.Option(
        "--import-frames",
        metavar="all|keyframes|N",
        help="Frames to take from masks of another tool, each one a round: all, those a person annotated, or at most N "
        "of these, spread evenly, with the first frame of each object.",
        rich_help_panel="Objects",
    ),
]
Snap = Annotated[
    bool,
    typer.Option(
        "--snap",
        help="Snap soft mask edges (anti-aliased PNGs) to the nearest object.",
        rich_help_panel="Objects",
    ),
]
Size = Annotated[
    int,
    typer.Option(
        "--size",
        min=0,
        help="Shorter side to work at, never enlarged; 0: as the source. Masks come out at source size.",
        rich_help_panel="Video",
    ),
]
KeepFrames = Annotated[
    Literal["exact", "jpeg"],
    typer.Option(
        "--frames",
        help="How a new session keeps the frames: exact, or as JPEG, which makes it several times smaller.",
        rich_help_panel="Video",
    ),
]
Out = Annotated[
    Path,
    typer.Option("--output", "-o", help="Folder for the results.", show_default=False, rich_help_panel="Output"),
]
Format = Annotated[
    list[OutputFormat],
    typer.Option(
        "--format",
        help="What to write; repeat for several. png: palette masks, overlay: tinted video, "
        "binary: a mask per object, webm, prores: video with alpha; coco, youtube-vis, cvat, label-studio, ome-zarr: "
        "for these tools.",
        rich_help_panel="Output",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Overwrite outputs that are already there.", rich_help_panel="Output")
]


def choose(
    model: str, checkpoint: list[Path] | None, device: str, engine: str, precision: str = "float32",
    fusion: Literal["full", "no-difference", "off"] = "full", memory_budget: str | None = None,
) -> ModelChoice:  # fmt: skip
    """The Python API's form of the model options."""
    from pipelines.engine import ModelChoice
    from pipelines.networks.reading import MemoryBudget

    memory = None if memory_budget is None else MemoryBudget.parse(memory_budget)
    place = None if device == "auto" else device
    return ModelChoice(model, place, engine, precision, tuple(checkpoint or ()), fusion, memory)


def unique_formats(formats: list[OutputFormat]) -> tuple[str, ...]:
    """The formats asked for as plain strings, each once, in the order given."""
    return tuple(dict.fromkeys(format.value for format in formats))
