"""Records of benchmark runs; `comparison` tells what changed between two of them.

A record says what was measured (scores of every sequence and their means), by which code, with which settings, on
which data and on which machine. It is a JSON file. No path of the machine is in it, so records can be shared.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from stores.davis import DavisDataset
from stores.errors import DatasetError, InputError
from stores.files import atomic_file
from stores.json_files import read_json
from stores.video import fingerprint

FORMAT = 1
_MAX_BYTES = 2**26
Scores = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class Data:
    """What a run read.

    Attributes:
        name: for people; parts: sequence (or file) -> SHA-256 of its content. Runs on parts of the same data can so be
            compared on what they share.
    """

    name: str
    parts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def davis(cls, dataset: DavisDataset, sequences: Iterable[str]) -> Data:
        """Frames and masks of sequences of a DAVIS folder.

        Raises:
            DatasetError: files are missing.
        """
        parts = {}
        for name in sequences:
            parts[name] = hash_files([*dataset.frames(name), *dataset.annotations(name)])
        return cls(f"{dataset.root.absolute().name} {dataset.year} {dataset.split} {dataset.resolution}", parts)

    @classmethod
    def video(cls, path: Path) -> Data:
        """One video file or folder of images. Raises VideoError: it cannot be read."""
        return cls(path.name, {path.name: fingerprint(path)})


@dataclass(frozen=True)
class RunRecord:
    """One run of a benchmark. `record` makes it.

    Attributes:
        kind: which benchmark, such as "dev" or "speed"; only runs of one kind are compared.
        time: when, ISO 8601, UTC.
        settings: name -> JSON value; machine, code: as `machine` and `code` give them.
        scores: sequence -> measure -> number, None where it was not measured.
        means: measure -> number.
    """

    kind: str
    time: str
    code: dict[str, Any]
    machine: dict[str, Any]
    settings: dict[str, Any]
    data: Data | None
    scores: dict[str, dict[str, float | None]]
    means: dict[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {"format": FORMAT, **asdict(self)}


def record(
    kind: str,
    settings: Mapping[str, Any],
    scores: Scores,
    *,
    data: Data | None = None,
    means: Mapping[str, float | None] | None = None,
) -> RunRecord:
    """Describes a run that has just ended.

    Args:
        settings: whatever decides the result; values that are no JSON become text, a file its name and digest.
        scores: sequence -> measure -> number. Where several methods run, a measure's name includes the method.
        means: if they are not the plain means over sequences (DAVIS averages over objects).
    """
    rows = {name: {key: _number(value) for key, value in row.items()} for name, row in scores.items()}
    wanted = plain_means(rows) if means is None else {key: _number(value) for key, value in means.items()}
    time = datetime.now(UTC).isoformat(timespec="seconds")
    kept = {name: _plain(value) for name, value in settings.items()}
    return RunRecord(kind, time, code(), machine(), kept, data, rows, wanted)


def write_record(path: Path, run: RunRecord) -> None:
    """Writes a record as JSON; the folder must exist. Raises StorageFullError: it cannot be written."""
    with atomic_file(path) as file:
        file.write(json.dumps(run.to_json(), indent=2).encode())


def read_record(path: Path) -> RunRecord:
    """Reads what `write_record` wrote.

    Raises:
        InputError: it is missing, or no record.
    """
    hint = "give the JSON file that a `mivos bench` command wrote"
    values = read_json(path, InputError, limit=_MAX_BYTES, hint=hint)
    try:
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"it has no format {FORMAT}")
        data = values["data"]
        run = RunRecord(
            kind=str(values["kind"]),
            time=str(values["time"]),
            code=_object(values, "code"),
            machine=_object(values, "machine"),
            settings=_object(values, "settings"),
            data=None if data is None else Data(str(data["name"]), {str(k): str(v) for k, v in data["parts"].items()}),
            scores={str(name): {k: _number(v) for k, v in row.items()} for name, row in values["scores"].items()},
            means={str(name): _number(value) for name, value in values["means"].items()},
        )
    except KeyError as error:
        raise InputError(f"{path}: is no record of a run: {error} is missing", hint=hint) from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: is no record of a run: {error}", hint=hint) from error
    return run


def _object(values: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(values[name], dict):  # `dict` would take a list of pairs, too
        raise ValueError(f"{name} is no object")
    return values[name]


def plain_means(scores: Scores) -> dict[str, float | None]:
    """The mean of every measure over the sequences that have it."""
    values: dict[str, list[float]] = {}
    for row in scores.values():
        for measure, value in row.items():
            kept = values.setdefault(measure, [])
            if value is not None:
                kept.append(value)
    return {measure: sum(kept) / len(kept) if kept else None for measure, kept in values.items()}


def hash_files(paths: Sequence[Path]) -> str:
    """SHA-256 (hex) of the names and contents of files, each with its folder's name.

    Raises:
        DatasetError: one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
        digest.update(f"{path.parent.name}/{path.name}\0{content}\n".encode())
    return digest.hexdigest()


def code() -> dict[str, Any]:
    """Version of the package; in a clone also the git revision, and whether files differ from it."""
    try:
        version = metadata.version("mivos")
    except metadata.PackageNotFoundError:
        version = "unknown"
    # An installed package can lie inside a repository of the user's: only one that tracks this very file counts.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return {"version": version, "revision": None, "changed": None}
    changed = _git("status", "--porcelain", "--untracked-files=no", ":/")
    return {"version": version, "revision": _git("rev-parse", "HEAD"), "changed": changed != ""}


def machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory (GB), system, Python and torch with its threads, GPU if any."""
    facts: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _number(value: Any) -> float | None:
    """A finite number; None and NaN are None, which JSON can hold."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _plain(value: Any) -> Any:
    """A JSON value; a file that is there becomes its name and digest, because names of weights say little."""
    if isinstance(value, Path):
        return f"{value.name} {fingerprint(value)[:16]}" if value.is_file() else value.name
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return str(value)


def _git(*arguments: str) -> str | None:
    """What git says in the folder of this file, None if it fails or is not there."""
    folder = Path(__file__).parent
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None  # Windows
