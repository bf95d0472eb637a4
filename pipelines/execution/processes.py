"""Worker processes on this machine. Each is started afresh, keeps its networks, and is replaced when it dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from pipelines.execution.executors import Report, cores
from pipelines.execution.tasks import Answer, Task, reporting, run_task

if TYPE_CHECKING:
    from pipelines.rounds import Progress

# read by PyTorch, numba and OpenCV when they are loaded
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
INTERVAL = 0.2  # seconds between two messages about the progress of one task
GRACE = 5.0  # seconds to end after SIGTERM


class Processes:
    """`count` processes; the cores are divided among them, and the GPUs dealt out in turn."""

    def __init__(self, count: int, report: Report | None = None) -> None:
        self._count, self._report = count, report
        self._queue: deque[Task] = deque()
        self._workers: list[_Worker | None] = [None] * count
        self._answers: list[Answer] = []

    def slots(self) -> int:
        return self._count

    def submit(self, task: Task) -> None:
        self._queue.append(task)
        self._deal()

    def wait(self, seconds: float | None) -> list[Answer]:
        until = None if seconds is None else time.monotonic() + seconds
        while not self._answers:
            busy = [worker for worker in self._workers if worker is not None and worker.task is not None]
            left = None if until is None else max(0.0, until - time.monotonic())
            if not busy or not (ends := wait([end for worker in busy for end in worker.ends], left)):
                break
            for worker in busy:
                if any(end in ends for end in worker.ends):
                    self._listen(worker)
        self._deal()
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        self._queue.clear()
        started = [worker for worker in self._workers if worker is not None]
        self._workers = [None] * self._count
        for worker in started:
            worker.process.terminate()
        for worker in started:
            worker.process.join(GRACE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()

    def _deal(self) -> None:
        """Give queued tasks to idle workers, starting them where needed."""
        for number, worker in enumerate(self._workers):
            if not self._queue:
                return
            if worker is not None and worker.task is not None:
                continue
            if worker is None or not worker.process.is_alive():
                worker = self._workers[number] = _Worker(number, self._count)
            worker.give(self._queue.popleft())

    def _listen(self, worker: _Worker) -> None:
        task = worker.task
        assert task is not None
        try:
            while worker.connection.poll():
                kind, content = worker.connection.recv()
                if kind == "answer":
                    worker.task = None
                    self._answers.append(Answer(**content))
                    return
                if self._report is not None:
                    from pipelines.rounds import Progress

                    self._report(Progress(*content))
            if worker.process.is_alive():
                return
        except (EOFError, OSError):
            pass
        worker.process.join(GRACE)
        code = worker.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        worker.connection.close()
        self._workers[worker.number] = None
        hint = "out of memory, perhaps: fewer --workers" if code == -9 else None
        seconds = time.monotonic() - worker.since
        self._answers.append(
            Answer(
                task.id, "died", error=f"worker process {worker.process.pid} died ({how})", hint=hint, seconds=seconds
            )
        )


class _Worker:
    """One process and what it is at."""

    def __init__(self, number: int, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.number, self.task, self.since = number, None, 0.0  # type: int, Task | None, float
        self.connection, other = context.Pipe()
        # whatever its first task is: a later one may need a GPU, and PyTorch looks for them once
        gpus = _gpus()
        gpu = gpus[number % len(gpus)] if gpus else None
        with _environment(max(1, cores() // count), gpu):
            self.process = context.Process(target=_serve, args=(other,), daemon=True)
            self.process.start()
        other.close()

    @property
    def ends(self) -> tuple[Any, Any]:
        return self.connection, self.process.sentinel

    def give(self, task: Task) -> None:
        self.task, self.since = task, time.monotonic()
        with suppress(OSError):  # it died: that is seen in `wait`
            self.connection.send(task)


@contextmanager
def _environment(threads: int, gpu: str | None) -> Iterator[None]:
    """What a process started inside the block finds in its environment; fewer threads asked for stay fewer."""
    before = {name: os.environ.get(name) for name in (*THREADS, "CUDA_VISIBLE_DEVICES")}
    for name in THREADS:
        asked = os.environ.get(name, "")
        os.environ[name] = str(min(threads, int(asked)) if asked.isdigit() and int(asked) else threads)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _gpus() -> tuple[str, ...]:
    """As CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(part.strip() for part in visible.split(",") if part.strip())
    torch = sys.modules.get("torch")  # whoever hands out work for GPUs has it; importing it takes seconds
    return () if torch is None else tuple(map(str, range(torch.cuda.device_count())))


def _serve(connection: Connection) -> None:
    """A worker's life: tasks in, answers out. It ends with its parent, even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_end_with_parent, daemon=True).start()
    last = [0.0]

    def report(progress: Progress) -> None:
        now = time.monotonic()
        if now - last[0] >= INTERVAL or progress.done == progress.total:
            last[0] = now
            connection.send(("progress", (progress.stage, progress.done, progress.total, progress.frame)))

    with suppress(EOFError, OSError):
        while True:
            task = connection.recv()
            with reporting(report):
                answer = run_task(task)
            connection.send(("answer", answer.to_json()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
