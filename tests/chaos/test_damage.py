"""Damaged files: what is read is right or an error, `check` finds it, `repair` mends it and says what is lost."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from stores.checking import check_session
from stores.errors import MivosError
from stores.repairing import repair_session
from tests.chaos import damage

RUNS = int(os.environ.get("CHAOS_DAMAGE", "150"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damage.build(tmp_path_factory.mktemp("whole"))


def judge(whole: Path, path: Path, seed: int) -> str:
    """Damage a copy of a session and see what comes of it: "unnoticed", "repaired", "lost some" or "nothing left"."""
    rng = random.Random(seed)
    expected = damage.readable(whole)
    assert expected is not None
    damage.copy(whole, path)
    done = damage.strike(path, rng)
    where = f"seed {seed}: {', '.join(done)}"
    seen = damage.readable(path)
    if seen is not None and any("branch.redo" in text for text in done):
        seen["history"] = expected["history"]  # a lost `redo` is one that never was: what is undone is not there
    for name, value in (seen or {}).items():
        assert value is None or value == expected[name], f"{where}: {name} is wrong and no error says so"
    checked = check_session(path)
    if seen is None or None in seen.values():
        assert not checked.clean, f"{where}: not read, but check finds nothing"
    try:
        report = repair_session(path)
    except MivosError as error:
        assert "nothing can be saved" in str(error) and error.hint, f"{where}: {error}"
        return "nothing left"
    after = check_session(path)
    assert after.clean, f"{where}: {report.actions} but {[finding.line() for finding in after.findings]}"
    assert repair_session(path).actions == [], f"{where}: repaired twice"
    final = damage.contents(path)
    changed = [name for name, value in final.items() if name in expected and expected[name] != value]
    assert not changed or report.actions, f"{where}: {changed} changed without a word"
    if checked.clean:
        assert not changed, f"{where}: {changed}"
        return "unnoticed"
    return "lost some" if changed else "repaired"


def test_session_itself_is_clean(whole: Path, tmp_path: Path) -> None:
    path = damage.copy(whole, tmp_path / "s")
    assert check_session(path).findings == [] and repair_session(path).actions == []
    assert damage.contents(path) == damage.contents(whole)


@pytest.mark.slow
def test_random_damage(whole: Path, tmp_path: Path) -> None:
    counts: dict[str, int] = {}
    problems = []
    first = int(os.environ.get("CHAOS_SEED", "0"))
    for seed in range(first, first + RUNS):
        try:
            outcome = judge(whole, tmp_path / "s", seed)
        except (Exception, SystemExit) as error:
            outcome = "problem"
            problems.append(f"{type(error).__name__}: {error}".splitlines()[0])
        counts[outcome] = counts.get(outcome, 0) + 1
    print(f"\n{RUNS} damaged sessions: {counts}")
    assert not problems, "\n".join(problems)
