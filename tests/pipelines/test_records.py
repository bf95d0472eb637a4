"""Records of runs, and their comparison."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.evaluation.comparison import compare
from pipelines.evaluation.records import Data, RunRecord, hash_files, read_record, record, write_record
from stores.davis import DavisDataset
from stores.errors import InputError, UsageError
from tests.conftest import ROOT


def run(scores: dict, **settings: object) -> RunRecord:
    return record("dev", {"model": "nano", **settings}, scores)


BEFORE = {"bear": {"J&F": 90.0, "frames/s": 5.0}, "cow": {"J&F": 80.0, "frames/s": 6.0}, "dog": {"J&F": 70.0}}


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"weights")
    data = Data("set", {"bear": "ab"})
    made = record("dev", {"checkpoints": (weights,), "size": None}, {"bear": {"J": float("nan"), "F": 3}}, data=data)
    write_record(tmp_path / "run.json", made)
    assert read_record(tmp_path / "run.json") == made
    assert made.scores == {"bear": {"J": None, "F": 3.0}} and made.means == {"J": None, "F": 3.0}
    (digest,) = made.settings["checkpoints"]
    assert digest.startswith("w.pth ") and len(digest) == len("w.pth ") + 16
    text = (tmp_path / "run.json").read_text()
    assert str(tmp_path) not in text and str(ROOT) not in text


def test_code_and_machine_are_named() -> None:
    made = run(BEFORE)
    assert made.machine["cpu"] and made.machine["cores"] >= 1 and made.machine["torch"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    tracked = subprocess.run(["git", "ls-files", "pipelines/evaluation/records.py"], cwd=ROOT, capture_output=True)
    if head.returncode == 0 and tracked.stdout:
        assert made.code["revision"] == head.stdout.strip() and isinstance(made.code["changed"], bool)
    else:
        assert made.code["revision"] is None


def test_plain_means_leave_gaps_out() -> None:
    assert run(BEFORE).means == {"J&F": 80.0, "frames/s": 5.5}
    assert record("dev", {}, BEFORE, means={"J&F": 81.5}).means == {"J&F": 81.5}


def test_what_changed_is_told_the_largest_change_first() -> None:
    after = {"bear": {"J&F": 91.0, "frames/s": 1.0}, "cow": {"J&F": 75.0, "frames/s": 6.0}, "dog": {"J&F": 70.0}}
    found = compare(run(BEFORE, size=480), run(after, precision="bfloat16"))
    assert found.settings == {"size": (480, None), "precision": (None, "bfloat16")}
    assert [(item.measure, item.change) for item in found.means] == [("J&F", pytest.approx(-4 / 3)), ("frames/s", -2)]
    changes = [(item.measure, item.sequence, item.change) for item in found.sequences]
    assert changes == [
        ("J&F", "cow", -5.0), ("J&F", "bear", 1.0), ("J&F", "dog", 0.0), ("frames/s", "bear", -4.0),
        ("frames/s", "cow", 0.0),
    ]  # fmt: skip
    assert json.loads(json.dumps(found.to_json()))["sequences"][3]["percent"] == -80.0
    only = compare(run(BEFORE), run(after), measures=["frames/s"])
    assert {item.measure for item in (*only.means, *only.sequences)} == {"frames/s"}
    with pytest.raises(UsageError, match="do not share a measure 'K'"):
        compare(run(BEFORE), run(after), measures=["K"])


def test_means_are_over_what_both_runs_have() -> None:
    found = compare(run(BEFORE), run({"dog": {"J&F": 74.0}, "elk": {"J&F": 10.0}}))
    assert [(item.before, item.after) for item in found.means] == [(70.0, 74.0)]
    assert found.only_before == ("bear", "cow") and found.only_after == ("elk",)
    assert any("share 1 sequences" in note for note in found.notes)


def test_what_cannot_be_compared_is_refused() -> None:
    made = run(BEFORE)
    with pytest.raises(UsageError, match="a run of 'dev' and a run of 'speed'"):
        compare(made, replace(made, kind="speed"))
    with pytest.raises(UsageError, match="no sequence in common"):
        compare(made, run({"elk": {"J&F": 1.0}}))
    one, other = (replace(made, data=Data("set", {"bear": "aa", "cow": digest})) for digest in ("bb", "cc"))
    with pytest.raises(UsageError, match="the content of cow differs"):
        compare(one, other)
    assert "the content of cow differs between the runs" in compare(one, other, any_data=True).notes
    part = replace(made, data=Data("set", {"bear": "aa"}))
    assert not any("data" in note or "content" in note for note in compare(one, part).notes)
    assert any("does not say which data" in note for note in compare(made, one).notes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"format": 9}',
        '{"format": 1}',
        '{"format": 1, "kind": "x", "time": "", "code": 3, "data": null}',
        '{"format": 1, "kind": "x", "time": "", "code": {}, "machine": [["a", 1]], "settings": {}, "data": null, '
        '"scores": {}, "means": {}}',
    ],
)
def test_other_files_are_no_records(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(InputError, match="is no record of a run|not JSON") as caught:
        read_record(file)
    assert "\n" not in str(caught.value) and caught.value.hint
    with pytest.raises(InputError, match="cannot be read"):
        read_record(tmp_path / "none.json")


def test_data_is_known_by_content(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in ("a", "b"):
        (tmp_path / folder / "1.jpg").write_bytes(folder.encode())
    assert hash_files([tmp_path / "a" / "1.jpg"]) != hash_files([tmp_path / "b" / "1.jpg"])
    found = Data.davis(DavisDataset(shared_data), ["bear"])
    assert list(found.parts) == ["bear"] and len(found.parts["bear"]) == 64
    assert str(shared_data) not in found.name
