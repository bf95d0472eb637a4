"""Coverage-guided fuzzing with atheris, where it is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fuzz.conftest import CASES
from tests.fuzz.sandbox import TALLIES, Tally

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
SHARE = 10  # one case of so many, for each target


@pytest.mark.parametrize("target", ["scribbles", "masks", "scenes", "records", "actions", "manifests", "annotations"])
def test_no_path_through_the_code_breaks_a_promise(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    runs = max(100, CASES // SHARE)
    command = [sys.executable, "-m", "tests.fuzz.guided", target, str(runs), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=1800)
    found = re.search(r"Done (\d+) runs", done.stderr)
    assert done.returncode == 0 and found, done.stdout[-3000:] + done.stderr[-3000:]
    tally = TALLIES.setdefault(f"{target} (guided)", Tally())
    tally.counts["value"] += int(found[1])
