"""Files that are whole or not there, what killed processes leave, and folders without locks."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stores import durable
from stores.errors import StoreError
from stores.files import atomic_file, remove_abandoned
from stores.session import Session
from tests.stores import sessions

HOLD = """
import sys, time
from pathlib import Path
from stores.files import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_file_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real_sync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (steps.append("sync"), real_sync(number))[1])
    monkeypatch.setattr(os, "replace", lambda old, new: (steps.append("name"), real_replace(old, new))[1])
    with atomic_file(tmp_path / "a") as file:
        file.write(b"all")
    assert steps == ["sync", "name", "sync"]  # the last one: of the folder
    steps.clear()
    with atomic_file(tmp_path / "b", durable=False) as file:
        file.write(b"all")
    assert steps == ["name"]


def test_temporary_files_of_the_dead_go_and_those_in_use_stay(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "a")]
    environment = {**os.environ, "PYTHONPATH": str(sessions.ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        remove_abandoned(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        process.kill()
    (tmp_path / ".mine.tmp").touch()
    remove_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".mine.tmp"]


def test_without_the_system_s_own_call_each_file_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("a", "folder/b"):
        (tmp_path / name).touch()
    synced: list[int] = []
    monkeypatch.setattr(durable, "_SYNCFS", None)
    monkeypatch.delattr(os, "sync")
    monkeypatch.setattr(os, "fsync", synced.append)
    durable.sync_folder(tmp_path)
    assert len(synced) == 2


def test_a_folder_without_locks_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions.decoded(tmp_path / "s").close()

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match="lock") as caught:
        Session.open(tmp_path / "s", write=True)
    assert caught.value.hint is not None and "has locks" in caught.value.hint
    assert "damaged" not in str(caught.value)
    with Session.open(tmp_path / "s") as session:  # reading needs none
        assert session.num_frames == 6
