"""What requests may contain: their JSON bodies, checked before anything is done."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from mivos_cli.gui.errors import ApiError
from mivos_cli.options import OutputFormat

MAX_POINTS = 20_000  # of one stroke
FrameIndex = Annotated[int, Field(ge=0, lt=2**31)]
ObjectId = Annotated[int, Field(ge=1, le=255)]
ActionId = Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]


class Body(BaseModel):
    """Unknown fields and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ObjectBody(Body):
    """POST and PATCH objects."""

    name: Annotated[str, Field(max_length=200)] | None = None
    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] | None = None


class PasteBody(Body):
    """POST paste; `from` is a word of Python."""

    id: ActionId
    frame: FrameIndex
    source: Annotated[FrameIndex, Field(alias="from")]
    objects: Annotated[list[ObjectId], Field(max_length=255)] | None = None


class PropagateBody(Body):
    """POST propagate."""

    direction: Literal["both", "forward", "backward", "to", "none"] = "both"
    to: FrameIndex | None = None
    frames: Annotated[list[FrameIndex], Field(min_length=1, max_length=100_000)] | None = None


class ExportBody(Body):
    """POST export."""

    formats: Annotated[list[str], Field(min_length=1, max_length=len(OutputFormat))]

    def chosen(self) -> list[str]:
        """The formats, each once; ApiError 400 if one is unknown."""
        known = [format.value for format in OutputFormat]
        for name in self.formats:
            if name not in known:
                raise ApiError(400, f"unknown format {name[:40]!r}", hint=f"choose from {', '.join(known)}")
        return list(dict.fromkeys(self.formats))


async def read_action(request: Request) -> Any:
    """The JSON of an action, of bounded depth and length; `Action.from_json` checks the rest.

    Raises:
        ApiError: 400. 413: longer than the server takes.
    """
    try:
        data = json.loads(await request.body(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not JSON") from None
    if not isinstance(data, dict):
        raise ApiError(400, "an action must be a JSON object")
    if data.get("kind") == "paste":
        raise ApiError(400, "pasting goes by `paste` and `import`")
    path = data.get("path")
    if isinstance(path, list) and len(path) > MAX_POINTS:
        raise ApiError(400, f"a path of {len(path)} points; {MAX_POINTS} are the most", hint="draw a shorter stroke")
    return data


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
