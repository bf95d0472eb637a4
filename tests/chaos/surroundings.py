"""What is around a command and goes wrong: a full or read-only disk, a clock that jumps, folders without locks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.campaign import Campaign, Reference, Row
from tests.chaos.cases import Case

DISK_MB = 24
LARGE_MB, LARGE = 400, ("train", "models import")  # commands that write weights


def build_shim(folder: Path) -> Path | None:
    """The library of `clock.c`; None where there is no compiler or the system is another one."""
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    if shutil.which("cc") is None or subprocess.run(command, capture_output=True).returncode != 0:
        return None
    return library


@contextmanager
def small_disk(folder: Path, megabytes: int = DISK_MB) -> Iterator[bool]:
    """A few MB of memory as a disk at `folder`; False where this user may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


class DiskCampaign(Campaign):
    """Each run has a disk that fills up at a random moment, or is read-only; then there is room again."""

    read_only = False

    def run(self, case: Case) -> None:
        row = self.rows.setdefault(case.name, Row())
        reference = self._references.get(case.name) or self._reference(case)
        self._references[case.name] = reference
        with small_disk(self.base / "work", LARGE_MB if case.name in LARGE else DISK_MB) as mounted:
            assert mounted, "asked for before"
            work = self._fresh(case)
            self._narrow(reference)
            code = self._start(case, work)
            found = list(self._told(code, case))
            self._widen()
            found += self._judge(case, work, reference)
        row.runs += 1
        row.killed += code != 0  # here: stopped by the disk
        row.problems += found
        row.recovered += not found

    def _fresh(self, case: Case) -> Path:
        work = self.base / "work"
        work.mkdir(exist_ok=True)
        for path in work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.base / "templates" / case.template, work, dirs_exist_ok=True)
        return work

    def _narrow(self, reference: Reference) -> None:
        work = self.base / "work"
        self.read_only = self.rng.random() < 0.2
        if self.read_only:
            subprocess.run(["mount", "-o", "remount,ro", str(work)], check=True)
            return
        room = shutil.disk_usage(work).free
        left = min(room, int(self.rng.choice((2**13, 2**16, 2**20)) * self.rng.random()))
        with open(work / "filler", "wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, max(1, room - left))

    def _widen(self) -> None:
        work = self.base / "work"
        if self.read_only:
            subprocess.run(["mount", "-o", "remount,rw", str(work)], check=True)
        (work / "filler").unlink(missing_ok=True)

    def _told(self, code: int, case: Case) -> Iterator[str]:
        """A command that had no room says so in one line with a hint."""
        if code == 0:
            return
        said = (self.base / "last.err").read_text()
        lines = [line for line in said.splitlines() if line.startswith("error:")]
        kind = "read-only" if self.read_only else "no room"
        traceback = "Traceback" in said and case.name != "train"  # TensorBoard's thread prints its own
        if code not in (1, 3) or len(lines) != 1 or traceback or "unexpected" in said or "damaged" in said:
            yield f"{kind}: exit code {code}: {said[-300:]}"
        elif not any(word in said.lower() for word in ("space", "read-only", "cannot be written", "cannot be made")):
            yield f"{kind}: does not say what is wrong: {lines[0]}"
