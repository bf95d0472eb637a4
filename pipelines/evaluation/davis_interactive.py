"""The DAVIS interactive benchmark with its own session, robot and scorer (`robot`), and the authors' procedure.

Each sample, one scribble file of one sequence, is played in an official session of its own, so that a stopped run goes
on with the next sample. A last official session without samples is given all rows; it writes report and summary.

The clock. The session measures from handing out a scribble to the submission of the masks. Inside are: reading the
strokes, the networks, and reading from and writing to the mivos session on disk. Outside are: decoding the frames,
loading and compiling the networks (a short run with the same shapes comes first), scoring and the robot, which work
after the submission, and saving masks. The limit of `max_time` seconds per object, however, is the package's: it counts
everything from the beginning of the sample, scoring and robot included. Where it cuts a sample short, that is told.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.engine import ModelChoice, Networks
from pipelines.evaluation.davis_processor import DavisProcessor
from pipelines.evaluation.davis_samples import Samples, run_settings
from pipelines.evaluation.davis_setup import INTERACTIONS, METRIC, SECONDS_PER_OBJECT, official_options, prepare
from pipelines.evaluation.plots import plot_interactive
from pipelines.evaluation.robot import SequenceFacts, load_davisinteractive, tables
from pipelines.flow import Model, decode
from pipelines.rounds import Progress, Report
from pipelines.stages.tensors import Padding
from stores.davis import DavisDataset
from stores.files import atomic_file, make_folder
from stores.masks import write_mask
from stores.scribbles import Stroke
from stores.session import Session
from stores.video import probe, read_frames

log = logging.getLogger("mivos")


@dataclass(frozen=True)
class InteractiveReport:
    """What the benchmark measured.

    Attributes:
        auc, at_60: of the official summary, 0..1.
        rows: J&F after each interaction (0..1) and the model's seconds up to it, the official curve.
        sequences: J, F, J&F after the last interaction, 0..1, mean over objects and samples; seconds per sample.
        samples: played or found finished; resumed: those found finished; cut_short: those the time limit ended;
        empty_scribbles: times the robot had nothing to draw; missing: listed sequences that are not there.
        files: name -> path of what was written.
    """

    model: str
    subset: str
    auc: float
    at_60: float
    rows: tuple[dict[str, float], ...]
    sequences: tuple[dict[str, Any], ...]
    samples: int
    resumed: int
    cut_short: tuple[str, ...]
    empty_scribbles: int
    missing: tuple[str, ...]
    files: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return asdict(self)


class RobotProcessor(DavisProcessor):
    """The authors' procedure, fed with scribbles as the package hands them out."""

    empty = 0
    """Scribbles so far without a stroke."""

    def answer(self, scribbles: Mapping[str, Any]) -> tuple[np.ndarray, list[int] | None]:
        """One interaction; a scribble without strokes, of a frame without errors, counts as one that changes nothing.

        Returns:
            uint8 [T, H, W] labels, and the frames the robot may annotate next, or None for any.
        """
        frame, strokes = first_strokes(scribbles)
        if strokes:
            return self.interact(frame, strokes)
        self.empty += 1
        propagates = self.count in self.schedule
        self.count += 1
        if not propagates:
            # staying on a frame makes sense only where there is something to propagate from it
            return self.masks(), list(self._edits)[-1:] or None
        if self._edits:
            edited, labels = self._edits.popitem()
            self._propagate(edited, np.stack([labels == k for k in range(self.num_objects + 1)]).astype(np.float32))
        return self.masks(), None


def first_strokes(scribbles: Mapping[str, Any]) -> tuple[int, list[Stroke]]:
    """Frame and strokes of the first annotated frame of a DAVIS scribble object; frame -1 if there is none."""
    for frame, entries in enumerate(scribbles["scribbles"]):
        if entries:
            paths = [np.clip(np.asarray(entry["path"], np.float64), 0, 1) for entry in entries]
            return frame, [Stroke(path, int(entry["object_id"])) for path, entry in zip(paths, entries, strict=True)]
    return -1, []


