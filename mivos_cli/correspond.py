"""`mivos correspond`: where a point or a mask of one frame is in another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mivos_cli.options import Checkpoint, Device, Engine, Force, Model, Precision, Size, Snap, Source, choose
from mivos_cli.output import Json, Output, Verbose, path_lines
from stores.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.evaluation.correspondence import MaskMatch, PointMatch


def correspond(
    video: Source,
    *,
    source: Annotated[int, typer.Option("--from", min=0, help="Frame of the point or mask.", show_default=False)],
    target: Annotated[int, typer.Option("--to", min=0, help="Frame to look in.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write (PNG).", show_default=False)],
    point: Annotated[
        str | None,
        typer.Option("--point", metavar="X,Y", help="Point to find, in pixels of the video.", show_default=False),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option("--mask", help="PNG to carry over instead; the result goes to OUT_mask.png.", show_default=False),
    ] = None,
    snap: Snap = False,
    size: Size = 480,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    force: Force = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Find a point or a mask of one frame in another, by the propagation network's similarity."""
    if (point is None) == (mask is None):
        problem = "neither was given" if point is None else "both were given"
        raise UsageError(
            f"exactly one of --point and --mask is needed, {problem}",
            hint="--point X,Y finds a point, --mask FILE.png carries a mask",
        )
    place = None if point is None else parse_point(point)
    out = Output(json=json, verbose=verbose)
    from pipelines.evaluation.correspondence import match_mask, match_point

    chosen, shorter = choose(model, checkpoint, device, engine, precision), size or None
    result: PointMatch | MaskMatch
    if place is not None:
        result = match_point(video, source, target, place, output, size=shorter, model=chosen, force=force)
    else:
        assert mask is not None
        result = match_mask(video, source, target, mask, output, size=shorter, snap=snap, model=chosen, force=force)
    data = result.to_json()

    def human(console: Console) -> None:
        if "match" in data:
            (x, y), (wide, high) = data["match"], data["cell"]
            console.print(f"frame {source}: {point} -> frame {target}: {x},{y} (weight {data['weight']:.3f})")
            console.print(f"positions are {wide:.0f}x{high:.0f} pixels of the video")
        else:
            for item in data["objects"]:
                console.print(f"object {item['id']}: {item['pixels_from']} -> {item['pixels_to']} pixels")
        path_lines(console, {name: data[name] for name in ("picture", "mask") if name in data})

    out.result(data, human)


def parse_point(text: str) -> tuple[int, int]:
    """ "X,Y" in whole pixels -> (x, y).

    Raises:
        UsageError: it is anything else.
    """
    found = re.fullmatch(r"\s*(-?\d+)\s*,\s*(-?\d+)\s*", text)
    if found is None:
        raise UsageError(f"the point {text!r} is not X,Y", hint="whole pixels, such as --point 320,180")
    return int(found[1]), int(found[2])
