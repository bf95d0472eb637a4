"""Cases go to a worker process: a hang, a crash or too much memory is a verdict, not the end of the tests."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

WALL_SECONDS = 30.0  # for one case, on a machine that may be busy; the worker itself bounds the processor's time
START_SECONDS = 120.0


@dataclass
class Tally:
    """What became of the cases of one target."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    @property
    def cases(self) -> int:
        return sum(self.counts.values())


TALLIES: dict[str, Tally] = {}  # target -> tally, for the summary at the end


class Sandbox:
    """Runs cases of one target, one after the other; a context manager."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.tally = TALLIES.setdefault(target, Tally())
        self.errors = tempfile.TemporaryFile()
        self.process: Any = None

    def __enter__(self) -> Sandbox:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self.errors.close()

    def run(self, path: Path) -> str:
        """Have one case read; "value" or "refused".

        Raises:
            AssertionError: it did something else: an exception, a hang, a crash, an act beside reading.
        """
        if self.process is None:
            self._start()
        self.process.stdin.write(json.dumps(str(path)) + "\n")
        self.process.stdin.flush()
        answer = self._answer(WALL_SECONDS)
        kind = answer["kind"]
        self.tally.counts[kind] += 1
        self.tally.slowest = max(self.tally.slowest, answer.get("seconds", 0.0))
        assert kind in ("value", "refused"), f"{self.target}: {kind}: {answer['text']}"
        return kind

    def _answer(self, seconds: float) -> dict[str, Any]:
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else ""
        if line:
            return dict(json.loads(line))
        code = self.process.poll() if not ready else self.process.wait()
        self._stop()
        self.errors.seek(0)
        said = self.errors.read()[-1500:].decode(errors="replace")
        if not ready:
            return {"kind": "hang", "text": f"no answer in {seconds} s"}
        return {"kind": "crash", "text": f"the worker ended with {code}: {said}"}

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", self.target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=ROOT,
        )
        first = self._answer(START_SECONDS)
        assert first["kind"] == "ready", first

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def summary() -> list[str]:
    """A table of all targets that had cases."""
    lines = [f"{'target':<16} {'cases':>6} {'read':>6} {'refused':>8} {'bugs':>5}  slowest"]
    for name, tally in TALLIES.items():
        counts = tally.counts
        bugs = tally.cases - counts["value"] - counts["refused"]
        row = f"{name:<16} {tally.cases:>6} {counts['value']:>6} {counts['refused']:>8} {bugs:>5}"
        lines.append(f"{row}  {tally.slowest:.2f} s")
    lines.append(f"{'all':<16} {sum(tally.cases for tally in TALLIES.values()):>6}")
    return lines
