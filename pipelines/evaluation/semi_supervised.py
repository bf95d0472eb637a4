"""Semi-supervised evaluation: first masks given, all objects followed through each sequence of a data set.

The procedures of the authors' evaluation scripts (Mask-Propagation, STCN). A protocol says how a data set is read and
its masks are written; `evaluate` runs it. Each sequence appears in the output when it is finished, so a run that was
stopped goes on with the next one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from pipelines.engine import Networks, networks
from pipelines.evaluation.contact_sheet import write_worst
from pipelines.evaluation.eval_report import EvalReport, Row
from pipelines.evaluation.eval_sequences import Clip
from pipelines.evaluation.scoring import Pair, check_scorer, score_sequence, scorer_text
from pipelines.evaluation.speed import peak_rss_mb
from pipelines.flow import Model
from pipelines.rounds import Progress, Report
from pipelines.stages.follow import follow
from stores.durable import sync_folder
from stores.errors import InputError, OutputExistsError, StorageFullError, UsageError
from stores.files import atomic_file, make_folder, read_limited
from stores.item_locks import item_lock, record_lock

RUN_FILE = "run.json"
LOCKS = "locks"  # a folder of the output
MAX_RUN_BYTES = 2**26


class EvalProtocol(Protocol):
    """A data set and the rules of its evaluation; see `eval_sequences`."""

    @property
    def name(self) -> str: ...

    @property
    def masks(self) -> str:
        """Where below the output the folders of the sequences are; "" is the output itself."""

    def facts(self) -> dict[str, Any]:
        """What results depend on, beside data and model."""

    def notes(self) -> tuple[str, ...]:
        """What the reader of the report should know, one line each."""

    def sequences(self) -> list[str]:
        """All names of the split."""

    def clip(self, sequence: str) -> Clip:
        """One sequence, ready to be followed."""


def evaluate(
    protocol: EvalProtocol,
    out: Path,
    *,
    model: Model = "nano",
    rules: Mapping[str, Any] | None = None,
    sequences: Iterable[str] | None = None,
    archive: bool | None = None,
    worst: int = 8,
    force: bool = False,
    progress: Report | None = None,
) -> EvalReport:
    """Follows the objects of every sequence and scores them where ground truth exists beyond the given masks.

    Writes the masks, run.json (what is finished), scores.json, sequences.csv, objects.csv, worst.png and, for a
    server, submission.zip.

    Args:
        rules: fields of `MemoryRules` to change, such as {"every": 3}.
        sequences: only these; they need not be in the split.
        archive: write submission.zip; None: if some sequence has no ground truth.
        worst: frames in the picture of the worst ones.
        force: start anew, over whatever is there.

    Raises:
        DatasetError, MaskError, VideoError: the data set lacks something or a file is damaged.
        UsageError: the output holds a run with other settings. OutputExistsError: it holds a sequence of no run.
        ModelError: weights or the scorer are missing.
    """
    nets = ruled_networks(model, rules)
    names = wanted_sequences(protocol, sequences)
    settings = run_settings(protocol, nets)
    run = EvalRun(out, protocol.masks, settings, force)
    rows, scored, unscored = [], {}, []
    for name in names:
        clip = protocol.clip(name)
        if clip.truth:
            check_scorer()
        entry = run.finished(clip)
        resumed = entry is not None
        if entry is None:
            entry = run.obtain(clip, nets, progress)
        scores = None
        if clip.truth:
            folder = run.masks / name
            images = {path.stem: path for path in clip.frames}
            pairs = [
                Pair(stem, path, folder / f"{stem}.png", images.get(stem))
                for stem, path in clip.truth.items()
                if (folder / f"{stem}.png").is_file()
            ]
            scores = score_sequence(name, pairs, clip.reading)
            if scores is not None:
                scored[name] = (pairs, clip.reading, scores)
        if scores is None:
            unscored.append(name)
        rows.append(Row(name, resumed=resumed, scores=scores, **entry))
    notes = list(protocol.notes())
    if unscored:
        notes.append(f"no ground truth beyond the given masks: {len(unscored)} of {len(names)} sequences not scored")
    outputs = {"masks": str(run.masks)}
    outputs.update(write_worst(out / "worst.png", scored, worst) if worst else {})
    if archive if archive is not None else bool(unscored):
        outputs["submission.zip"] = str(write_archive(out / "submission.zip", out, protocol.masks, names))
    memory = "GPU, allocated by PyTorch" if nets.device.type == "cuda" else "the whole process so far"
    where = {"engine": nets.engine, "device": str(nets.device)}
    scorer = scorer_text(False) if scored else "not scored"
    report = EvalReport(protocol.name, scorer, tuple(rows), {**settings, **where}, memory, outputs, tuple(notes))
    return report.write(out)


def ruled_networks(model: Model, rules: Mapping[str, Any] | None) -> Networks:
    """The networks of a model, with some memory rules changed."""
    nets = networks(model)
    if rules:
        nets = Networks(nets.choice)  # not the shared ones: their rules stay
        nets.rules = replace(nets.rules, **rules)
    nets.check("propagation")
    return nets


def wanted_sequences(protocol: EvalProtocol, sequences: Iterable[str] | None) -> list[str]:
    """Those named, each once, or all of the split."""
    names = list(dict.fromkeys(sequences)) if sequences is not None else protocol.sequences()
    if not names:
        raise UsageError("nothing to evaluate", hint="name at least one sequence")
    return names


def run_settings(protocol: EvalProtocol, nets: Networks) -> dict[str, Any]:
    """What all sequences of one output have in common."""
    weights = nets.facts()["weights"].get("propagation")
    facts = {"model": nets.choice.name, "weights": weights, "precision": nets.choice.precision}
    rules = asdict(nets.rules)
    if nets.rules.budget is None:
        del rules["budget"]  # runs of before there were budgets go on
    return {"protocol": protocol.name, **protocol.facts(), **facts, "rules": rules}


class EvalRun:
    """The output folder: which sequences are finished, with what settings. Several processes may fill it."""

    def __init__(self, out: Path, masks: str, settings: dict[str, Any], force: bool) -> None:
        self.out, self.masks, self.settings = out, out / masks, json.loads(json.dumps(settings))
        self.file = out / RUN_FILE
        make_folder(self.masks)
        self.entries: dict[str, dict[str, Any]] = {}
        self.force = force
        self._ours = False
        if not force and self.file.exists():
            known = self._read()
            if known["settings"] != self.settings:
                was = {key for key in known["settings"] if known["settings"][key] != self.settings.get(key)}
                changed = sorted(was | (self.settings.keys() - known["settings"].keys()))
                raise UsageError(
                    f"{out}: holds results with other settings ({', '.join(changed)})",
                    hint="use another --output, or --force to start anew",
                )
            self.entries, self._ours = known["sequences"], True

    def finished(self, clip: Clip) -> dict[str, Any] | None:
        """What is known of a finished sequence: frames, written, seconds, peak_memory_mb; None: it is to be done."""
        folder, entry = self.masks / clip.name, self.entries.get(clip.name)
        if entry and entry["data"] == digest(clip) and sum(1 for _ in folder.glob("*.png")) == entry["written"]:
            return {key: value for key, value in entry.items() if key != "data"}
        self._refuse_foreign(clip.name)
        return None

    def begin(self, names: Iterable[str]) -> None:
        """Makes the output ours before any sequence is computed, so that other processes may go on with it."""
        for name in names:
            self._refuse_foreign(name)
        if not self._ours:
            self._write({})
            self._ours = True

    def reload(self) -> None:
        """Takes over what other processes have finished."""
        self.entries = self._read()["sequences"]

    def _refuse_foreign(self, name: str) -> None:
        folder = self.masks / name
        if folder.exists() and not (self._ours or self.force):
            raise OutputExistsError(
                f"{folder}: is there, but not from an evaluation", hint="use another --output, or --force to replace it"
            )

    def obtain(self, clip: Clip, nets: Networks, progress: Report | None) -> dict[str, Any]:
        """`finished`, or `compute` while no other process does the same.

        Raises:
            SessionLockedError: another process is at this sequence.
        """
        with item_lock(self.out / LOCKS / f"{clip.name}.lock", f"{self.masks / clip.name}"):
            if self._ours:
                self.reload()
            return self.finished(clip) or self.compute(clip, nets, progress)

    def compute(self, clip: Clip, nets: Networks, progress: Report | None) -> dict[str, Any]:
        """Follows one sequence; its folder appears when all its masks are written."""
        self.begin(())  # from now on unfinished folders here are known to be ours
        nets.runner("propagation")  # loading counts for no sequence
        folder, partial = self.masks / clip.name, self.masks / f".{clip.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        make_folder(partial)
        on_gpu = nets.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(nets.device)
        started, written = time.perf_counter(), 0
        masks, count = clip.working_masks(), len(clip.frames)
        for frame in follow(nets, clip.read_frame, clip.size, count, masks, wanted=clip.wanted):
            stem = clip.frames[frame.index].stem
            if stem in clip.written:
                clip.write(partial / f"{stem}.png", frame)
                written += 1
            if progress:
                progress(Progress(clip.name, frame.index + 1, count))
        seconds = time.perf_counter() - started
        peak = torch.cuda.max_memory_allocated(nets.device) / 2**20 if on_gpu else peak_rss_mb()
        try:
            shutil.rmtree(folder, ignore_errors=True)
            sync_folder(partial)
            partial.replace(folder)
        except OSError as error:
            raise StorageFullError(f"{folder}: cannot be written: {error.strerror or error}") from error
        entry = {"frames": len(clip.frames), "written": written, "seconds": seconds, "peak_memory_mb": peak}
        self._write({clip.name: {**entry, "data": digest(clip)}})
        return entry

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(read_limited(self.file, MAX_RUN_BYTES, InputError))
            entries = known["sequences"].values()
            if isinstance(known["settings"], dict) and all({"data", "written"} <= entry.keys() for entry in entries):
                return known
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise UsageError(f"{self.file}: is no record of an evaluation", hint="use another --output, or --force")

    def _write(self, new: dict[str, dict[str, Any]]) -> None:
        """Adds to the record, which other processes add to, too."""
        with record_lock(self.out / LOCKS / RUN_FILE):
            if self.file.exists() and (self._ours or not self.force):
                known = self._read()
                if known["settings"] != self.settings:
                    raise UsageError(
                        f"{self.out}: was begun anew with other settings meanwhile", hint="use another --output"
                    )
                self.entries = known["sequences"]
            self.entries |= new
            with atomic_file(self.file) as file:
                file.write(json.dumps({"settings": self.settings, "sequences": self.entries}, indent=1).encode())


def digest(clip: Clip) -> str:
    """Tells whether a sequence is the one that was finished: names and sizes of its frames, and its given masks."""
    hasher = hashlib.sha256()
    for path in clip.frames:
        hasher.update(f"{path.name} {path.stat().st_size}\n".encode())
    for index, labels in clip.given.items():
        hasher.update(f"{index} {labels.shape}".encode() + labels.tobytes())
    hasher.update(json.dumps([sorted(clip.written), clip.wanted and sorted(clip.wanted)]).encode())
    return hasher.hexdigest()[:16]


def write_archive(path: Path, out: Path, masks: str, names: Sequence[str] | Collection[str]) -> Path:
    """Zips the masks of some sequences as servers take them: [Annotations/]<sequence>/<frame>.png.

    The same masks always make the same bytes.

    Raises:
        StorageFullError: it cannot be written.
    """
    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as target:
        for name in names:
            for mask in sorted((out / masks / name).glob("*.png")):
                target.writestr(zipfile.ZipInfo(mask.relative_to(out).as_posix()), mask.read_bytes())
    return path
