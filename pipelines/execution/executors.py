"""Where tasks run. `open_executor` knows ours; others come as entry points of the group `mivos.executors`.

An entry point is a function of the keyword arguments of `Setup` that returns an `Executor`. Its name is what
``--executor`` takes. Nothing else is needed: retries, order and reports are the business of `execute`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.execution.tasks import Answer, Task, reporting, run_task
from stores.errors import ClusterError, MivosError, UsageError

if TYPE_CHECKING:
    from pipelines.rounds import Progress

GROUP = "mivos.executors"
OURS = ("serial", "processes", "dask")
Report = Callable[["Progress"], None]


class Executor(Protocol):
    """Runs tasks somewhere. All methods are called from one thread.

    `submit` starts a task or queues it; `run_task` is what a worker calls. `wait` returns the tasks that have ended,
    and waits for one, for `seconds` at most (None: as long as it likes, it is asked again). A task whose worker died
    is answered with kind "died". `slots` is how many tasks to hand over at a time. `close` ends everything, also tasks
    under way; it may be called twice.
    """

    def slots(self) -> int: ...

    def submit(self, task: Task) -> None: ...

    def wait(self, seconds: float | None) -> list[Answer]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Setup:
    """How to execute.

    Attributes:
        executor: name; None: "dask" with `cluster`, "processes" with more than one worker, else "serial".
        workers: processes to start, None for one for each core (dask: of a local cluster).
        cluster: address of a scheduler, or "local". shard: (k, n), see `shard_of`. retries: further attempts.
    """

    executor: str | None = None
    workers: int | None = None
    cluster: str | None = None
    shard: tuple[int, int] | None = None
    retries: int = 1

    @property
    def name(self) -> str:
        """The executor that is meant."""
        if self.executor is not None:
            return self.executor
        return "dask" if self.cluster is not None else "processes" if (self.workers or 1) > 1 else "serial"

    @property
    def plain(self) -> bool:
        """Whether nothing but the work itself was asked for."""
        return self.name == "serial" and self.shard is None and self.cluster is None and (self.workers or 1) == 1

    def open(self, report: Report | None = None) -> Executor:
        """The executor; `report` gets the progress of tasks where that is possible.

        Raises:
            UsageError: unknown, or options contradict. ClusterError: it cannot be used.
        """
        if self.cluster is not None and self.name in ("serial", "processes"):
            raise UsageError(f"--cluster makes no sense with --executor {self.name}", hint="drop one of them")
        if self.name == "serial":
            if (self.workers or 1) > 1:
                raise UsageError("--executor serial has one worker", hint="drop --workers, or take processes")
            return Serial(report)
        if self.name == "processes":
            from pipelines.execution.processes import Processes

            return Processes(self.workers or cores(), report)
        if self.name == "dask":
            from pipelines.execution.cluster import DaskExecutor

            return DaskExecutor(self.cluster or "local", self.workers)
        return self._foreign(report)

    def _foreign(self, report: Report | None) -> Executor:
        found = {point.name: point for point in entry_points(group=GROUP)}
        if self.name not in found:
            known = ", ".join((*OURS, *sorted(found)))
            raise UsageError(f"unknown executor {self.name[:60]!r}", hint=f"choose one of: {known}")
        try:
            made: Any = found[self.name].load()
            executor: Executor = made(workers=self.workers, cluster=self.cluster, report=report)
        except MivosError:
            raise
        except Exception as error:
            raise ClusterError(
                f"executor {self.name} ({found[self.name].value}) cannot be used: {type(error).__name__}: {error}",
                hint="ask those who made it",
            ) from error
        return executor


class Serial:
    """One task after the other in this process."""

    def __init__(self, report: Report | None = None) -> None:
        self._report = report
        self._tasks: deque[Task] = deque()

    def slots(self) -> int:
        return 1

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def wait(self, seconds: float | None) -> list[Answer]:
        with reporting(self._report):
            return [run_task(self._tasks.popleft())] if self._tasks else []

    def close(self) -> None:
        self._tasks.clear()


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
