"""The one thread that owns the model and the sessions opened for writing.

Short calls (edits) go before jobs (decoding, propagation). A job that reports progress lets the short calls of other
projects through between two frames; calls of its own project are refused while it changes that project.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from mivos_cli.gui.errors import ApiError, explain

log = logging.getLogger("mivos")
JobState = Literal["queued", "running", "paused", "done", "failed", "cancelled"]


class Stopped(Exception):
    """A job gave up because it was asked to."""


@dataclass(eq=False)
class Job:
    """Work of more than a moment.

    Attributes:
        kind: "decode", "load", "propagate", "delete" or "export"; owner: what it works on.
        work: gets the job; returns False if it was paused. It must call `check` (or see `pausing`) often.
        stops: exceptions that mean that `work` gave up as asked, not that it failed.
        changed: called in the worker's thread after each change of `state`.
        exclusive: why calls of the same owner are impossible meanwhile; None: they wait for their turn.
        pausable: `work` ends early, keeping what it did, when `pausing` is set.
    """

    kind: str
    owner: Hashable
    work: Callable[[Job], bool | None]
    changed: Callable[[Job], None]
    stops: tuple[type[BaseException], ...] = (Stopped,)
    exclusive: str | None = None
    pausable: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    state: JobState = "queued"
    error: str | None = None
    hint: str | None = None
    pausing: threading.Event = field(default_factory=threading.Event)
    cancelling: threading.Event = field(default_factory=threading.Event)
    ended: Future[None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.ended.set_running_or_notify_cancel()  # a request that waits for it and is dropped must not cancel it

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "kind": self.kind, "state": self.state, "error": self.error, "hint": self.hint}

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")

    def check(self) -> None:
        """Raises what `work` passes on when the job is to end."""
        if self.cancelling.is_set():
            raise self.stops[0]

    def leave(self) -> None:
        """Ends the job soon without losing what it did, as far as its kind allows."""
        (self.pausing if self.pausable else self.cancelling).set()


class Worker:
    """One thread with a queue of calls and a queue of jobs.

    Args:
        name: of the thread; around: `around(owner)` is a context in which everything of that owner runs.
    """

    def __init__(self, name: str, around: Callable[[Hashable], Any]) -> None:
        self._around = around
        self._calls: deque[tuple[Hashable, Callable[[], Any], Future[Any]]] = deque()
        self._jobs: deque[Job] = deque()
        self._current: Job | None = None
        self._change = threading.Condition()
        self._ending: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, owner: Hashable, function: Callable[[], Any]) -> Future[Any]:
        """Runs a short function in the thread, after those that came before it.

        Raises:
            ApiError: 409, a job of the owner is running that shuts it out, or the server is stopping.
        """
        future: Future[Any] = Future()
        with self._change:
            self._refuse_when_ending()
            job = self._current
            if job is not None and job.owner == owner and job.exclusive:
                raise ApiError(409, job.exclusive, hint=_way_out(job))
            self._calls.append((owner, function, future))
            self._change.notify()
        return future

    def start(self, job: Job) -> None:
        """Queues a job."""
        with self._change:
            self._refuse_when_ending()
            self._jobs.append(job)
            job.changed(job)
            self._change.notify()

    def cancel(self, job: Job) -> None:
        """Ends a job: at once if it waits, else at its next `check`."""
        job.cancelling.set()
        with self._change:
            if job not in self._jobs:
                return
            self._jobs.remove(job)
        self._end(job, "cancelled")

    def let_others_in(self, job: Job) -> None:
        """For `work` of a running job: serves the waiting calls of other owners."""
        while (call := self._next_call(job)) is not None:
            self._serve(*call)

    def end(self, last: Callable[[], None]) -> None:
        """Ends the running job without loss, refuses what waits, calls `last` in the thread and waits for its end."""
        with self._change:
            self._ending = last
            job = self._current
            self._change.notify()
        if job is not None:
            job.leave()
        self._thread.join()

    def _refuse_when_ending(self) -> None:
        if self._ending is not None:
            raise ApiError(409, "the server is stopping", hint="start it again with `mivos gui`")

    def _next_call(self, running: Job | None) -> tuple[Hashable, Callable[[], Any], Future[Any]] | None:
        with self._change:
            if self._ending is not None:
                return None
            for call in self._calls:
                if running is None or call[0] != running.owner:
                    self._calls.remove(call)
                    return call
            return None

    def _run(self) -> None:
        while True:
            while (call := self._next_call(None)) is not None:
                self._serve(*call)
            with self._change:
                if self._ending is not None:
                    break
                if self._calls:
                    continue
                if not self._jobs:
                    self._change.wait()
                    continue
                job = self._current = self._jobs.popleft()
            self._work(job)
        for _, _, future in self._calls:
            with suppress(Exception):
                future.set_exception(ApiError(409, "the server is stopping"))
        for job in self._jobs:
            job.state = "cancelled"
            job.ended.set_result(None)
        try:
            self._ending()
        except Exception as error:
            log.error("%s", explain(error)["error"])

    def _serve(self, owner: Hashable, function: Callable[[], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            with self._around(owner):
                result = function()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _work(self, job: Job) -> None:
        outcome: JobState = "done"
        try:
            with self._around(job.owner):
                self._change_state(job, "running")
                if job.work(job) is False:
                    outcome = "paused"
        except BaseException as error:
            if isinstance(error, job.stops):
                outcome = "cancelled"
            else:
                outcome = "failed"
                told = explain(error)
                job.error, job.hint = told["error"], told["hint"]
        with self._change:
            self._current = None
        self._end(job, outcome)

    def _end(self, job: Job, state: JobState) -> None:
        with self._around(job.owner):
            self._change_state(job, state)
        job.ended.set_result(None)

    def _change_state(self, job: Job, state: JobState) -> None:
        job.state = state
        try:
            job.changed(job)
        except Exception as error:  # telling about a job must not end the thread
            log.error("%s", explain(error)["error"])


def _way_out(job: Job) -> str:
    return "pause it or wait until it has finished" if job.pausable else "wait until it has finished, or cancel it"
