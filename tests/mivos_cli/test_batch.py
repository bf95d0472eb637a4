"""`mivos batch` on real clips: results, going on, failures, killed workers, two at once, shards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mivos_cli.app import app
from pipelines import batch_item
from pipelines.batch import BatchReport, run_batch
from pipelines.engine import ModelChoice
from pipelines.execution.executors import Setup
from stores.errors import SessionLockedError, UsageError
from stores.locking import WriterLock
from tests.mivos_cli.batches import (
    FIRST_ROUND,
    OPTIONS,
    add_clip,
    masks,
    propagating,
    record,
    rounds,
    worker_of,
    write_manifest,
)
from tests.mivos_cli.conftest import CYCLIST, GROUND, run_mivos, scribble_json, start_mivos

MODEL = ModelChoice(engine="torch", device="cpu")


@pytest.fixture(scope="module")
def data(bikes_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips a (two rounds) and b, and manifests of both, and of them and a file that is no video."""
    folder: Path = tmp_path_factory.mktemp("batch")
    rows = [
        add_clip(folder, bikes_video, "a", 6, (4, [CYCLIST, GROUND])),
        add_clip(folder, bikes_video, "b", 5),
    ]
    write_manifest(folder / "two.csv", rows)
    (folder / "bad.mp4").write_bytes(b"no video")
    write_manifest(folder / "three.csv", [{"video": "bad.mp4", "scribbles": "a.json"}, *rows])
    return folder


def run(manifest: Path, out: Path, **options: object) -> BatchReport:
    return run_batch(manifest, out, size=64, model=MODEL, formats=("png",), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("out")
    report = run(data / "two.csv", out)
    assert [(item.name, item.state, item.resumed, item.attempts) for item in report.items] == [
        ("a", "done", False, 1), ("b", "done", False, 1)
    ]  # fmt: skip
    return out


def states(report: BatchReport) -> list[tuple[str, bool]]:
    return [(item.state, item.resumed) for item in report.items]


def files(out: Path) -> dict[str, int]:
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.glob("*/**/*") if "writer" not in p.name}


def test_results_and_records(finished: Path) -> None:
    assert (rounds(finished, "a"), rounds(finished, "b")) == (2, 1)
    assert (len(masks(finished, "a")), len(masks(finished, "b"))) == (6, 5)
    kept = record(finished, "a")
    assert kept["starts"] == {"decode": 1, "segment": 1, "encode": 1} and kept["frames"] == 6
    assert kept["settings"]["size"] == 64 and kept["inputs"].keys() == {"video", "scribbles"}
    assert kept["outputs"] == {"png": "masks"} and [item["frame"] for item in kept["rounds"]] == [0, 4]
    table = (finished / "report.csv").read_text().splitlines()
    assert table[0].startswith("name,line,state,") and len(table) == 3
    assert json.loads((finished / "report.json").read_text())["counts"] == {"done": 2, "resumed": 0, "failed": 0}


