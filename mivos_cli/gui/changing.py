"""Requests that change something. What is short is awaited; what is long becomes a job, and its id the answer.

Everything is under /api/projects/{id}.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query, Request
from starlette.responses import JSONResponse, Response

from mivos_cli.gui.bodies import ActionId, ExportBody, FrameIndex, ObjectBody, PasteBody, PropagateBody, read_action
from mivos_cli.gui.desk import Desk, Frames
from mivos_cli.gui.errors import ApiError
from mivos_cli.gui.requests import AllDesks, OpenDesk, check_frame, router

api = router()


@api.post("/open")
async def open_project(project: str, desks: AllDesks) -> Response:
    return JSONResponse((await desks.open(project)).state())


@api.post("/close")
async def close_project(project: str, desks: AllDesks) -> Response:
    desks.home.get(project)
    await desks.close(project)
    return JSONResponse({})


# ---- edits


@api.post("/actions")
async def act(desk: OpenDesk, request: Request) -> Response:
    data = await read_action(request)

    def change() -> int:
        from pipelines.editing.project import Action

        action = Action.from_json(data, num_frames=desk.available)
        desk.project.act(action)
        return action.frame

    await desk.edit(change, _this_frame)
    return JSONResponse({"revision": desk.state()["revision"]})


@api.post("/undo")
async def undo(desk: OpenDesk) -> Response:
    return await _step(desk, "undo")


@api.post("/redo")
async def redo(desk: OpenDesk) -> Response:
    return await _step(desk, "redo")


async def _step(desk: Desk, which: Literal["undo", "redo"]) -> Response:
    desk.require_idle()

    def change() -> tuple[Any, bool]:
        before = desk.project.session.commit_id
        step = desk.project.undo() if which == "undo" else desk.project.redo()
        return step, desk.project.session.commit_id != before

    def frames(result: tuple[Any, bool]) -> Frames:
        step, everywhere = result  # an action is on its frame; a round or a deletion can be on all
        return () if step is None else None if everywhere or step.frame is None else [step.frame]

    step, _ = await desk.edit(change, frames)
    if step is None:
        raise ApiError(409, f"there is nothing to {which}")
    return JSONResponse({"frame": step.frame, "what": step.what})


@api.post("/objects")
async def add_object(desk: OpenDesk, body: ObjectBody) -> Response:
    number = await desk.edit(lambda: desk.project.add_object(body.name, body.colour), _no_frames)
    return JSONResponse({"id": number})


@api.patch("/objects/{number}")
async def change_object(desk: OpenDesk, number: int, body: ObjectBody) -> Response:
    await desk.edit(lambda: desk.project.change_object(number, name=body.name, colour=body.colour), _no_frames)
    return JSONResponse({})


@api.delete("/objects/{number}")
async def delete_object(desk: OpenDesk, number: int) -> Response:
    return JSONResponse({"job": desk.delete_object(number).id})


@api.post("/paste")
async def paste(desk: OpenDesk, body: PasteBody) -> Response:
    check_frame(desk, body.frame)
    check_frame(desk, body.source)

    def change() -> int:
        desk.project.paste(body.id, body.frame, body.source, body.objects)
        return body.frame

    await desk.edit(change, _this_frame)
    return JSONResponse({"revision": desk.state()["revision"]})


@api.put("/import")
async def import_mask(
    desk: OpenDesk, request: Request, id: ActionId, frame: FrameIndex | None = None,
    name: Annotated[str | None, Query(max_length=300)] = None, snap: bool = False,
) -> Response:  # fmt: skip
    if (frame is None) == (name is None):
        raise ApiError(400, "give either frame or name")
    if frame is not None:
        check_frame(desk, frame)
    png = await request.body()
    where = await desk.edit(lambda: desk.project.import_mask(id, frame, name, png, snap), _this_frame)
    return JSONResponse({"frame": where})


# ---- jobs


@api.post("/propagate")
async def propagate(desk: OpenDesk, body: PropagateBody) -> Response:
    for frame in [*(body.frames or ()), *([] if body.to is None else [body.to])]:
        check_frame(desk, frame)
    return JSONResponse({"job": desk.propagate(body.direction, body.to, body.frames).id})


@api.post("/pause")
async def pause(desk: OpenDesk) -> Response:
    return JSONResponse({"job": (await desk.pause()).id})


@api.post("/continue")
async def resume(desk: OpenDesk) -> Response:
    return JSONResponse({"job": desk.resume().id})


@api.post("/keep")
async def keep(desk: OpenDesk) -> Response:
    desk.require_paused()
    await desk.edit(desk.project.keep, _all_frames)
    return JSONResponse({})


@api.post("/discard")
async def discard(desk: OpenDesk) -> Response:
    desk.require_paused()
    await desk.edit(desk.project.discard, _all_frames)
    return JSONResponse({})


@api.post("/jobs/{job}/cancel")
async def cancel(desk: OpenDesk, job: str) -> Response:
    if job not in desk.jobs:
        raise ApiError(404, "there is no such job; it may have ended")
    desk.cancel(desk.jobs[job])
    return JSONResponse({})


# ---- exports


@api.post("/export")
async def export(desk: OpenDesk, body: ExportBody) -> Response:
    return JSONResponse({"job": desk.export(body.chosen()).id})


@api.delete("/exports/{export}")
def delete_export(desk: OpenDesk, export: str) -> Response:
    desk.exports.delete(export)
    return JSONResponse({})


# ---- shared


def _this_frame(frame: int) -> Frames:
    return [frame]


def _no_frames(result: object) -> Frames:
    return ()


def _all_frames(result: object) -> Frames:
    return None
