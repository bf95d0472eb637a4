"""The worker: what goes first, what is refused, what is survived, and its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from mivos_cli.gui.errors import ApiError
from mivos_cli.gui.worker import Job, Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("test", lambda owner: nullcontext())
    yield made
    made.end(lambda: None)


class Loop:
    """A job that goes round until it is let out; it counts its turns."""

    def __init__(self, worker: Worker, owner: str, **options: Any) -> None:
        self.started, self.out, self.states = threading.Event(), threading.Event(), list[str]()
        self.worker = worker
        self.job = Job("test", owner, self.work, lambda job: self.states.append(job.state), **options)
        worker.start(self.job)

    def work(self, job: Job) -> bool:
        self.started.set()
        while not self.out.wait(0.005):
            job.check()
            if job.pausing.is_set():
                return False
            self.worker.let_others_in(job)
        return True

    def wait(self) -> str:
        self.job.ended.result(30)
        return self.job.state


def test_short_calls_go_before_waiting_jobs(worker: Worker) -> None:
    order: list[str] = []
    first, second = Loop(worker, "a"), Loop(worker, "b")
    assert first.started.wait(30)
    call = worker.call("b", lambda: order.append(second.job.state))
    call.result(30)
    assert order == ["queued"] and first.job.state == "running"
    first.out.set(), second.out.set()
    assert (first.wait(), second.wait()) == ("done", "done")
    assert first.states == second.states == ["queued", "running", "done"]


def test_a_call_waits_for_a_job_of_its_own_project_or_is_refused(worker: Worker) -> None:
    patient = Loop(worker, "a")
    assert patient.started.wait(30)
    call = worker.call("a", lambda: patient.job.state)
    time.sleep(0.05)
    assert not call.done()
    patient.out.set()
    assert call.result(30) == "done"
    strict = Loop(worker, "a", exclusive="it is being changed", pausable=True)
    assert strict.started.wait(30)
    with pytest.raises(ApiError, match="it is being changed") as refused:
        worker.call("a", lambda: None)
    assert refused.value.status == 409 and "pause" in str(refused.value.hint)
    strict.out.set()


def test_the_worker_survives_what_goes_wrong(worker: Worker) -> None:
    def fail(*anything: object) -> None:
        raise ValueError("first\nsecond")

    assert isinstance(worker.call("a", fail).exception(30), ValueError)
    job = Job("test", "a", fail, lambda job: None)
    worker.start(job)
    job.ended.result(30)
    assert (job.state, job.error) == ("failed", "unexpected ValueError: first second")
    # telling about it fails
    silent = Job("test", "a", lambda job: None, lambda job: fail() if job.state != "queued" else None)
    worker.start(silent)
    silent.ended.result(30)
    assert worker.call("a", lambda: 5).result(30) == 5


def test_cancelling_and_pausing(worker: Worker) -> None:
    running, waiting = Loop(worker, "a"), Loop(worker, "a")
    assert running.started.wait(30)
    worker.cancel(waiting.job)
    assert waiting.wait() == "cancelled" and not waiting.started.is_set()
    worker.cancel(running.job)
    assert running.wait() == "cancelled"
    paused = Loop(worker, "a", pausable=True)
    assert paused.started.wait(30)
    paused.job.leave()
    assert paused.wait() == "paused"


def test_a_request_that_is_dropped_while_it_waits_for_a_job(worker: Worker) -> None:
    running = Loop(worker, "a", pausable=True)
    assert running.started.wait(30)
    assert not running.job.ended.cancel()  # as `asyncio.wrap_future` does
    running.job.leave()
    assert running.wait() == "paused" and worker.call("a", lambda: 3).result(30) == 3


def test_the_end_of_the_worker() -> None:
    worker, last = Worker("test", lambda owner: nullcontext()), []
    running, waiting = Loop(worker, "a", pausable=True), Loop(worker, "b")
    assert running.started.wait(30)
    call = worker.call("a", lambda: None)
    worker.end(lambda: last.append(threading.current_thread().name))
    assert (running.job.state, waiting.job.state, last) == ("paused", "cancelled", ["test"])
    assert isinstance(call.exception(30), ApiError)
    with pytest.raises(ApiError, match="stopping"):
        worker.call("a", lambda: None)
