"""Executors: order, retries, died workers, shards, and one that somebody else made."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.execution import cluster
from pipelines.execution import execute as loop
from pipelines.execution.execute import execute
from pipelines.execution.executors import Executor, Serial, Setup
from pipelines.execution.tasks import (
    Answer,
    Outcome,
    Task,
    mivos_version,
    parse_shard,
    run_task,
    shard_of,
    task_progress,
)
from stores.errors import ClusterError, SessionLockedError, StoreError, UsageError, VideoError

KINDS = {"usage": UsageError, "input": VideoError, "store": StoreError, "locked": SessionLockedError, "bug": KeyError}


def work(folder: str, name: str, fail: str = "", times: int = 99, kill: bool = False, seconds: float = 0.0) -> str:
    """Notes that it was begun; fails, or kills its process, the first `times` times."""
    notes = Path(folder) / "begun"
    with open(notes, "a") as file:
        file.write(f"{name}\n")
    begun = notes.read_text().split().count(name)
    time.sleep(seconds)
    if begun <= times:
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if fail:
            raise KINDS[fail](f"{name} failed")
    return f"{name} {os.getpid()}"


def task(folder: Path, name: str, *needs: str, **arguments: object) -> Task:
    return Task(name, "work", f"{__name__}:work", {"folder": str(folder), "name": name, **arguments}, needs)


def begun(folder: Path) -> list[str]:
    return (folder / "begun").read_text().split()


def states(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.id: outcome.state for outcome in outcomes}


def test_items_are_finished_one_after_the_other(tmp_path: Path) -> None:
    tasks = [task(tmp_path, f"{k}{stage}", *([f"{k}a"] if stage == "b" else [])) for k in (1, 2) for stage in "ab"]
    told: list[tuple[str, int, int]] = []
    outcomes = execute(tasks, Serial(), told=lambda outcome, done, total: told.append((outcome.id, done, total)))
    assert begun(tmp_path) == ["1a", "1b", "2a", "2b"], "not all first stages first: they fill the disk"
    assert told == [("1a", 1, 4), ("1b", 2, 4), ("2a", 3, 4), ("2b", 4, 4)]
    assert [(o.state, o.result, o.attempts) for o in outcomes][0] == ("done", f"1a {os.getpid()}", 1)


@pytest.mark.parametrize(("fail", "attempts"), [("usage", 1), ("input", 1), ("store", 3), ("bug", 3)])
def test_what_may_pass_is_tried_again(fail: str, attempts: int, tmp_path: Path) -> None:
    tasks = [task(tmp_path, "a", fail=fail), task(tmp_path, "b", "a"), task(tmp_path, "c", "b"), task(tmp_path, "d")]
    outcomes = execute(tasks, Serial(), retries=2)
    assert states(outcomes) == {"a": "failed", "b": "skipped", "c": "skipped", "d": "done"}
    assert outcomes[0].attempts == attempts == begun(tmp_path).count("a")
    assert outcomes[0].error is not None and "a failed" in outcomes[0].error and outcomes[1].error == "a failed"
    assert execute([task(tmp_path, "e", fail=fail, times=1)], Serial())[0].state == (
        "done" if attempts > 1 else "failed"
    )


def test_a_lock_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "PAUSE", 0.05)
    tasks = [task(tmp_path, "a", fail="locked", times=3), task(tmp_path, "b")]
    outcomes = execute(tasks, Serial(), retries=0)
    assert states(outcomes) == {"a": "done", "b": "done"} and outcomes[0].attempts == 1
    assert begun(tmp_path)[:2] == ["a", "b"], "others go on meanwhile"
    (outcome,) = execute([task(tmp_path, "c", fail="locked")], Serial(), retries=0, patience=0.1)
    assert outcome.state == "failed" and outcome.error == "c failed"


def test_wrong_lists_of_tasks(tmp_path: Path) -> None:
    for tasks in ([task(tmp_path, "a", "x")], [task(tmp_path, "a"), task(tmp_path, "a")], [task(tmp_path, "a", "a")]):
        with pytest.raises(ValueError):
            execute(tasks, Serial())


def test_processes_survive_a_killed_one(tmp_path: Path) -> None:
    tasks = [task(tmp_path, "a", kill=True, times=1), task(tmp_path, "b", "a"), task(tmp_path, "c", kill=True)]
    outcomes = execute([*tasks, task(tmp_path, "d")], Setup(workers=2).open(), retries=1)
    assert states(outcomes) == {"a": "done", "b": "done", "c": "failed", "d": "done"}
    assert [outcome.attempts for outcome in outcomes] == [2, 1, 2, 1]
    assert outcomes[2].error is not None and "died (signal 9)" in outcomes[2].error
    assert outcomes[2].hint is not None and "memory" in outcomes[2].hint
    assert str(os.getpid()) not in {outcome.result.split()[1] for outcome in outcomes if outcome.result}


def threads() -> dict[str, int | str]:
    report = task_progress()
    assert report is not None
    report(SimpleNamespace(stage="threads", done=1, total=1, frame=None))  # type: ignore[arg-type]  # importing the real one takes seconds
    return {"threads": os.environ["OMP_NUM_THREADS"], "gpu": os.environ["CUDA_VISIBLE_DEVICES"], "pid": os.getpid()}


def test_processes_share_cores_and_gpus_and_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr("pipelines.execution.processes.cores", lambda: 6)
    seen = []
    tasks = [Task(str(k), "threads", f"{__name__}:threads", {}) for k in range(4)]
    outcomes = execute(tasks, Setup(executor="processes", workers=2).open(seen.append))
    assert {outcome.result["threads"] for outcome in outcomes} == {"3"}
    assert {outcome.result["gpu"] for outcome in outcomes} == {"3", "5"}, "though no task has asked for one yet"
    assert len({outcome.result["pid"] for outcome in outcomes}) == 2, "networks stay loaded"
    assert [item.stage for item in seen] == ["threads"] * 4
    assert "OMP_NUM_THREADS" not in os.environ


def test_an_interrupt_ends_the_processes(tmp_path: Path) -> None:
    executor = Setup(workers=2).open()
    threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            execute([task(tmp_path, name, seconds=60.0) for name in "ab"], executor)
    finally:
        signal.signal(signal.SIGINT, before)
    import multiprocessing

    assert not multiprocessing.active_children()


def test_shards_have_each_item_once() -> None:
    items = [f"video {k}" for k in range(23)]
    for n in (1, 2, 5, 30):
        parts = [shard_of(items, (k, n)) for k in range(1, n + 1)]
        assert sorted(item for part in parts for item in part) == sorted(items)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert shard_of(items, None) == items and parse_shard("2/8") == (2, 8)
    for wrong in ("0/2", "3/2", "1", "1/2/3", "a/b", "-1/2", "1/0", "", "1.0/2", "²/3"):
        with pytest.raises(UsageError, match="--shard"):
            parse_shard(wrong)


FOREIGN = """
from pipelines.execution.tasks import run_task

