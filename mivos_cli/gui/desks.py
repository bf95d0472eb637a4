"""The table of open projects, and the two threads that work on them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from mivos_cli.gui.chosen import Chosen
from mivos_cli.gui.desk import Desk
from mivos_cli.gui.errors import ApiError
from mivos_cli.gui.home import Home, Place
from mivos_cli.gui.hub import Hub, speaking
from mivos_cli.gui.worker import Worker
from stores.errors import UsageError

if TYPE_CHECKING:
    from pipelines.editing.project import Project


@contextmanager
def on_behalf_of(owner: Any) -> Iterator[None]:
    """What is logged meanwhile concerns the tabs of `owner`."""
    token = speaking.set(getattr(owner, "hub", None))
    try:
        yield
    finally:
        speaking.reset(token)


class Desks:
    """The open projects of one server. For the event loop."""

    def __init__(self, home: Home, model: Chosen, size: int | None, loop: asyncio.AbstractEventLoop) -> None:
        self.home, self.model, self.size, self.loop = home, model, size, loop
        self.worker, self.exporter = Worker("mivos-model", on_behalf_of), Worker("mivos-export", on_behalf_of)
        self._open: dict[str, Desk] = {}
        self._device: str | None = None
        self._changing: dict[str, asyncio.Lock] = {}

    def get(self, identity: str) -> Desk:
        """An open project; ApiError 404: unknown, 409: not open."""
        desk = self._open.get(identity)
        if desk is None:
            place = self.home.get(identity)
            raise ApiError(409, f"{place.path.name} is not open", hint="open it from the list of projects")
        return desk

    @property
    def device(self) -> str:
        """Where the networks run: "auto" while nobody has needed to know."""
        return self._device or self.model.device

    async def load(self) -> None:
        """Imports what takes long, so that the first project opens quickly."""

        def work() -> None:
            import pipelines.editing.project  # noqa: F401
            from pipelines.engine import networks

            self._device = str(networks(self.model.choice()).device)

        await asyncio.wrap_future(self.worker.call("load", work))

    def is_open(self, identity: str) -> bool:
        return identity in self._open

    def hubs(self) -> list[Hub]:
        return [desk.hub for desk in tuple(self._open.values())]

    async def open(self, identity: str) -> Desk:
        """Opens a project if it is not open.

        Raises:
            ApiError: 404. MivosError: it cannot be opened.
        """
        place = self.home.get(identity)
        async with self._changing.setdefault(identity, asyncio.Lock()):
            if identity not in self._open:
                project, core = await asyncio.wrap_future(self.worker.call(identity, partial(self._load, place)))
                self._open[identity] = Desk(place, project, core, self.worker, self.exporter, self.loop)
                self._open[identity].prepare()
            elif not self._open[identity].core.get("decoded"):
                self._open[identity].prepare()
            return self._open[identity]

    def _load(self, place: Place) -> tuple[Project, dict[str, Any]]:
        from pipelines.editing.project import Project
        from pipelines.engine import networks
        from stores.video import fingerprint

        model = self.model.choice()
        self._device = str(networks(model).device)  # fails before anything is opened
        project = Project.open(place.session, source=place.source, size=self.size, model=model)
        try:
            core, known = project.state(), project.session.source
            if (
                place.source is not None
                and str(place.source) != known.path
                and fingerprint(place.source) != known.sha256
            ):
                raise UsageError(f"session {place.session} is of {known.path}", hint="use another --session")
            return project, core
        except BaseException:
            project.close()
            raise

    async def close(self, identity: str) -> None:
        """Closes a project; its jobs are paused, and its tabs told."""
        async with self._changing.setdefault(identity, asyncio.Lock()):
            desk = self._open.get(identity)
            if desk is not None:
                await desk.close()
                del self._open[identity]

    def leave(self) -> None:
        """Lets running jobs end soon without loss; the rest is up to `end`. Any thread, a signal handler, too."""
        for desk in tuple(self._open.values()):
            for job in tuple(desk.jobs.values()):
                if job.active:
                    job.leave()

    def end(self) -> None:
        """Ends both threads; projects are closed, nothing is lost. Blocks."""

        def close() -> None:
            for desk in tuple(self._open.values()):
                desk.project.close()

        self.exporter.end(lambda: None)
        self.worker.end(close)
