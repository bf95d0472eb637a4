"""What is handed to executors: a task by the name of its function, and what became of it.

A task is one video and one stage. Arguments and results are small JSON values, ids and paths, never arrays. A task's
function sees on disk what is done already, so that running it again is cheap and harmless: executors may lose one.
"""

from __future__ import annotations

import importlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeVar

from stores.errors import (
    ClusterError,
    InputError,
    MivosError,
    ModelError,
    OutputExistsError,
    SessionLockedError,
    UsageError,
    one_line,
)

if TYPE_CHECKING:
    from pipelines.rounds import Progress

PERMANENT = (UsageError, InputError, OutputExistsError, ModelError, ClusterError)  # trying again cannot help
DONE, FAILED, SKIPPED = "done", "failed", "skipped"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work.

    Attributes:
        id: unique among the tasks of a run; stage: what is done, for people.
        run: "module:function"; arguments: its keyword arguments, JSON.
        needs: ids of tasks that must be done before.
        resources: what a worker must offer, such as {"GPU": 1}.
    """

    id: str
    stage: str
    run: str
    arguments: dict[str, Any]
    needs: tuple[str, ...] = ()
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """How one attempt at a task ended. `kind`: "done", "permanent", "transient", "locked" or "died" (the worker)."""

    id: str
    kind: str
    result: Any = None
    error: str | None = None
    hint: str | None = None
    seconds: float = 0.0
    worker: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the way back from a worker."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task.

    Attributes:
        state: "done", "failed", or "skipped" because a task that it needs is not done.
        result: of the function; error, hint: one line each; seconds: of the last attempt; worker: host:process.
    """

    id: str
    state: str
    result: Any = None
    error: str | None = None
    hint: str | None = None
    attempts: int = 0
    seconds: float = 0.0
    worker: str = ""


def run_task(task: Task, told: str | None = None) -> Answer:
    """Calls a task's function in this process. Failures come back as answers; Ctrl-C does not.

    Args:
        told: the version of mivos that handed the task out, None for this one.
    """
    started, worker = time.monotonic(), f"{socket.gethostname()}:{os.getpid()}"
    result, error, kind = None, None, "done"
    try:
        if told is not None and told != mivos_version():
            raise ClusterError(
                f"worker {worker} has mivos {mivos_version()}, not {told}", hint="install the same version everywhere"
            )
        result = _function(task.run)(**task.arguments)
    except Exception as problem:
        error = problem
        locked = isinstance(problem, SessionLockedError)
        kind = "locked" if locked else "permanent" if isinstance(problem, PERMANENT) else "transient"
    seconds = time.monotonic() - started
    return Answer(task.id, kind, result, _line(error), getattr(error, "hint", None), seconds, worker)


def _line(error: Exception | None) -> str | None:
    if error is None:
        return None
    return one_line(error if isinstance(error, MivosError) else f"{type(error).__name__}: {error}")


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ClusterError(f"there is no {name} here: {error}", hint="install the same mivos everywhere") from error
    return found


def mivos_version() -> str:
    """The installed version; "unknown" in a checkout that is not installed."""
    try:
        return version("mivos")
    except PackageNotFoundError:
        return "unknown"


# ---- progress of the task under way, where the executor can bring it to the user

_report: ContextVar[Callable[[Progress], None] | None] = ContextVar("report", default=None)


def task_progress() -> Callable[[Progress], None] | None:
    """Where the task under way may report its frames."""
    return _report.get()


@contextmanager
def reporting(report: Callable[[Progress], None] | None) -> Iterator[None]:
    """`task_progress` gives `report` inside the block."""
    token = _report.set(report)
    try:
        yield
    finally:
        _report.reset(token)


# ---- shards


def parse_shard(text: str) -> tuple[int, int]:
    """(k, n) of "k/n", 1 <= k <= n.

    Raises:
        UsageError: it is something else.
    """
    parts = text.split("/")
    if len(parts) == 2 and all(part.isascii() and part.isdigit() and len(part) < 8 for part in parts):
        k, n = int(parts[0]), int(parts[1])
        if 1 <= k <= n:
            return k, n
    raise UsageError(f"--shard {text[:40]!r}: is not of the form K/N with 1 <= K <= N", hint="for example --shard 1/8")


def shard_of(items: Sequence[T], shard: tuple[int, int] | None) -> list[T]:
    """Every n-th item from the k-th on; all shards together have each item once."""
    if shard is None:
        return list(items)
    k, n = shard
    return list(items[k - 1 :: n])
