"""`mivos batch --cluster`: a real scheduler, two real workers, and one of them killed while it propagates."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.batch import run_batch
from pipelines.engine import ModelChoice
from pipelines.execution.execute import execute
from pipelines.execution.executors import Setup
from pipelines.execution.tasks import Task
from pipelines.flow import segment
from stores.errors import ClusterError
from tests.mivos_cli.batches import add_clip, masks, propagating, record, rounds, worker_of, write_manifest
from tests.mivos_cli.conftest import CYCLIST, GROUND, environment

pytest.importorskip("distributed")
MODEL = ModelChoice(engine="torch", device="cpu")


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
    # with the same number of threads the same bits come out
    variables = {**environment(), "OMP_NUM_THREADS": "1", "MIVOS_THREADS": "1"}
    return subprocess.Popen(command, text=True, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture
def scheduler() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A scheduler of its own process with two workers; a killed worker stays away."""
    first = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    started = [first]
    try:
        assert first.stderr is not None
        address = next(found[0] for line in first.stderr if (found := re.search(r"tcp://127\.0\.0\.1:\d+", line)))
        threading.Thread(target=first.stderr.read, daemon=True).start()
        worker = ("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60")
        for _ in range(2):
            process = start(*worker)
            threading.Thread(target=process.stderr.read, daemon=True).start()  # type: ignore[union-attr]
            started.append(process)
        yield address, first
    finally:
        for process in started:
            process.kill()
            process.wait()


def quick(name: str) -> str:
    return f"{name} by {os.getpid()}"


def test_a_worker_killed_while_it_propagates(
    scheduler: tuple[str, subprocess.Popen[str]], bikes_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, process = scheduler
    rows = [
        add_clip(tmp_path, bikes_video, "long", 30),
        add_clip(tmp_path, bikes_video, "b", 5, (3, [CYCLIST, GROUND])),
    ]
    manifest, out, killed = write_manifest(tmp_path / "m.csv", rows), tmp_path / "out", []

    def kill() -> None:
        while not propagating(out, "long"):
            time.sleep(0.01)
        killed.append(worker_of(out, "long"))
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    setup = Setup(cluster=address)
    report = run_batch(manifest, out, size=64, model=MODEL, formats=("png",), setup=setup)
    assert killed and killed[0] not in (None, process.pid, os.getpid())
    assert [(item.name, item.state) for item in report.items] == [("long", "done"), ("b", "done")]
    assert [item.attempts for item in report.items] == [2, 1], "in mid-task, once"
    assert record(out, "long")["starts"] == {"decode": 1, "segment": 2, "encode": 1}
    assert [rounds(out, name) for name in ("long", "b")] == [1, 2]
    for row, name in zip(rows, ("long", "b"), strict=True):
        serial = tmp_path / "serial" / name
        sources = {"scribbles": tmp_path / row["scribbles"], "size": 64, "model": MODEL, "formats": ("png",)}
        segment(tmp_path / row["video"], serial, **sources)  # type: ignore[arg-type]
        assert masks(out, name) == masks(tmp_path / "serial", name)
    again = run_batch(manifest, out, size=64, model=MODEL, formats=("png",), setup=setup)
    assert all(item.resumed for item in again.items), "without a task"

    # the scheduler goes away, too
    tasks = [Task(str(k), "quick", f"{__name__}:quick", {"name": str(k)}) for k in range(3)]
    executor = setup.open()
    assert len({outcome.result.split()[2] for outcome in execute(tasks, executor)}) == 1
    executor = setup.open()
    process.kill()
    with pytest.raises(ClusterError, match="scheduler"):
        execute(tasks, executor)


@pytest.mark.slow
def test_a_local_cluster() -> None:
    tasks = [Task(str(k), "quick", f"{__name__}:quick", {"name": str(k)}, resources={"GPU": 1}) for k in range(2)]
    outcomes = execute(tasks, Setup(cluster="local", workers=1).open())
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    assert str(os.getpid()) not in {outcome.result.split()[2] for outcome in outcomes}
