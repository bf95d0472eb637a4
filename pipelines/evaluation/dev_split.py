"""Scores on a DAVIS-layout data set: semi-supervised J&F beside the baselines, and J of single scribbles.

J and F come from the PyPI package ``vos-benchmark``, the field's scorer; it compares folders of palette PNGs.
It leaves out the first frame (given) and the last one, as the DAVIS semi-supervised track does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from pipelines.engine import ModelChoice
from pipelines.evaluation.baselines import BASELINES, Baseline
from pipelines.evaluation.report import DevSplitReport, S2MReport, S2MScore, SequenceScore
from pipelines.evaluation.scoring import check_scorer, scorer_text
from pipelines.flow import Model
from pipelines.rounds import Progress, Report
from pipelines.streams import interact_frame, propagate_masks
from stores.davis import DavisDataset
from stores.errors import DatasetError, ModelError, UsageError
from stores.masks import write_mask
from stores.scribbles import read_scribbles
from stores.video import read_frames

_PROGRESS_EVERY = 5  # frames between two calls of the progress callback


def evaluate_dev_split(
    root: Path,
    *,
    model: Model | None = "nano",
    baselines: bool = True,
    sequences: Sequence[str] | None = None,
    out: Path | None = None,
    progress: Report | None = None,
) -> DevSplitReport:
    """Score a model and the training-free baselines, the first frame's true mask being given.

    Args:
        root: DAVIS-layout folder; its ImageSets/2017/val.txt names the sequences, frames are those of 480p.
        model: a name or a choice with weights; None scores the baselines only.
        sequences: only these; they need not be in the split.
        out: keep the masks, as out/<method>/<sequence>/<frame>.png; existing ones are overwritten. None keeps
            nothing (one sequence of one method is on disk at a time).

    Raises:
        DatasetError: the data set lacks something.
        MaskError: an annotation is damaged, or not of the size of its frame.
        ModelError: the model or a package for scoring or for the baselines is missing.
        UsageError: nothing to do.
    """
    started = time.perf_counter()
    evaluator = load_evaluator()
    dataset = DavisDataset(root, year="2017", split="val", resolution="480p")
    names = list(sequences) if sequences is not None else dataset.sequences()
    methods: dict[str, Baseline] = dict(BASELINES) if baselines else {}
    if model is not None:
        methods[f"mivos {ModelChoice.of(model).name}"] = partial(propagate_masks, model=model)
    if not methods or not names:
        raise UsageError("nothing to evaluate", hint="name a model or the baselines, and sequences")

    rows = []
    for method, predict in methods.items():
        for sequence in names:
            with ExitStack() as stack:
                if out is None:
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mivos-score-")))
                else:
                    folder = out / method.replace(" ", "_").replace("/", "_")
                begin = time.perf_counter()
                count = _write_predictions(dataset, sequence, predict, folder / sequence, method, progress)
                seconds = time.perf_counter() - begin
                truth_root = dataset.annotations(sequence)[0].parent.parent
                objects, j, f = score_folders(evaluator, truth_root, folder, sequence)
            rows.append(SequenceScore(method, sequence, objects, count, j, f, seconds))
    return DevSplitReport("val", scorer_text(False), tuple(rows), time.perf_counter() - started)


def evaluate_s2m(
    root: Path,
    *,
    model: Model = "nano",
    sequences: Sequence[str] | None = None,
) -> S2MReport:
    """J of the interacted frame for every robot scribble of the split, each from an empty previous mask.

    Args:
        root: DAVIS-layout folder with Scribbles/<sequence>/*.json.
        sequences: only these instead of ImageSets/2017/val.txt.

    Raises:
        DatasetError: the data set lacks something.
        ScribbleError: a scribble file is broken.
        ModelError: the model cannot be used.
    """
    started = time.perf_counter()
    dataset = DavisDataset(root, year="2017", split="val", resolution="480p")
    rows = []
    for sequence in sequences if sequences is not None else dataset.sequences():
        annotations = dataset.annotations(sequence)
        num_objects = max(dataset.object_ids(sequence), default=0)
        for file in dataset.scribbles(sequence):
            interaction = read_scribbles(file, num_frames=len(annotations)).interactions[0]
            truth = dataset.labels(annotations[interaction.frame]).labels
            count = max(num_objects, int(truth.max()), *interaction.object_ids)
            folder = dataset.frames(sequence)[0].parent
            image = next(read_frames(folder, size=None, start=interaction.frame)).image
            begin = time.perf_counter()
            probs = interact_frame(image, interaction.strokes, None, count, model=model)
            seconds = time.perf_counter() - begin
            objects, j = region_similarity(np.argmax(probs, axis=0), truth)
            rows.append(S2MScore(sequence, file.name, interaction.frame, objects, j, seconds))
    if not rows:
        raise UsageError("no sequences to evaluate", hint="give at least one sequence")
    return S2MReport(ModelChoice.of(model).name, tuple(rows), time.perf_counter() - started)


def _write_predictions(
    dataset: DavisDataset,
    sequence: str,
    predict: Baseline,
    folder: Path,
    method: str,
    progress: Report | None,
) -> int:
    """Run one method over one sequence, masks into `folder` under the names of the annotations."""
    annotations = dataset.annotations(sequence)
    frames_folder = dataset.frames(sequence)[0].parent
    first = dataset.labels(annotations[0])
    folder.mkdir(parents=True, exist_ok=True)
    frames = (frame.image for frame in read_frames(frames_folder, size=None))
    count = 0
    for labels in _report(predict(frames, first.labels), method, sequence, len(annotations), progress):
        if count < len(annotations):
            write_mask(folder / annotations[count].name, labels, first.palette)
        count += 1
    if count != len(annotations):
        raise ModelError(f"{method} gave {count} masks for the {len(annotations)} frames of {sequence}")
    return count


def _report(
    masks: Iterable[np.ndarray],
    method: str,
    sequence: str,
    total: int,
    progress: Report | None,
) -> Iterator[np.ndarray]:
    for done, mask in enumerate(masks, start=1):
        yield mask
        if progress is not None and (done % _PROGRESS_EVERY == 0 or done == total):
            progress(Progress(f"{method}: {sequence}", done, total))


def load_evaluator() -> type:
    """The scorer of one video; ModelError if its package is missing."""
    check_scorer()
    from vos_benchmark.benchmark import VideoEvaluator

    return VideoEvaluator


def score_folders(evaluator: type, truth_root: Path, mask_root: Path, sequence: str) -> tuple[int, float, float]:
    """Number of objects, J and F (0..100, means over objects) of one sequence.

    The evaluator of one video is called directly: the package's `benchmark` would fork a pool, which compiled
    inference engines do not survive, and leaves the process by `exit` on errors.
    """
    _, j, f = evaluator(str(truth_root), str(mask_root), skip_first_and_last=True)(sequence)
    if not j:
        raise DatasetError(f"{truth_root / sequence}: no objects in the scored frames")
    return len(j), float(np.mean(list(j.values()))), float(np.mean(list(f.values())))


def region_similarity(labels: np.ndarray, truth: np.ndarray) -> tuple[int, float]:
    """Number of objects in `truth` and their mean IoU, 0..1; both uint8 or int [H, W]."""
    ids = [label for label in np.unique(truth) if label != 0]
    if not ids:
        return 0, 1.0 - float(np.any(labels))
    unions = [np.count_nonzero((labels == label) | (truth == label)) for label in ids]
    shared = [np.count_nonzero((labels == label) & (truth == label)) for label in ids]
    return len(ids), float(np.mean(np.divide(shared, unions)))
