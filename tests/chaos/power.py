"""Pulled plugs: after a kill, what was written since the last sync is lost at random, and the session must be whole.

What a disk holds after a loss of power cannot be tried out in a test, so it is played: each sync notes which files
there are. Of those that are newer, some get lost, empty, cut or zeroed, and a replaced branch may be what it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stores.checking import REPOSITORY, check_session
from stores.errors import MivosError
from stores.repairing import repair_session
from stores.session import Session
from tests.chaos import cases
from tests.chaos.campaign import Campaign, Reference
from tests.chaos.cases import Case
from tests.chaos.forking import Forks
from tests.chaos.hooks import files

CASES = ("segment", "decode", "interact", "propagate", "fuse")


class PowerCampaign(Campaign):
    """Each run is a kill and a loss of power."""

    def __init__(self, base: Path, forks: Forks, seed: int) -> None:
        super().__init__(base, forks, seed)
        self.log = base / "syncs"
        self.environment = (("CHAOS_SYNCS", str(self.log)),)
        self.lost = self.repaired = 0
        self._committed: str | None = None

    def _fresh(self, case: Case) -> Path:
        work = super()._fresh(case)
        self.log.unlink(missing_ok=True)
        return work

    def _aftermath(self, case: Case, work: Path) -> None:
        assert case.session is not None
        folder = work / case.session / REPOSITORY
        before = self.base / "templates" / case.template / case.session / REPOSITORY
        # What a case begins with was on the disk long ago.
        synced = {"files": files(folder) if not self.log.exists() else {}, "refs": {}}
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        for line in lines:
            try:
                synced = json.loads(line)
            except ValueError:
                break  # killed while it was noted: the sync may not count
        self._committed = (
            json.loads(synced["refs"]["refs/branch.main/ref.json"])["snapshot"] if synced["refs"] else None
        )
        if not synced["files"] or not folder.exists():
            return
        if not lines and before.exists():
            return
        for name, facts in files(folder).items():
            if synced["files"].get(name) != facts:
                self._lose(folder / name, synced["refs"].get(name))

    def _lose(self, file: Path, old: str | None) -> None:
        way = self.rng.choice(("keep", "keep", "lose", "cut", "empty", "zero", "old"))
        size = file.stat().st_size
        self.lost += way != "keep"
        if way == "lose":
            file.unlink()
        elif way == "cut":
            os.truncate(file, self.rng.randrange(size + 1))
        elif way == "empty":
            os.truncate(file, 0)
        elif way == "zero":
            file.write_bytes(bytes(size))
        elif way == "old" and old is not None:
            file.write_text(old)

    def _judge(self, case: Case, work: Path, reference: Reference) -> Iterator[str]:
        assert case.session is not None
        session = work / case.session
        if Session.exists(session):
            try:
                clean = check_session(session).clean
                cases.state(session)
            except MivosError as error:
                clean = False
                if not error.hint:
                    yield f"an error without a hint: {error}"
            if not clean:
                self.repaired += 1
                try:
                    repair_session(session)
                except MivosError as error:
                    yield f"cannot be repaired: {error}"
                    return
            with Session.open(session) as opened:
                if self._committed and self._committed not in commits(opened):
                    yield "what was committed is gone"
        yield from super()._judge(case, work, reference)


def commits(session: Session) -> set[Any]:
    """Ids of all commits of `main`, those in between, too."""
    return {info.id for info in session._timeline.repository.ancestry(branch="main")}
