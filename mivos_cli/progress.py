"""Progress of the stages on stderr: bars on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

if TYPE_CHECKING:
    from pipelines.flow import Progress

LINE_INTERVAL = 1.0  # seconds between two plain lines of one stage


class _Rate(ProgressColumn):
    """Frames per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:6.1f} frames/s", style="progress.data.speed")


class Bars:
    """One bar per stage. Stages that run as one stream move together. A context manager."""

    def __init__(self, console: Console) -> None:
        self._bars = RichProgress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def update(self, progress: Progress) -> None:
        """Draw `progress`; `total` None means that nobody knows the number of frames yet."""
        task = self._tasks.get(progress.stage)
        if task is None:
            task = self._tasks[progress.stage] = self._bars.add_task(progress.stage, total=progress.total)
        self._bars.update(task, completed=progress.done, total=progress.total)


def plain_lines(console: Console) -> Callable[[Progress], None]:
    """A callback that prints `stage done/total`: the first frame, the last, and one a second between."""
    last: dict[str, float] = {}

    def update(progress: Progress) -> None:
        now = time.monotonic()
        edge = progress.done <= 1 or progress.done == progress.total
        if edge or now - last.get(progress.stage, 0.0) >= LINE_INTERVAL:
            last[progress.stage] = now
            total = "?" if progress.total is None else progress.total
            console.print(f"{progress.stage} {progress.done}/{total}", soft_wrap=True)

    return update
