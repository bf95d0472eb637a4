"""An open project: its state as last seen, its jobs and its tabs.

Everything that changes a project runs in the worker's thread. The state is kept here as it was after the last change,
so that a tab that comes while the worker is busy gets it at once.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mivos_cli.gui.errors import ApiError, explain
from mivos_cli.gui.exports import Exports
from mivos_cli.gui.home import Place
from mivos_cli.gui.hub import Hub
from mivos_cli.gui.worker import Job, Worker

if TYPE_CHECKING:
    from pipelines.editing.project import Project
    from pipelines.flow import Progress

log = logging.getLogger("mivos")
REFRESH = 1.0  # seconds between states while a job runs
Frames = Iterable[int] | None


class Desk:
    """One open project."""

    def __init__(
        self, place: Place, project: Project, core: dict[str, Any], worker: Worker, exporter: Worker,
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        """
        Args:
            core: the project's state; worker: of everything but exports; loop: of the tabs.
        """
        self.place, self.project, self.hub = place, project, Hub(loop)
        self.exports = Exports(place.session)
        self.jobs: dict[str, Job] = {}
        self._core, self._refreshed, self._decoded = core, time.monotonic(), 0
        self._revisions = itertools.count(2)
        self._revision = 1
        self._reached: dict[str, int] = {}  # by the propagation under way
        self._worker, self._exporter = worker, exporter

    # ---- state

    @property
    def core(self) -> dict[str, Any]:
        """The project's own part of the state."""
        return self._core

    @property
    def available(self) -> int:
        """Frames that can be shown."""
        return max(self._core["decoded_frames"], self._decoded)

    def state(self) -> dict[str, Any]:
        """The state in JSON types. Any thread."""
        core, active = self._core, [job for job in tuple(self.jobs.values()) if job.active]
        if core["round"] is not None and any(job.kind == "propagate" and job.state == "running" for job in active):
            core = {**core, "round": {**core["round"], **self._reached, "paused": False}}
        own = [job.to_json() for job in active]
        exporting = any(job.kind == "export" for job in active)
        return {**core, "revision": self._revision, "id": self.place.id, "jobs": own, "exporting": exporting}

    def refresh(self, *, hurry: bool = True) -> None:
        """Reads the project's state and tells the tabs. The worker's thread."""
        self._core, self._refreshed = self.project.state(), time.monotonic()
        self._tell(hurry=hurry)

    def _tell(self, *, hurry: bool = True) -> None:
        self._revision = next(self._revisions)
        self.hub.state(self.state(), hurry=hurry)

    # ---- changes

    async def edit(self, change: Callable[[], Any], frames: Callable[[Any], Frames]) -> Any:
        """Runs a short change in the worker's thread and returns what it returned.

        Args:
            frames: gets that and tells whose masks changed, None: all.

        Raises:
            ApiError: 409, a job is changing the project. And what `change` raises.
        """

        def work() -> Any:
            result = change()
            self.hub.masks(frames(result))  # before the state: somebody waits for the picture
            self.refresh()
            return result

        return await asyncio.wrap_future(self._worker.call(self, work))

    def start(
        self, kind: str, work: Callable[[Job], bool | None], *, exclusive: str | None = None, pausable: bool = False
    ) -> Job:  # fmt: skip
        """Queues a job; exports go to a thread of their own. For the event loop."""
        from pipelines.editing.project import Cancelled

        export = kind == "export"

        def whole(job: Job) -> bool | None:
            try:
                return work(job)
            finally:
                if not export:
                    self._look_again(job)

        job = Job(kind, self, whole, self._changed, (Cancelled,), exclusive, pausable)
        self.jobs = {**{key: old for key, old in self.jobs.items() if old.active}, job.id: job}
        (self._exporter if export else self._worker).start(job)
        return job

    def report(self, job: Job, item: Progress) -> None:
        """The progress callback of all jobs: tells the tabs, lets others in, raises when the job is to end."""
        if item.stage == "interact":  # the round has begun
            self.refresh()
        else:
            self.hub.progress(job.id, job.kind, item.done, item.total, item.frame)
        if job.kind == "export":
            job.check()
            return
        if job.kind == "decode":
            self._decoded = item.done
        elif job.kind == "propagate" and item.frame is not None:
            self._reached = {"done": item.done, "total": item.total or item.done}
            self.hub.masks([item.frame], hurry=False)
        if time.monotonic() - self._refreshed > REFRESH:
            self.refresh(hurry=False)
        job.check()
        self._worker.let_others_in(job)

    def _look_again(self, job: Job) -> None:
        """A job has ended, however it did; the state is told together with the job's."""
        self._reached = {}
        if job.kind in ("propagate", "delete"):
            self.hub.masks(None)
        try:
            self._core = self.project.state()
        except Exception as error:
            log.error("%s", explain(error)["error"])

    def cancel(self, job: Job) -> None:
        """Ends a job at its next progress, or at once if it waits."""
        (self._exporter if job.kind == "export" else self._worker).cancel(job)

    def running(self, *kinds: str) -> Job | None:
        """The job of one of these kinds that is queued or running."""
        return next((job for job in tuple(self.jobs.values()) if job.active and job.kind in kinds), None)

    def _changed(self, job: Job) -> None:
        self.hub.job(job.to_json())
        self._tell()

    # ---- longer work

    def propagate(self, direction: str, to: int | None, frames: Sequence[int] | None) -> Job:
        """Drafts become rounds."""
        self.require_idle()

        def work(job: Job) -> bool:
            return self.project.propagate(direction, to, frames, partial(self.report, job), stop=job.pausing.is_set)

        return self.start("propagate", work, exclusive="a propagation is running", pausable=True)

    def resume(self) -> Job:
        """Goes on with a paused round."""
        self.require_paused()

        def work(job: Job) -> bool:
            return self.project.resume(partial(self.report, job), stop=job.pausing.is_set)

        return self.start("propagate", work, exclusive="a propagation is running", pausable=True)

    async def pause(self) -> Job:
        """Pauses the propagation; returns when it has stopped."""
        job = self.running("propagate")
        if job is None:
            raise ApiError(409, "no propagation is running")
        if job.state == "queued":
            self.cancel(job)
        else:
            job.leave()
        await asyncio.wrap_future(job.ended)
        return job

    def delete_object(self, number: int) -> Job:
        """An object leaves all masks."""
        self.require_idle()

        def work(job: Job) -> None:
            self.project.delete_object(number, partial(self.report, job))

        return self.start("delete", work, exclusive="an object is being deleted")

    def export(self, formats: Sequence[str]) -> Job:
        """The committed masks become files."""
        if not self._core["computed"]:
            raise ApiError(409, "there are no masks to export yet", hint="propagate, or keep the frame's masks, first")

        def work(job: Job) -> None:
            self.exports.make(self.project.export, formats, partial(self.report, job), job.check)

        return self.start("export", work)

    def prepare(self) -> None:
        """Decoding goes on by itself, and the networks are loaded. For the event loop, after opening."""
        if not self._core.get("decoded") and self.running("decode") is None:
            reading = "the video is still being read"
            self.start("decode", lambda job: self.project.decode(partial(self.report, job)), exclusive=reading)
        if self.running("load") is None:
            self.start("load", lambda job: self.project.warm_up())

    async def close(self) -> None:
        """Ends the jobs without loss and gives the session back."""
        for job in [job for job in self.jobs.values() if job.active]:
            if job.state == "queued":
                self.cancel(job)
            else:
                job.leave()
            await asyncio.wrap_future(job.ended)
        await asyncio.wrap_future(self._worker.call(self, self.project.close))
        self.hub.close()

    def require_idle(self) -> None:
        """ApiError 409 if a propagation runs or is paused, or an object is being deleted."""
        if (job := self.running("propagate", "delete")) is not None:
            raise ApiError(409, job.exclusive or job.kind, hint="pause it or wait until it has finished")
        if self._core["round"] is not None:
            raise ApiError(409, "a propagation is paused", hint="continue it, keep what it has done, or discard it")

    def require_paused(self) -> None:
        """ApiError 409 if no propagation is paused."""
        if (job := self.running("propagate", "delete")) is not None:
            raise ApiError(409, job.exclusive or job.kind, hint="pause it or wait until it has finished")
        if self._core["round"] is None:
            raise ApiError(409, "no propagation is paused")
