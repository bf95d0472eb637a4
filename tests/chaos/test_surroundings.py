"""Full and read-only disks under every command, clocks that jump, two writers, stale locks, folders without locks."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from stores.checking import check_session
from tests.chaos import cases
from tests.chaos.forking import Forks
from tests.chaos.surroundings import DiskCampaign, build_shim, small_disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
SEED = int(os.environ.get("CHAOS_SEED", "0"))
DAY = 86_400


def test_full_and_read_only_disks(tmp_path: Path) -> None:
    with small_disk(tmp_path / "trial") as mounted:
        if not mounted:
            pytest.skip("this user may not mount a disk")
    rounds = int(os.environ.get("CHAOS_DISKS", "2"))
    with Forks() as forks:
        campaign = DiskCampaign(tmp_path, forks, SEED)
        for case in cases.all_cases() * rounds:
            campaign.run(case)
    print(f"\nkilled: stopped by the disk\n{campaign.table()}")
    assert not campaign.problems(), "\n".join(campaign.problems())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Forks]:
    """Folder of the prepared sessions, and forks with a clock that can be set."""
    folder = tmp_path_factory.mktemp("clock")
    shim = build_shim(folder)
    if shim is None:
        pytest.skip("no compiler")
    forks = Forks(preload=shim)
    cases.prepare(folder, forks)
    return folder, forks


def test_clocks_that_jump(prepared: tuple[Path, Forks], tmp_path: Path) -> None:
    base, forks = prepared
    net = list(cases.NETWORKS)
    session = tmp_path / "session"
    commands = [
        ["decode", str(base / "clip.mp4"), str(session)],
        *([[stage, str(session), *more, *net] for stage, more in (
            ("interact", ["--scribbles", str(base / "two.json")]), ("propagate", []), ("fuse", []),
            ("interact", ["--scribbles", str(base / "two.json")]), ("propagate", []), ("fuse", []))]),
        ["undo", str(session)],
        ["redo", str(session)],
        ["session", "compact", str(session)],
    ]  # fmt: skip
    for seed in range(SEED, SEED + int(os.environ.get("CHAOS_CLOCKS", "4"))):
        rng = random.Random(seed)
        shutil.rmtree(session, ignore_errors=True)
        for command in commands:
            clock = rng.choice((0, -3 * DAY, 2 * DAY, -3600, 3600, -5, -400 * DAY, 4000 * DAY))
            code = forks.run(command, tmp_path / "log", {"CHAOS_CLOCK": str(clock)})
            said = (tmp_path / "log.err").read_text()
            assert code == 0, f"seed {seed}, clock {clock}: {command[0]}: {said}"
        assert cases.state(session) == cases.state(base / "templates" / "two" / "session")
        assert check_session(session).clean
        kinds = [found[1] for found in cases.states(session) if found]
        assert kinds == sorted(kinds)


def test_one_of_two_writers_is_told(prepared: tuple[Path, Forks], tmp_path: Path) -> None:
    base, forks = prepared
    session = tmp_path / "session"
    for attempt in range(4):
        shutil.copytree(base / "templates" / "interacted" / "session", session, dirs_exist_ok=attempt > 0)
        first = forks.start(["propagate", str(session), *cases.NETWORKS], tmp_path / "first")
        card = session / "writer.json"
        while not card.exists():
            time.sleep(0.01)
        code = forks.run(["undo", str(session)], tmp_path / "second")
        said = (tmp_path / "second.err").read_text()
        if forks.wait(first) == 0 and code == 1:
            assert f"is being written by process {first}" in said and "hint: wait until it has finished" in said
            break
        shutil.rmtree(session)
    else:
        pytest.fail("the first writer was never met at work")
    assert check_session(session).clean


def test_stale_locks_hinder_nobody(prepared: tuple[Path, Forks], tmp_path: Path) -> None:
    base, forks = prepared
    shutil.copytree(base / "templates" / "two" / "session", tmp_path / "session")
    card = {"pid": 1, "host": "elsewhere", "command": "mivos segment", "since": "2020-01-01T00:00:00+00:00"}
    (tmp_path / "session" / "writer.json").write_text(json.dumps(card))
    (tmp_path / "session" / "writer.lock").write_text("1")
    assert forks.run(["undo", str(tmp_path / "session")], tmp_path / "log") == 0


def test_a_folder_without_locks_is_refused_in_one_line(prepared: tuple[Path, Forks], tmp_path: Path) -> None:
    base, forks = prepared
    shutil.copytree(base / "templates" / "two" / "session", tmp_path / "session")
    code = forks.run(["undo", str(tmp_path / "session")], tmp_path / "log", {"CHAOS_NO_LOCKS": "1"})
    said = (tmp_path / "log.err").read_text()
    assert code == 1 and said.startswith("error: ") and "lock" in said and "hint: " in said, said
    assert "damaged" not in said and len(said.splitlines()) == 2