def evaluate_davis_interactive(
    root: Path,
    out: Path,
    *,
    subset: str = "val",
    sequences: Sequence[str] | None = None,
    model: Model = "nano",
    interactions: int = INTERACTIONS,
    max_time: int = SECONDS_PER_OBJECT,
    samples: int | None = None,
    masks: bool = False,
    force: bool = False,
    played_elsewhere: bool = False,
    progress: Report | None = None,
) -> InteractiveReport:
    """Play the robot against a model, and write report.csv, summary.json, run.json, curve.png, curve.svg and samples/.

    Args:
        root: DAVIS folder with Scribbles; whole, reduced or of one's own. out: results; a finished sample found there
            is not played again. subset: "train", "val" or "trainval"; sequences: only these.
        interactions: 1..8; max_time: seconds per object for a sample, at most 600, see above;
        samples: play only the first so many scribble files of each sequence.
        masks: keep the last masks as out/masks/<scribble>/<sequence>/<frame>.png.
        force: begin again, without the samples of an earlier run.
        played_elsewhere: the samples may be of another device and number of threads than this process has.

    Raises:
        DatasetError, MaskError, ScribbleError: the data cannot be used. ModelError: the model or a package is missing.
        UsageError: settings make no sense, or differ from those of the samples in `out`.
    """
    package = load_davisinteractive()
    nets, dataset, found, missing = prepare(root, subset, sequences, model, interactions, max_time, samples)
    settings = run_settings(nets, interactions, max_time, METRIC)
    kept = Samples.open(out, {**settings, **(Samples.place(out) if played_elsewhere else {})}, force=force)

    options = official_options(dataset, subset, interactions, max_time)
    runner = Runner(package, options, dataset, nets, out if masks else None, progress)
    resumed, notes, frames = 0, [], []
    for facts in found:
        for index in range(1, facts.scribbles + 1):
            note = kept.finished(facts, index, masks=masks)
            if note is None:
                with kept.lock(facts, index):
                    note, rows = runner.play(facts, index)
                    kept.write(facts, index, note, rows)
            else:
                resumed += 1
            notes.append(note)
            frames.append(kept.rows(facts, index))
    import pandas

    rows = pandas.concat(frames, ignore_index=True)
    summary = _summarise(package, options, found, rows, out)
    curve = summary["curve"]
    choice = ModelChoice.of(model)
    title = f"DAVIS interactive, {subset}, {len(found)} sequences, {len(notes)} samples, {nets.device}"
    plots = plot_interactive(out, curve["time"], curve[METRIC], name=choice.name, title=title)
    files = {"report": out / "report.csv", "summary": out / "summary.json", **plots}
    if masks:
        files["masks"] = out / "masks"
    return InteractiveReport(
        choice.name, subset, float(summary["auc"]), float(summary["metric_at_threshold"][METRIC]),
        tuple({"interaction": k, "seconds": curve["time"][k], "j_and_f": curve[METRIC][k]}
              for k in range(1, len(curve["time"]) - 1)),
        tuple(_by_sequence(rows, facts.name) for facts in found), len(notes), resumed,
        tuple(note["sample"] for note in notes if note["scored"] < interactions),
        sum(note["empty_scribbles"] for note in notes), missing, {name: str(path) for name, path in files.items()},
    )  # fmt: skip


