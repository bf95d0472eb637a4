"""Logs and checkpoints of training where the disk is full or the process dies."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from pipelines.training.logs import LOG, RunLog
from pipelines.training.state import write_torch
from stores.errors import StorageFullError


def test_the_log_is_whole_when_a_resumed_run_dies_while_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(json.dumps({"iteration": number}) + "\n" for number in range(1, 6))
    (tmp_path / LOG).write_text(lines)

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            RunLog(tmp_path, None, active=True, iteration=3, text="")
    assert (tmp_path / LOG).read_text() == lines
    RunLog(tmp_path, None, active=True, iteration=3, text="").close()
    assert [json.loads(line)["iteration"] for line in (tmp_path / LOG).read_text().splitlines()] == [1, 2, 3]


def test_a_full_disk_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "last.pt").write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 426944 vs 426832\nmore")

    monkeypatch.setattr(torch, "save", fail)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(StorageFullError, match="last.pt: cannot be written: No space left on device") as caught:
        write_torch({}, tmp_path / "last.pt")
    assert caught.value.hint and (tmp_path / "last.pt").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
