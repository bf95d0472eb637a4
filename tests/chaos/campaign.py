"""The campaign of kills: `python -m tests.chaos.campaign --runs 200 --seed 1`; `make chaos` runs it after the tests.

Each run copies what a command begins with, starts the command, kills it (-9) at a random moment, and looks: is the
session at a commit of an uninterrupted run, does `mivos session check` find nothing, does the same command end with
the result of the uninterrupted run?
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stores.checking import check_session
from tests.chaos import cases
from tests.chaos.cases import Case
from tests.chaos.forking import Forks


@dataclass
class Reference:
    """An uninterrupted run: what its session may hold at any time, what is there at the end, and how long it takes."""

    allowed: set[cases.State | None]
    final: cases.State | None
    outputs: dict[str, str]
    seconds: float


@dataclass
class Row:
    """One line of the table."""

    runs: int = 0
    killed: int = 0
    recovered: int = 0
    problems: list[str] = field(default_factory=list)


class Campaign:
    """Runs cases below one folder.

    Args:
        base: an empty folder; everything happens below it.
    """

    def __init__(self, base: Path, forks: Forks, seed: int) -> None:
        self.environment: tuple[tuple[str, str], ...] = ()  # for all commands, besides those of the case
        self.base, self.forks, self.rng = base, forks, random.Random(seed)
        self.rows: dict[str, Row] = {}
        self._references: dict[str, Reference] = {}
        cases.prepare(base, forks)

    def run(self, case: Case) -> None:
        """One kill."""
        row = self.rows.setdefault(case.name, Row())
        reference = self._references.get(case.name) or self._reference(case)
        self._references[case.name] = reference
        work = self._fresh(case)
        moment = self.rng.uniform(0.0, reference.seconds)
        code = self._start(case, work, moment)
        self._aftermath(case, work)
        row.runs += 1
        row.killed += code == -signal.SIGKILL
        found = [
            f"after {moment:.2f} of {reference.seconds:.2f} s: {text}" for text in self._judge(case, work, reference)
        ]
        if code not in (0, -signal.SIGKILL):
            found.append(f"ended with {code}: {self._error()}")
        if found:
            kept = self.base / "problems" / f"{case.name.replace(' ', '-')}-{row.runs}"
            shutil.copytree(work, kept, dirs_exist_ok=True)
        row.problems += found
        row.recovered += not found

    def table(self) -> str:
        """Command, runs, killed in mid-work, recovered, problems."""
        width = max(len(name) for name in self.rows)
        lines = [f"{'command':<{width}}  runs  killed  recovered  problems"]
        total = Row()
        for name, row in [*self.rows.items(), ("all", total)]:
            lines.append(f"{name:<{width}}  {row.runs:4}  {row.killed:6}  {row.recovered:9}  {len(row.problems):8}")
            if row is not total:
                total.runs, total.killed = total.runs + row.runs, total.killed + row.killed
                total.recovered, total.problems = total.recovered + row.recovered, total.problems + row.problems
        return "\n".join(lines)

    def problems(self) -> list[str]:
        """All of them, with their command."""
        return [f"{name}: {text}" for name, row in self.rows.items() for text in row.problems]

    def _aftermath(self, case: Case, work: Path) -> None:
        """What happens between the kill and the next command."""

    def _fresh(self, case: Case) -> Path:
        work = self.base / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.base / "templates" / case.template, work)
        return work

    def _start(self, case: Case, work: Path, moment: float | None = None) -> int:
        environment = {name: value.format(work=work) for name, value in (*case.environment, *self.environment)}
        pid = self.forks.start(case.command(self.base, work), self.base / "last", environment)
        if moment is not None:
            time.sleep(moment)
            os.kill(pid, signal.SIGKILL)  # still there, if only as a zombie: nobody has waited for it
        return self.forks.wait(pid)

    def _reference(self, case: Case) -> Reference:
        """Run twice, since some outputs hold times of day."""
        seen = []
        for _ in range(2):
            work = self._fresh(case)
            session = work / case.session if case.session else None
            try:
                allowed = set(cases.states(session)) if session else set()
            except Exception:  # what `repair` begins with cannot be read
                allowed = set()
            started = time.monotonic()
            code = self._start(case, work)
            seconds = time.monotonic() - started
            if code != 0:
                raise RuntimeError(f"{case.name} fails without being killed: {self._error()}")
            allowed |= set(cases.states(session)) if session else set()
            final = cases.state(session) if session else None
            seen.append((cases.outputs(work / case.out if case.out else None), final, seconds, allowed))
        (first, final, once, allowed), (second, again, twice, _) = seen
        if final != again:
            raise RuntimeError(f"{case.name} does not give the same session twice")
        return Reference(allowed, final, {k: v for k, v in first.items() if second.get(k) == v}, min(once, twice))

    def _judge(self, case: Case, work: Path, reference: Reference) -> Iterator[str]:
        session = work / case.session if case.session else None
        before = None
        if session and case.name != "session repair":
            before = cases.state(session)
            if before not in reference.allowed | {None} or (before is None and case.template != "empty"):
                yield f"a state that no commit has: {before and before[:2]}"
            if before is not None:
                yield from (finding.line() for finding in check_session(session).findings if finding.damage)
        if case.visible and case.out:
            for name, content in cases.outputs(work / case.out).items():
                if reference.outputs.get(name, content) != content:
                    yield f"half of {name} is there"
        if case.again or before != reference.final:
            code = self._start(case, work)
            if code != 0:
                yield f"again: exit code {code}: {self._error()}"
                return
        if session:
            if cases.state(session) != reference.final:
                yield "again: another session"
            yield from (f"again: {found.line()}" for found in check_session(session).findings if found.damage)
        if case.out:
            ended = cases.outputs(work / case.out)
            wrong = [name for name, content in reference.outputs.items() if ended.get(name) != content]
            more = (
                sorted(set(cases.outputs(work / case.out, hidden=True)) - set(reference.outputs))
                if case.visible
                else []
            )
            if wrong:
                yield f"again: {wrong[:3]} differ"
            if more and any(".mivos-encode" in name or name.endswith(".tmp") for name in more):
                yield f"again: {more[:3]} are left"

    def _error(self) -> str:
        return " ".join((self.base / "last.err").read_text()[-400:].split())


@contextmanager
def prepared(seed: int, base: Path | None = None) -> Iterator[Campaign]:
    """A campaign in a folder that goes away unless there were problems."""
    base = base or Path(tempfile.mkdtemp(prefix="mivos-chaos-"))
    with Forks() as forks:
        campaign = Campaign(base, forks, seed)
        yield campaign
    if not campaign.problems():
        shutil.rmtree(base, ignore_errors=True)


def main() -> None:
    """Command line; the exit code is 1 if there were problems."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=200, help="kills in all, spread evenly over the commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="a command by its name in the table; repeat for several")
    parser.add_argument("--minutes", type=float, default=600, help="start no further run after so long")
    options = parser.parse_args()
    chosen = [case for case in cases.all_cases() if not options.only or case.name in options.only]
    end = time.monotonic() + 60 * options.minutes
    with prepared(options.seed) as campaign:
        for number in range(options.runs):
            if time.monotonic() > end:
                break
            case = chosen[number % len(chosen)]
            before = len(campaign.problems())
            campaign.run(case)
            for text in campaign.problems()[before:]:
                print(f"{case.name}: {text}", flush=True)
        print(campaign.table(), flush=True)
        failed = bool(campaign.problems())
        if failed:
            print(f"the folders of problems are kept below {campaign.base}")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
