"""How a long run goes along: seconds per frame and memory at some of its frames."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.rounds import Progress, Report

WINDOW = 100  # frames that a rate is taken over: those that end at the mark
MARKS = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


@dataclass(frozen=True)
class CoursePoint:
    """Where a run stood.

    Attributes:
        frame: frames propagated so far; seconds: per frame, over the `WINDOW` frames before (all, if there were fewer).
        rss_mb: resident memory just then, 2**20 bytes; 0 where the system does not tell.
    """

    frame: int
    seconds: float
    rss_mb: float


class Course:
    """A progress callback that notes the time of every propagated frame."""

    def __init__(self, total: int, report: Report | None = None, marks: Sequence[int] = MARKS) -> None:
        """
        Args:
            total: frames there will be; the last one is a mark, too. report: told everything as well.
        """
        self._marks = {*(mark for mark in marks if mark < total), total}
        self._report = report
        self._times: list[float] = []
        self.points: list[CoursePoint] = []

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "propagate":
            self._times.append(time.perf_counter())
            if progress.done in self._marks:
                recent = self._times[-WINDOW - 1 :]
                seconds = (recent[-1] - recent[0]) / max(1, len(recent) - 1)
                self.points.append(CoursePoint(progress.done, seconds, process_mb("VmRSS") or 0.0))
        if self._report is not None:
            self._report(progress)


def process_mb(field: str) -> float | None:
    """A size that Linux tells about this process ("VmRSS": now, "VmHWM": the highest), 2**20 bytes; None elsewhere."""
    try:
        found = re.search(rf"^{field}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) / 2**10 if found else None