class Runner:
    """Plays samples."""

    def __init__(
        self, package: Any, options: dict[str, Any], dataset: DavisDataset, nets: Networks, masks: Path | None,
        progress: Report | None,
    ) -> None:  # fmt: skip
        self.package, self.options, self.dataset, self.nets, self.masks = package, options, dataset, nets, masks
        self.report = progress or (lambda progress: None)
        self.warmed: set[tuple[int, int, int]] = set()

    def play(self, facts: SequenceFacts, index: int) -> tuple[dict[str, Any], Any]:
        """One sample: notes about it, and the package's rows."""
        label = f"{facts.name} {index}"
        with tempfile.TemporaryDirectory(prefix="mivos-davis-") as temporary, tables(self.options["subset"], [facts]):
            folder, source = Path(temporary), self.dataset.frames(facts.name)[0].parent
            self._warm_up(facts, source, folder / "warm")
            decode(source, folder / "session", size=None, model=self.nets.choice)
            started, frames = time.monotonic(), []
            with (
                Session.open(folder / "session", write=True) as store,
                self.package.session(**self.options, report_save_dir=str(folder / "report")) as official,
            ):
                official.samples = [(facts.name, index)]
                processor = RobotProcessor(store, self.nets, facts.objects)
                while official.next():
                    _, scribbles, _ = official.get_scribbles(only_last=True)
                    labels, candidates = processor.answer(scribbles)
                    official.submit_masks(labels, candidates)
                    frames.append(first_strokes(scribbles)[0])
                    self.report(Progress(label, processor.count, self.options["max_nb_interactions"]))
                rows = official.get_report()
                seconds = time.monotonic() - started
                if self.masks is not None:
                    self._write_masks(facts, index, processor.masks())
        if not len(rows):
            log.warning("%s: the time limit passed before the first submission", label)
        scored = int(rows["interaction"].max()) if len(rows) else 0
        used = float(rows.groupby("interaction")["timing"].first().sum()) if len(rows) else 0.0
        note = {
            "sample": label, "digest": facts.digest, "frames": frames, "scored": scored,
            "empty_scribbles": processor.empty, "seconds": seconds, "model_seconds": used,
            "masks": self.masks is not None,
        }  # fmt: skip
        return note, rows

    def _warm_up(self, facts: SequenceFacts, source: Path, path: Path) -> None:
        """Two rounds on three frames: everything is loaded and compiled for these shapes before the clock starts."""
        shape = (facts.height, facts.width, facts.objects)
        if shape in self.warmed:
            return
        info, border = probe(source), Padding.of(facts.height, facts.width).sides
        bits = self.nets.spec.prob_bits
        heights = [(k + 1) / (facts.objects + 1) for k in range(facts.objects)]
        strokes = [Stroke(np.array([[0.3, y], [0.7, y]]), k) for k, y in enumerate(heights, start=1)]
        with Session.create(
            path, info, height=facts.height, width=facts.width, prob_bits=bits, border=border
        ) as session:
            for frame in islice(read_frames(source, size=None), 3):
                session.write_frame(frame)
            session.finish_frames()
            processor = DavisProcessor(session, self.nets, facts.objects, schedule=(0, 1))
            processor.interact(0, strokes)
            processor.interact(session.num_frames - 1, strokes)
        self.warmed.add(shape)

    def _write_masks(self, facts: SequenceFacts, index: int, labels: np.ndarray) -> None:
        assert self.masks is not None
        annotations = self.dataset.annotations(facts.name)
        palette = self.dataset.labels(annotations[0]).palette
        folder = self.masks / "masks" / f"{index:03d}" / facts.name
        make_folder(folder)
        for path, mask in zip(annotations, labels, strict=True):
            write_mask(folder / path.name, mask, palette)


def _summarise(
    package: Any, options: dict[str, Any], found: list[SequenceFacts], rows: Any, out: Path
) -> dict[str, Any]:
    """The official report and summary of rows that were measured already."""
    with tempfile.TemporaryDirectory(prefix="mivos-davis-") as temporary, tables(options["subset"], found):
        with package.session(**options, report_save_dir=temporary) as official:
            official.samples = []
            official.connector.service.storage.report = rows.assign(session_id=official.session_key)
            # a session that ends removes the snapshot of the interaction before, of which there is none
            (Path(temporary) / f"{official.report_name}.tmp.csv").touch()
            official.next()
            summary: dict[str, Any] = official.get_global_summary(save_file=str(Path(temporary) / "summary.json"))
        (report,) = Path(temporary).glob("result_*.csv")
        for source, name in ((report, "report.csv"), (Path(temporary) / "summary.json", "summary.json")):
            with atomic_file(out / name) as file:
                file.write(source.read_bytes())
    return summary


def _by_sequence(rows: Any, name: str) -> dict[str, Any]:
    mine = rows[rows["sequence"] == name]
    if not len(mine):
        return {"sequence": name, "j": 0.0, "f": 0.0, "j_and_f": 0.0, "seconds": 0.0}
    # a sample that the time limit ended keeps the masks it had
    ends = mine.groupby("scribble_idx")["interaction"].transform("max")
    last = mine[mine["interaction"] == ends][["jaccard", "contour", "j_and_f"]].mean()
    timing = mine.groupby(["scribble_idx", "interaction"])["timing"].first()
    seconds = timing.sum() / mine["scribble_idx"].nunique()
    scores = {"j": last["jaccard"], "f": last["contour"], "j_and_f": last["j_and_f"]}
    return {"sequence": name, **{key: float(value) for key, value in scores.items()}, "seconds": float(seconds)}
