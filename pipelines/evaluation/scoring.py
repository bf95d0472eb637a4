"""J and F of predicted masks by the package ``vos-benchmark``, per sequence, object and frame.

The scorer is fed frame by frame, as its own `VideoEvaluator` does with folders. That gives the same numbers, keeps the
J of every frame, and spares us its assertions and its `exit` on a missing file. Unlike with folders, void (255) in the
ground truth is background here; the package alone would take it for an object.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.evaluation.eval_report import EvalReport, FrameScore, ObjectScore, Row, SequenceScores
from pipelines.rounds import Progress, Report
from stores.errors import DatasetError, ModelError
from stores.files import list_files, list_folders, make_folder
from stores.masks import read_annotation

log = logging.getLogger("mivos")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}


class Pair(NamedTuple):
    """A frame to score: its name, the true and the predicted mask, and its image if there is one."""

    stem: str
    truth: Path
    predicted: Path
    image: Path | None = None


@dataclass(frozen=True)
class Reading:
    """How masks are read.

    Attributes:
        binary: everything that is not 0 is object 1 (DAVIS 2016). ids: value v > 0 of a prediction means object
            ids[v - 1]; None: values are ids.
    """

    binary: bool = False
    ids: tuple[int, ...] | None = None

    def truth(self, pair: Pair) -> np.ndarray:
        """uint8 [H, W] object ids."""
        return read_annotation(pair.truth, binary=self.binary).labels

    def predicted(self, pair: Pair, size: tuple[int, int]) -> np.ndarray:
        """uint8 [H, W] object ids; MaskError if it is of another size."""
        labels = read_annotation(pair.predicted, size=size, binary=self.binary).labels
        if self.ids is None:
            return labels
        table = np.arange(256, dtype=np.uint8)
        table[1 : len(self.ids) + 1] = self.ids
        return table[labels]


def check_scorer() -> None:
    """ModelError if the scorer is not installed, so that this is known before the work and not after it."""
    try:
        import vos_benchmark.evaluator  # noqa: F401
    except ImportError as error:
        raise ModelError("scoring needs the package vos-benchmark", hint='pip install "mivos[bench]"') from error


def scorer_text(edges: bool) -> str:
    """Name and version of the scorer, and which frames count."""
    frames = "all frames" if edges else "without the first and the last frame"
    return f"vos-benchmark {metadata.version('vos-benchmark')}, {frames}"


def score_sequence(
    sequence: str, pairs: Sequence[Pair], reading: Reading, *, edges: bool = False
) -> SequenceScores | None:
    """Scores one sequence.

    Args:
        pairs: in frame order; edges: also score the first and the last, which DAVIS leaves out.

    Returns:
        None if the scored frames show no object.

    Raises:
        MaskError: a mask is missing, damaged, or its prediction has another size.
    """
    check_scorer()
    from vos_benchmark.evaluator import Evaluator

    evaluator, frames = Evaluator(name=sequence), []
    for pair in pairs if edges else pairs[1:-1]:
        truth = reading.truth(pair)
        evaluator.feed_frame(reading.predicted(pair, truth.shape), truth)  # type: ignore[arg-type]
        present = evaluator.objects_in_gt
        if present:
            j = float(np.mean([evaluator.object_iou[k][-1] for k in present])) * 100
            frames.append(FrameScore(sequence, pair.stem, j))
    j_of, f_of = evaluator.conclude()
    objects = tuple(ObjectScore(int(k), float(j_of[k]), float(f_of[k])) for k in sorted(j_of))
    return SequenceScores(objects, tuple(frames)) if objects else None


def score_folders(
    truth: Path,
    predicted: Path,
    *,
    images: Path | None = None,
    sequences: Iterable[str] | None = None,
    edges: bool = False,
    binary: bool = False,
    out: Path | None = None,
    worst: int = 8,
    progress: Report | None = None,
) -> EvalReport:
    """Scores a folder of masks against another; a folder for each sequence in both, or the PNGs directly.

    Args:
        truth, predicted: .../<sequence>/<frame>.png; each mask of `truth` needs its prediction, others are ignored.
            A value is an object's id in both. A folder above `Annotations` will do.
        images: .../<sequence>/<frame>.jpg for the picture of the worst frames.
        sequences: only these; binary: everything that is not 0 is object 1.
        out: where scores and the picture of the `worst` frames go; None: nothing is written.

    Raises:
        DatasetError: a folder or sequence is missing. MaskError: a mask is missing, damaged or of another size.
    """
    from pipelines.evaluation.contact_sheet import write_worst  # it needs this module

    roots = [_masks_root(path) for path in (truth, predicted)]
    names = list_folders(roots[0], DatasetError)
    flat = not names
    if sequences is not None:
        names = list(dict.fromkeys(sequences))
    elif flat:
        names = [roots[0].resolve().name]
    reading, rows, scored = Reading(binary), [], {}
    for done, name in enumerate(names, start=1):
        at = [root if flat else root / name for root in (*roots, *([images] if images else []))]
        pairs = _pairs(*at)
        scores = score_sequence(name, pairs, reading, edges=edges)
        if scores is None:
            log.warning("%s: no object in the frames that count, not scored", name)
        else:
            scored[name] = (pairs, reading, scores)
        rows.append(Row(name, len(pairs), len(pairs), scores))
        if progress:
            progress(Progress("score", done, len(names)))
    if not scored:
        raise DatasetError(f"{roots[0]}: no object in the frames that count", hint="score all frames with --edges")
    settings = {"truth": str(truth), "predicted": str(predicted), "binary": binary}
    report = EvalReport("folder", scorer_text(edges), tuple(rows), settings)
    if out is None:
        return report
    make_folder(out)
    return replace(report, outputs=write_worst(out / "worst.png", scored, worst)).write(out)


def _masks_root(path: Path) -> Path:
    if not path.is_dir():
        raise DatasetError(f"{path}: there is no such folder")
    inner = path / "Annotations"
    return inner if inner.is_dir() else path


def _pairs(truth: Path, predicted: Path, images: Path | None = None) -> list[Pair]:
    files = list_files(truth, {".png"}, DatasetError)
    if not files:
        raise DatasetError(f"{truth}: holds no masks", hint="name sequences with --sequence, or give their folder")
    if not predicted.is_dir():
        raise DatasetError(f"{predicted}: is missing", hint="choose the sequences to score with --sequence")
    found = {path.stem: path for path in list_files(images, IMAGE_SUFFIXES, DatasetError)} if images else {}
    return [Pair(file.stem, file, predicted / file.name, found.get(file.stem)) for file in files]
