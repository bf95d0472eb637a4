"""`mivos gui`: the interactive tool in the browser."""

from __future__ import annotations

import json as json_lib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mivos_cli.options import Checkpoint, Device, Engine, Fusion, MemoryBudget, Model, Precision, Size
from mivos_cli.output import Json, Output, Verbose

if TYPE_CHECKING:
    from mivos_cli.gui.serving import Address

SERVER = "Server"


def gui(
    path: Annotated[
        Path, typer.Argument(metavar="[PATH]", help="A video, image folder, session, or a folder of them.")
    ] = Path("."),
    session: Annotated[
        Path | None,
        typer.Option(
            "--session",
            help="Keep the video's session here.",
            show_default="VIDEO.mivos",
            rich_help_panel="Video",
        ),
    ] = None,
    size: Size = 480,
    fusion: Fusion = "full",
    memory_budget: MemoryBudget = None,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.", rich_help_panel=SERVER)] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=0,
            max=65535,
            help="Port to listen on; 0: any.",
            show_default="8765, or the next free one",
            rich_help_panel=SERVER,
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the web browser.", rich_help_panel=SERVER)
    ] = True,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Segment videos in the browser: draw, propagate, correct, export.

    Ctrl-C ends it. Nothing gets lost: the same command goes on where this one stopped.
    """
    out = Output(json=json, verbose=verbose)
    from mivos_cli.gui import serving
    from mivos_cli.gui.chosen import Chosen

    if serving.exposed(host):
        out.stderr.print(
            f"warning: other machines can reach {host}: whoever gets the address can see and change these videos, "
            "and the connection is not encrypted",
            soft_wrap=True,
        )

    def ready(address: Address) -> None:
        if json:
            typer.echo(json_lib.dumps({"url": address.url, "port": address.port}))
        else:
            typer.echo(address.url)
        opened = browser and serving.open_browser(address.url)
        if not opened:
            out.stderr.print(
                "open this address in a browser; Ctrl-C ends the server, nothing gets lost", soft_wrap=True
            )
        if os.environ.get("SSH_CONNECTION") or not (opened or serving.exposed(host)):
            tunnel = serving.tunnel(address.port)
            out.stderr.print(f"from another machine, first run there: {tunnel}", soft_wrap=True)

    serving.serve(
        path,
        session=session,
        size=size or None,
        model=Chosen(model, tuple(checkpoint or ()), device, engine, precision, fusion, memory_budget),
        host=host,
        port=port,
        ready=ready,
    )
    out.stderr.print("stopped; everything is saved", soft_wrap=True)
