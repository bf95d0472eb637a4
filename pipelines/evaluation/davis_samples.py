"""What a DAVIS interactive run keeps of its finished samples, so that it can go on after a stop.

::

    <out>/run.json                      settings; samples of other settings are never mixed
    <out>/samples/<sequence>-001.json   notes about a sample
    <out>/samples/<sequence>-001.csv    its rows, as the package gives them; written last: the sample is finished
"""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipelines.engine import Networks
from pipelines.evaluation.robot import SEED, SequenceFacts
from stores.errors import InputError, UsageError
from stores.files import atomic_file, make_folder
from stores.item_locks import item_lock
from stores.json_files import read_json

log = logging.getLogger("mivos")


def run_settings(nets: Networks, interactions: int, max_time: int, metric: str) -> dict[str, Any]:
    """What all samples of one run have in common; times are of one device."""
    device = torch.cuda.get_device_name(nets.device) if nets.device.type == "cuda" else str(nets.device)
    settings = {
        "model": nets.facts(), "engine": nets.engine, "device": device, "threads": torch.get_num_threads(),
        "interactions": interactions, "max_time": max_time, "metric": metric,
        "robot": f"davisinteractive 1.0.4, ties of the medial axis by seed {SEED}",
    }  # fmt: skip
    return json.loads(json.dumps(settings))


@dataclass(frozen=True)
class Samples:
    """The samples of one output folder."""

    folder: Path

    @classmethod
    def open(cls, out: Path, settings: dict[str, Any], *, force: bool = False, note: bool = True) -> Samples:
        """Make the folder, or go on with it.

        Args:
            settings: of `run_settings`; force: drop what is there; note: keep the settings, which whoever plays does.

        Raises:
            UsageError: it holds samples of other settings. StorageFullError: nothing can be written there.
        """
        folder, file = out / "samples", out / "run.json"
        make_folder(folder)
        old = [path for suffix in ("csv", "json") for path in folder.glob(f"*.{suffix}")]
        before = _read_json(file) or {}
        if isinstance(before.get("model"), dict):
            before["model"].setdefault("fusion", "full")  # runs of earlier versions had no choice
        if old and not force and before != settings:
            keys = ", ".join(key for key in settings if before.get(key) != settings[key])
            raise UsageError(
                f"{out}: holds samples of a run with other settings ({keys})",
                hint="choose another --output, or begin again with --force",
            )
        if force:
            for path in old:
                path.unlink()
            shutil.rmtree(out / "masks", ignore_errors=True)
            file.unlink(missing_ok=True)
        if note:
            _write_json(file, settings)
        return cls(folder)

    @staticmethod
    def place(out: Path) -> dict[str, Any]:
        """Where the samples of an output were played, as `run_settings` has it; {} if it is none."""
        before = _read_json(out / "run.json") or {}
        return {key: before[key] for key in ("engine", "device", "threads") if key in before}

    def lock(self, facts: SequenceFacts, index: int) -> AbstractContextManager[None]:
        """The right to play a sample.

        Raises:
            SessionLockedError: another process plays it.
        """
        return item_lock(self._path(facts, index, "lock"), f"{facts.name} {index}")

    def finished(self, facts: SequenceFacts, index: int, *, masks: bool) -> dict[str, Any] | None:
        """Notes about a finished sample; None if it must be played, also where `masks` are wanted but were not kept."""
        note = _read_json(self._path(facts, index, "json"))
        if note is None or not self._path(facts, index, "csv").is_file():
            return None
        if note.get("digest") != facts.digest:
            log.warning("%s %d: its masks or scribbles have changed since; it is played again", facts.name, index)
            return None
        return note if note.get("masks") or not masks else None

    def write(self, facts: SequenceFacts, index: int, note: dict[str, Any], rows: Any) -> None:
        """Keep a sample; `rows` is the package's table.

        Raises:
            StorageFullError: it cannot be written.
        """
        self._path(facts, index, "csv").unlink(missing_ok=True)
        _write_json(self._path(facts, index, "json"), note)
        with atomic_file(self._path(facts, index, "csv")) as file:
            file.write(rows.to_csv(index=False).encode())

    def rows(self, facts: SequenceFacts, index: int) -> Any:
        """The rows of a finished sample, a pandas table."""
        import pandas

        text = dict.fromkeys(("session_id", "sequence"), str)
        return pandas.read_csv(self._path(facts, index, "csv"), dtype=text)

    def _path(self, facts: SequenceFacts, index: int, suffix: str) -> Path:
        return self.folder / f"{facts.name}-{index:03d}.{suffix}"


def _read_json(path: Path) -> dict[str, Any] | None:
    with suppress(InputError):
        data = read_json(path, InputError)
        return data if isinstance(data, dict) else None
    return None


def _write_json(path: Path, data: dict[str, Any]) -> None:
    with atomic_file(path) as file:
        file.write(json.dumps(data, indent=2).encode() + b"\n")