def test_again_does_nothing(data: Path, finished: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    before = files(out)
    assert states(run(data / "two.csv", out)) == [("done", True)] * 2
    os.utime(data / "a.mp4")  # looked at again, and found to be the same
    assert states(run(data / "two.csv", out)) == [("done", True)] * 2
    assert files(out) == before
    (out / "b" / "item.json").unlink()  # as if killed between results and record
    (out / "b" / "begun.json").write_text(json.dumps(record(finished, "b")))
    assert states(run(data / "two.csv", out)) == [("done", True), ("done", False)]
    assert record(out, "b")["starts"] == {"decode": 1, "segment": 1, "encode": 2} and rounds(out, "b") == 1
    shutil.rmtree(out / "a" / "masks")
    assert states(run(data / "two.csv", out)) == [("done", False), ("done", True)]
    assert record(out, "a")["starts"] == {"decode": 1, "segment": 1, "encode": 2}
    assert masks(out, "a") == masks(finished, "a")
    shutil.rmtree(out / "b" / "masks")
    shutil.rmtree(out / "b" / "session")  # decoded anew, so it must be segmented anew
    assert states(run(data / "two.csv", out)) == [("done", True), ("done", False)]
    assert masks(out, "b") == masks(finished, "b")


def test_other_options_or_inputs_are_told(data: Path, finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(data, tmp_path / "data")
    out = shutil.copytree(finished, tmp_path / "out")
    text = (folder / "b.json").read_text()
    (folder / "b.json").write_text(json.dumps({**scribble_json(FIRST_ROUND, (2, [CYCLIST]), frames=5)}))
    report = run(folder / "two.csv", out)
    assert states(report) == [("done", True), ("failed", False)]
    assert "was finished with other inputs or options (scribbles)" in str(report.items[1].error)
    assert "--force" in str(report.items[1].hint) and rounds(out, "b") == 1
    (folder / "b.json").write_text(text)
    report = run(folder / "two.csv", out, snap=True)
    assert [item.error for item in report.items] == [
        f"{out / name}: was finished with other inputs or options (snap)" for name in "ab"
    ]
    report = run(folder / "two.csv", out, snap=True, force=True)
    assert states(report) == [("done", False)] * 2 and record(out, "b")["settings"]["snap"]
    assert (rounds(out, "a"), rounds(out, "b")) == (2, 1)


def test_a_folder_of_something_else_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    report = run(data / "two.csv", tmp_path)
    assert states(report) == [("failed", False), ("done", False)]
    assert "holds notes.txt, which is not from a batch" in str(report.items[0].error)
    (tmp_path / "b" / "notes.txt").write_text("mine")
    report = run(data / "two.csv", tmp_path, force=True)  # replaces what a batch has made
    assert states(report) == [("failed", False)] * 2 and masks(tmp_path, "b")
    assert [(tmp_path / name / "notes.txt").read_text() for name in "ab"] == ["mine"] * 2


def test_options_of_rows_are_checked_before_any_work(data: Path, tmp_path: Path) -> None:
    row = {"video": "a.mp4", "scribbles": "a.json"}
    for column, value in (("model", "other"), ("format", "gif"), ("fusion", "half"), ("engine", "steam")):
        manifest = write_manifest(data / "wrong.csv", [{**row, column: ""}, {**row, "name": "x", column: value}])
        with pytest.raises(UsageError, match=f"wrong.csv, line 3, column {column}: unknown") as error:
            run(manifest, tmp_path / "out")
        assert error.value.hint and not (tmp_path / "out").exists()


def test_a_failure_is_mended_and_the_command_goes_on(data: Path, finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(data, tmp_path / "data")
    result = run_mivos("batch", folder / "three.csv", "-o", tmp_path / "out", *OPTIONS)
    assert result.returncode == 3, result.stderr
    assert "2 done, 0 were done, 1 failed" in result.stdout and "failed: bad: decode: " in result.stdout
    assert masks(tmp_path / "out", "a") == masks(finished, "a") and masks(tmp_path / "out", "b")
    assert not (tmp_path / "out/bad/masks").exists() and not (tmp_path / "out/bad/item.json").exists()
    shutil.copy(folder / "a.mp4", folder / "bad.mp4")
    assert states(run(folder / "three.csv", tmp_path / "out")) == [("done", False), ("done", True), ("done", True)]
    line = ["batch", str(folder / "a.mp4"), "-o", str(tmp_path / "out"), *OPTIONS]
    wrong = CliRunner().invoke(app, line)
    assert wrong.exit_code == 2 and wrong.stdout == "" and wrong.stderr.startswith(f"error: {folder}/a.mp4, line ")


@pytest.mark.slow
def test_a_killed_process_is_replaced(
    data: Path, finished: Path, bikes_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is propagating the first clip, a longer one, dies; what it had done is not done again."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rows = [
        add_clip(tmp_path, bikes_video, "long", 40),
        {"video": str(data / "b.mp4"), "scribbles": str(data / "b.json")},
    ]
    manifest, out, killed = write_manifest(tmp_path / "m.csv", rows), tmp_path / "out", []

    def kill() -> None:
        while not propagating(out, "long"):
            time.sleep(0.01)
        killed.append(worker_of(out, "long"))
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    report = run(manifest, out, setup=Setup(workers=2))
    assert killed and states(report) == [("done", False)] * 2
    assert [item.attempts for item in report.items] == [2, 1]
    assert record(out, "long")["starts"] == {"decode": 1, "segment": 2, "encode": 1}
    assert rounds(out, "long") == 1 and len(masks(out, "long")) == 40
    assert masks(out, "b") == masks(finished, "b")


@pytest.mark.slow
def test_two_at_once_share_the_work(data: Path, finished: Path, tmp_path: Path) -> None:
    line = ("batch", data / "two.csv", "-o", tmp_path / "out", *OPTIONS, "--json")
    both = [start_mivos(*line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    ends = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    for name in "ab":
        assert record(tmp_path / "out", name)["starts"] == {"decode": 1, "segment": 1, "encode": 1}
        assert masks(tmp_path / "out", name) == masks(finished, name)
    assert rounds(tmp_path / "out", "a") == 2


def test_a_locked_item_is_told(data: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    lock = WriterLock(tmp_path / "b")
    lock.acquire()
    try:
        order = {
            "folder": str(tmp_path / "b"), "video": str(data / "b.mp4"), "scribbles": str(data / "b.json"),
            "masks": None, "size": 64, "snap": False, "formats": ["png"], "model": {"name": "nano"}, "run": "x",
        }  # fmt: skip
        with pytest.raises(SessionLockedError, match=f"is being written by process {os.getpid()}"):
            batch_item.decode(order)
    finally:
        lock.release()
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["writer.lock"]


def test_shards_share_a_folder(data: Path, tmp_path: Path) -> None:
    first = run(data / "two.csv", tmp_path, setup=Setup(shard=(1, 2)))
    second = run(data / "two.csv", tmp_path, setup=Setup(shard=(2, 2)))
    assert [item.name for item in (*first.items, *second.items)] == ["a", "b"]
    assert {path.name for path in tmp_path.glob("report*.json")} == {"report-1-of-2.json", "report-2-of-2.json"}
    assert states(run(data / "two.csv", tmp_path)) == [("done", True)] * 2
    empty = run(data / "two.csv", tmp_path, setup=Setup(shard=(3, 3)))
    assert empty.items == () and (tmp_path / "report-3-of-3.csv").exists()


@pytest.mark.slow
def test_ctrl_c_ends_everything_and_the_command_goes_on(data: Path, bikes_video: Path, tmp_path: Path) -> None:
    rows = [add_clip(tmp_path, bikes_video, "long", 60)]
    manifest, out = write_manifest(tmp_path / "m.csv", rows), tmp_path / "out"
    line = ("batch", manifest, "-o", out, *OPTIONS, "--executor", "processes", "--workers", "2")
    process = start_mivos(*line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not propagating(out, "long"):
        assert process.poll() is None
        time.sleep(0.02)
    worker = worker_of(out, "long")
    assert worker is not None and worker != process.pid
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command continues" in error
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert not (out / "long/item.json").exists()
    assert states(run(manifest, out)) == [("done", False)]
    assert rounds(out, "long") == 1 and record(out, "long")["starts"]["decode"] == 1