class Other:
    def __init__(self, workers, cluster, report):
        self.arguments, self.tasks = (workers, cluster), []
    def slots(self):
        return 1000
    def submit(self, task):
        self.tasks.append(task)
    def wait(self, seconds):
        answers, self.tasks = [run_task(task) for task in reversed(self.tasks)], []
        return answers
    def close(self):
        self.tasks = []

def broken(**arguments):
    raise RuntimeError("no licence")
"""


def test_an_executor_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foreign_executor.py").write_text(FOREIGN)
    info = tmp_path / "foreign-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1\n")
    points = "other = foreign_executor:Other\nbroken = foreign_executor:broken"
    (info / "entry_points.txt").write_text(f"[mivos.executors]\n{points}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    executor = Setup(executor="other", cluster="somewhere", workers=3).open()
    assert executor.arguments == (3, "somewhere")  # type: ignore[attr-defined]
    outcomes = execute([task(tmp_path, name) for name in "abc"], executor)
    assert set(states(outcomes).values()) == {"done"} and begun(tmp_path) == ["c", "b", "a"]
    with pytest.raises(ClusterError, match="no licence"):
        Setup(executor="broken").open()
    with pytest.raises(UsageError, match="unknown executor") as error:
        Setup(executor="nothing").open()
    assert error.value.hint == "choose one of: serial, processes, dask, broken, other"


def test_setups() -> None:
    assert [Setup().name, Setup(workers=2).name, Setup(workers=2, cluster="local").name] == [
        "serial", "processes", "dask"
    ]  # fmt: skip
    for wrong in (Setup("serial", cluster="local"), Setup("processes", cluster="local"), Setup("serial", workers=2)):
        assert not wrong.plain
        with pytest.raises(UsageError):
            wrong.open()
    assert Setup(workers=1).plain and not Setup(shard=(1, 2)).plain


def test_answers_are_json_and_versions_are_compared(tmp_path: Path) -> None:
    answer = run_task(task(tmp_path, "a", fail="store"))
    assert Answer(**json.loads(json.dumps(answer.to_json()))) == answer
    other = run_task(task(tmp_path, "a"), told="0.0.0")
    assert other.kind == "permanent" and other.error is not None and "not 0.0.0" in other.error
    missing = run_task(Task("x", "x", "pipelines.batch_item:nothing", {}))
    assert missing.kind == "permanent" and missing.error is not None and "there is no" in missing.error


def alone(folder: str) -> None:
    """Fails while another task is under way."""
    mark = Path(folder) / "under-way"
    with open(mark, "x"):
        time.sleep(0.05)
    mark.unlink()


def test_a_worker_with_threads_runs_one_task_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_prepared", True)
    answers: list[str] = []

    def run(name: str) -> None:
        task = Task(name, "alone", f"{__name__}:alone", {"folder": str(tmp_path)})
        answers.append(cluster.on_worker(task, mivos_version(), {})["kind"])

    started = [threading.Thread(target=run, args=(str(k),)) for k in range(4)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert answers == ["done"] * 4


def test_dask_that_is_missing_or_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is no address"):
        Setup(cluster="nowhere").open()
    with pytest.raises(UsageError, match="--workers"):
        Setup(cluster="tcp://127.0.0.1:9", workers=2).open()
    monkeypatch.setattr("pipelines.execution.cluster.TIMEOUT", 1)
    with pytest.raises(ClusterError, match="tcp://127.0.0.1:9 cannot be reached"):
        Setup(cluster="tcp://127.0.0.1:9").open()
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match="missing") as error:
        Setup(cluster="tcp://127.0.0.1:9").open()
    assert error.value.hint == 'pip install "mivos[cluster]"'


def test_ours_are_executors() -> None:
    executor: Executor = Serial()
    assert executor.slots() == 1 and executor.wait(0.0) == []
