"""The application: routes, the page's files, errors as JSON, and the guard around all of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from mivos_cli.gui import changing, reading
from mivos_cli.gui.chosen import Chosen
from mivos_cli.gui.desks import Desks
from mivos_cli.gui.errors import ApiError, explain, status_of
from mivos_cli.gui.home import Home
from mivos_cli.gui.hub import LogToTabs
from mivos_cli.gui.security import Guard
from stores.errors import MivosError

STATIC = Path(__file__).parent / "static"
log = logging.getLogger("mivos")


class Page(StaticFiles):
    """The page's files; browsers ask each time whether they have changed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


class App:
    """The whole server as an ASGI application.

    Attributes:
        guarded: to be served; fastapi: what is behind the guard; desks: the open projects, from start-up on.
    """

    def __init__(self, home: Home, model: Chosen, size: int | None, *, token: str, host: str) -> None:
        self._home, self._model, self._size = home, model, size
        self.desks: Desks | None = None
        self._answering = asyncio.Event()
        fastapi = self.fastapi = FastAPI(
            title="mivos", docs_url=None, redoc_url=None, openapi_url=None, lifespan=self._lifespan
        )  # fmt: skip
        for router in (reading.home_api, reading.api, changing.api):
            fastapi.include_router(router)
        fastapi.mount("/", Page(directory=STATIC, html=True, check_dir=False))
        for kind in (MivosError, OSError, Exception):
            fastapi.add_exception_handler(kind, _failed)
        fastapi.add_exception_handler(HTTPException, _not_served)
        fastapi.add_exception_handler(RequestValidationError, _not_understood)
        self.guarded = Guard(fastapi, token, host)

    def answering(self) -> None:
        """The server can be reached: what takes long begins now, not before. For the event loop."""
        self._answering.set()

    def leave(self) -> None:
        """Lets running work come to a stop without loss. Any thread."""
        if self.desks is not None:
            self.desks.leave()

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        desks = self.desks = app.state.desks = Desks(self._home, self._model, self._size, loop)
        to_tabs = LogToTabs(desks.hubs)
        log.addHandler(to_tabs)
        first = asyncio.create_task(_open_first(desks, self._answering))
        try:
            yield
        finally:
            first.cancel()
            await asyncio.to_thread(desks.end)
            log.removeHandler(to_tabs)


async def _open_first(desks: Desks, answering: asyncio.Event) -> None:
    """The only project is being opened while the browser starts; without one, at least the libraries are loaded."""
    await answering.wait()
    with contextlib.suppress(Exception):  # who asks for it gets the reason
        if desks.home.only is not None:
            await desks.open(desks.home.only.id)
        else:
            await desks.load()


async def _failed(request: Request, error: Exception) -> Response:
    status = status_of(error)
    told = explain(error)
    if status == 500:
        log.error("%s", told["error"], extra={"answered": True})
    return JSONResponse(told, status)


async def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = 400 if error.status_code in (405, 422) else error.status_code
    return JSONResponse(explain(ApiError(status, str(error.detail))), status)


async def _not_understood(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or first["loc"][0]
    return JSONResponse(explain(ApiError(400, f"{where}: {first['msg']}")), 400)
