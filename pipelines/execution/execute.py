"""The loop that hands tasks to an executor, in order, and decides what to try again."""

from __future__ import annotations

import heapq
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from pipelines.execution.executors import Executor
from pipelines.execution.tasks import DONE, FAILED, SKIPPED, Answer, Outcome, Task

PATIENCE = 600.0  # seconds that a task waits for another process to let go of its files
PAUSE = 1.0  # seconds until a locked task is tried again
log = logging.getLogger("mivos")

Told = Callable[[Outcome, int, int], None]  # what became of a task, tasks that are over, tasks in all


def execute(
    tasks: Sequence[Task],
    executor: Executor,
    *,
    retries: int = 1,
    patience: float = PATIENCE,
    told: Told | None = None,
) -> list[Outcome]:
    """Runs tasks; each as soon as those it needs are done, the first ones first.

    A task that fails stops no other but those that need it. What may go better the next time is tried again at once:
    a died worker, a full disk, anything unforeseen. What is being written by another process is tried again later.

    Args:
        tasks: with unique ids; `needs` names tasks of this list.
        retries: further attempts for each task; waiting for a lock counts as none.
        patience: seconds to wait for a lock.
        told: is called when a task is over.

    Returns:
        An outcome for each task, in their order.

    Raises:
        ClusterError: the executor itself failed. ValueError: ids that are not unique, unknown needs.
    """
    run = _Run(tasks, executor, retries, patience, told or (lambda outcome, done, total: None))
    try:
        return run.outcomes()
    finally:
        executor.close()


class _Run:
    def __init__(
        self, tasks: Sequence[Task], executor: Executor, retries: int, patience: float, told: Told
    ) -> None:  # fmt: skip
        self.tasks, self.executor, self.retries, self.patience, self.told = tasks, executor, retries, patience, told
        self.at = {task.id: position for position, task in enumerate(tasks)}
        if len(self.at) != len(tasks) or any(need not in self.at for task in tasks for need in task.needs):
            raise ValueError("tasks need unique ids and may only need each other")
        self.lacking = {task.id: len(set(task.needs)) for task in tasks}
        self.needed_by: dict[str, list[str]] = defaultdict(list)
        for task in tasks:
            for need in set(task.needs):
                self.needed_by[need].append(task.id)
        self.ready = [position for position, task in enumerate(tasks) if not task.needs]  # sorted is a heap
        self.later: list[tuple[float, int]] = []  # (time, position) of tasks that wait for a lock
        self.since: dict[str, float] = {}
        self.attempts: dict[str, int] = defaultdict(int)
        self.under_way = 0
        self.over: dict[str, Outcome] = {}

    def outcomes(self) -> list[Outcome]:
        while len(self.over) < len(self.tasks):
            now = time.monotonic()
            while self.later and self.later[0][0] <= now:
                heapq.heappush(self.ready, heapq.heappop(self.later)[1])
            while self.ready and self.under_way < self.executor.slots():
                task = self.tasks[heapq.heappop(self.ready)]
                self.attempts[task.id] += 1
                self.under_way += 1
                self.executor.submit(task)
            if self.under_way:
                # tasks that wait for a lock want to be looked after
                limit = max(0.0, self.later[0][0] - now) if self.later else None
                for answer in self.executor.wait(limit):
                    self.under_way -= 1
                    self._take(answer)
            elif self.later:
                time.sleep(max(0.0, self.later[0][0] - now))
            elif len(self.over) < len(self.tasks):
                raise ValueError("tasks need each other in a circle")
        return [self.over[task.id] for task in self.tasks]

    def _take(self, answer: Answer) -> None:
        name = answer.id
        if answer.kind == "locked" and self._wait(answer):
            return
        if answer.kind in ("transient", "died") and self.attempts[name] <= self.retries:
            log.warning("%s: %s; it is tried again", name, answer.error)
            heapq.heappush(self.ready, self.at[name])
            return
        state = DONE if answer.kind == "done" else FAILED
        self._end(
            Outcome(name, state, answer.result, answer.error, answer.hint, self.attempts[name], answer.seconds,
                    answer.worker)
        )  # fmt: skip

    def _wait(self, answer: Answer) -> bool:
        """Whether a locked task is tried again."""
        now = time.monotonic()
        if answer.id not in self.since:
            log.warning("%s: waiting: %s", answer.id, answer.error)
        if now - self.since.setdefault(answer.id, now) > self.patience:
            return False
        self.attempts[answer.id] -= 1
        heapq.heappush(self.later, (now + min(PAUSE, self.patience), self.at[answer.id]))
        return True

    def _end(self, outcome: Outcome) -> None:
        self.over[outcome.id] = outcome
        self.told(outcome, len(self.over), len(self.tasks))
        for name in self.needed_by.pop(outcome.id, ()):
            if name in self.over:
                continue
            if outcome.state != DONE:
                self._end(Outcome(name, SKIPPED, error=f"{outcome.id} {outcome.state}"))
                continue
            self.lacking[name] -= 1
            if not self.lacking[name]:
                heapq.heappush(self.ready, self.at[name])
