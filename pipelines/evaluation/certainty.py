"""Does confidence tell where mistakes are? Frames of the dev split, ranked by it and by their true overlap."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.evaluation.dev_split import region_similarity
from pipelines.flow import Model, segment
from pipelines.rounds import Report
from stores.davis import DavisDataset
from stores.masks import write_mask
from stores.session import Session


@dataclass(frozen=True)
class CertaintyRow:
    """One sequence, its first mask given.

    Attributes:
        rank_correlation: Spearman's, of confidence with J over the frames; None where J or confidence is constant.
        j: mean over frames, percent; j_least: of the tenth of the frames with the least confidence.
    """

    sequence: str
    frames: int
    rank_correlation: float | None
    j: float
    j_least: float


@dataclass(frozen=True)
class CertaintyReport:
    model: str
    rows: tuple[CertaintyRow, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_certainty(
    root: Path, *, model: Model = "nano", sequences: Sequence[str] | None = None, progress: Report | None = None
) -> CertaintyReport:
    """Confidence beside J, for each sequence of the split "val" in DAVIS layout.

    Raises:
        DatasetError: the data set lacks something. ModelError: the model cannot be used.
    """
    dataset = DavisDataset(root, year="2017", split="val", resolution="480p")
    rows = []
    for sequence in sequences if sequences is not None else dataset.sequences():
        annotations = dataset.annotations(sequence)
        with tempfile.TemporaryDirectory(prefix="mivos-certainty-") as name:
            folder, first = Path(name), dataset.labels(annotations[0])
            write_mask(folder / "first.png", first.labels, first.palette)
            frames = dataset.frames(sequence)[0].parent
            segment(
                frames, folder / "out", masks=folder / "first.png", size=None, model=model, formats=("png",),
                progress=progress,
            )  # fmt: skip
            with Session.open(folder / "out" / "session") as session:
                confidence = session.confidence()[1:].astype(float)
                table = np.array([0, *session.object_ids], np.uint8)
                found = (session.mask(index) for index in range(1, session.num_frames))
                truths = (dataset.labels(path).labels for path in annotations[1:])
                pairs = zip(found, truths, strict=True)
                j = np.array([region_similarity(table[m], truth)[1] for m, truth in pairs if m is not None])
        least = np.argsort(confidence)[: max(1, len(j) // 10)]
        rows.append(
            CertaintyRow(
                sequence, len(j), _spearman(confidence, j), 100 * float(j.mean()), 100 * float(j[least].mean())
            )
        )
    return CertaintyReport(str(getattr(model, "name", model)), tuple(rows))


def _spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation, ties at their mean rank."""
    ranks = []
    for values in (a, b):
        _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[where])
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
