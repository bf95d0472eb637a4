"""Requests that change nothing: the list of projects, state, pictures, masks, and the pushes. They run in threads.

Everything is under /api/projects/{id}, but for /api/home.
"""

from __future__ import annotations

import asyncio
import gzip
import secrets
from contextlib import suppress
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, WebSocket
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.websockets import WebSocketDisconnect

from mivos_cli import __version__
from mivos_cli.gui.bodies import FrameIndex
from mivos_cli.gui.desk import Desk
from mivos_cli.gui.errors import ApiError, explain
from mivos_cli.gui.hub import Tab
from mivos_cli.gui.requests import AllDesks, AnyPlace, OpenDesk, check_frame, router

RUN = secrets.token_hex(4)  # in the tags of cached pictures: another run may serve another video under the same name
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable", "Vary": "Cookie"}  # the cookie is of this run
CLOSED = 4000  # code of a WebSocket whose project was closed

home_api = APIRouter(prefix="/api")
api = router()


# ---- the list of projects


@home_api.get("/home")
def home(desks: AllDesks) -> Response:
    places = desks.home.places()
    lines = []
    for place in places:
        line = {**desks.home.facts(place), "open": desks.is_open(place.id)}
        lines.append(line)
    only = desks.home.only
    answer = {
        "version": __version__,
        "folder": str(desks.home.folder),
        "model": desks.model.model,
        "device": desks.device,
        "projects": lines,
        "only": None if only is None else only.id,
    }
    return JSONResponse(answer)


@api.get("/thumb.jpg")
def thumb(place: AnyPlace, desks: AllDesks) -> Response:
    return Response(desks.home.thumbnail(place), media_type="image/jpeg", headers={"Cache-Control": "no-cache"})


# ---- reading


@api.get("/state")
async def state(desk: OpenDesk) -> Response:
    return JSONResponse(desk.state())


@api.get("/frames/{frame}.jpg")
def frame_jpeg(
    desk: OpenDesk, request: Request, frame: FrameIndex, w: Annotated[int | None, Query(ge=16, le=8192)] = None
) -> Response:
    check_frame(desk, frame)
    headers = {**FOREVER, "ETag": f'"{RUN}-{frame}-{w or 0}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(desk.project.jpeg(frame, w), media_type="image/jpeg", headers=headers)


@api.get("/masks/{frame}")
def mask(desk: OpenDesk, frame: FrameIndex, which: Literal["shown", "committed", "before"] = "shown") -> Response:
    check_frame(desk, frame)
    labels = desk.project.labels(frame, which)
    headers = {"Cache-Control": "no-store"}
    if labels is None:
        return Response(status_code=204, headers=headers)
    height, width = labels.shape
    headers |= {"X-Width": str(width), "X-Height": str(height), "Content-Encoding": "gzip"}
    body = gzip.compress(np.ascontiguousarray(labels, np.uint8).tobytes(), compresslevel=1, mtime=0)
    return Response(body, media_type="application/octet-stream", headers=headers)


@api.get("/drafts/{frame}")
def draft(desk: OpenDesk, frame: FrameIndex) -> Response:
    check_frame(desk, frame)
    return JSONResponse({"actions": desk.project.draft(frame)})


@api.get("/exports")
def exports(desk: OpenDesk) -> Response:
    return JSONResponse({"exports": desk.exports.list()})


@api.get("/exports/{export}/{file}")
def exported_file(desk: OpenDesk, export: str, file: str) -> Response:
    path = desk.exports.file(export, file)
    return FileResponse(path, filename=path.name, headers={"Cache-Control": "no-store"})


# ---- pushes


@api.websocket("/ws")
async def pushes(socket: WebSocket, project: str) -> None:
    try:
        desk: Desk = socket.app.state.desks.get(project)
    except ApiError as error:
        await socket.send_denial_response(JSONResponse(explain(error), error.status))
        return
    await socket.accept()
    tab = desk.hub.join({"type": "state", **desk.state()})
    tasks = {asyncio.create_task(_send(socket, tab)), asyncio.create_task(_until_gone(socket))}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        desk.hub.leave(tab)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send(socket: WebSocket, tab: Tab) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        while (messages := await tab.take()) is not None:
            for message in messages:
                await socket.send_text(message)
        await socket.close(CLOSED, "the project was closed")


async def _until_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass  # pages have nothing to say here
