"""What all routes share: how a request finds its project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse

from mivos_cli.gui.desk import Desk
from mivos_cli.gui.desks import Desks
from mivos_cli.gui.errors import ApiError
from mivos_cli.gui.home import Place


async def _desks(request: Request) -> Desks:
    return request.app.state.desks


async def _desk(project: str, request: Request) -> Desk:
    return request.app.state.desks.get(project)


async def _place(project: str, request: Request) -> Place:
    return request.app.state.desks.home.get(project)


AllDesks = Annotated[Desks, Depends(_desks)]
OpenDesk = Annotated[Desk, Depends(_desk)]  # 409 if the project is not open
AnyPlace = Annotated[Place, Depends(_place)]


def router() -> APIRouter:
    """For requests about one project."""
    return APIRouter(prefix="/api/projects/{project}", default_response_class=JSONResponse)


def check_frame(desk: Desk, frame: int) -> None:
    """ApiError 404 if there is no such frame (yet)."""
    if not 0 <= frame < desk.available:
        raise ApiError(404, f"there is no frame {frame}")
