"""A robot that clicks: where the mask is most wrong, again and again, plain and refined.

The protocol of click benchmarks: each click goes to the centre of the largest error, the pixel that is farthest from
where the mask is right; a person's next click is answered with a mask made from all clicks so far and the mask before.
Scores are the IoU after so many clicks, and NoC@t, the number of clicks until the IoU reaches t.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from pipelines.engine import ModelChoice, Networks, networks
from pipelines.flow import Model
from pipelines.rounds import Progress, Report
from pipelines.stages.interact import segment_object
from pipelines.stages.refine import click_plane
from pipelines.stages.tensors import Padding, image_tensor
from stores.davis import DavisDataset
from stores.errors import UsageError
from stores.video import read_frames

METHODS = ("plain", "refined")
COUNTS = (1, 2, 3, 5, 10, 20)
LEVELS = (0.85, 0.90)


class Click(NamedTuple):
    """A pixel of a frame, and whether it belongs to the object."""

    x: int
    y: int
    positive: bool


@dataclass(frozen=True)
class ClickScore:
    """One object of one frame clicked by the robot.

    Attributes:
        method: "plain" or "refined"; ious: 0..1, after each click; an exact mask needs no more, and keeps its score;
        broken: clicks, of all objects and all masks, that the mask made from them contradicts;
        seconds: wall time of all masks; masks: how many there were.
    """

    method: str
    sequence: str
    frame: int
    object_id: int
    ious: tuple[float, ...]
    broken: int
    seconds: float
    masks: int

    def clicks_to(self, level: float) -> int:
        """Clicks until the IoU reaches a level; all of them if it never does."""
        return next((count for count, iou in enumerate(self.ious, start=1) if iou >= level), len(self.ious))


@dataclass(frozen=True)
class ClicksReport:
    """Scores of clicking; `limit` is the number of clicks on each object."""

    model: str
    limit: int
    rows: tuple[ClickScore, ...]
    seconds: float

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.method for row in self.rows))

    @property
    def objects(self) -> int:
        return len({(row.sequence, row.frame, row.object_id) for row in self.rows})

    def mean(self, method: str) -> dict[str, float]:
        """Means over objects of one method: IoU by clicks, NoC by level, clicks broken per object, seconds per click.

        Raises:
            KeyError: the report has no such method.
        """
        rows = [row for row in self.rows if row.method == method]
        if not rows:
            raise KeyError(method)
        counts = [count for count in COUNTS if count <= self.limit]
        return {
            **{f"IoU@{count}": float(np.mean([row.ious[count - 1] for row in rows])) for count in counts},
            **{f"NoC@{100 * t:.0f}": float(np.mean([row.clicks_to(t) for row in rows])) for t in LEVELS},
            "broken": float(np.mean([row.broken for row in rows])),
            "seconds": sum(row.seconds for row in rows) / max(sum(row.masks for row in rows), 1),
        }

    def to_json(self) -> dict[str, Any]:
        """Everything, means included, as plain JSON values."""
        means = {method: self.mean(method) for method in self.methods}
        rows = [asdict(row) for row in self.rows]
        return {"model": self.model, "clicks": self.limit, "seconds": self.seconds, "means": means, "rows": rows}


def evaluate_clicks(
    root: Path,
    *,
    model: Model = "nano",
    sequences: Sequence[str] | None = None,
    frames: int = 4,
    clicks: int = 10,
    limit: int | None = None,
    progress: Report | None = None,
) -> ClicksReport:
    """Clicks on every object of some frames of every sequence of the dev split, each from an empty mask.

    Args:
        root: DAVIS-layout folder; sequences: only these instead of ImageSets/2017/val.txt.
        frames: how many of a sequence: the first, and others evenly spaced; clicks: on each object.
        limit: only so many objects, taken from all sequences in turn.

    Raises:
        DatasetError, MaskError: the data set lacks something. ModelError: the model cannot be used.
        UsageError: nothing to do.
    """
    started = time.perf_counter()
    if min(frames, clicks) < 1 or (limit is not None and limit < 1):
        raise UsageError("frames, clicks and the limit must be at least 1", hint="give larger numbers")
    dataset = DavisDataset(root, year="2017", split="val", resolution="480p")
    targets = _targets(dataset, dataset.sequences() if sequences is None else sequences, frames)[:limit]
    if not targets:
        raise UsageError("no objects to click on", hint="name sequences whose masks show some")
    nets, rows = networks(model), []
    for done, (sequence, frame, object_id) in enumerate(targets, start=1):
        folder = dataset.frames(sequence)[0].parent
        image = next(read_frames(folder, size=None, start=frame)).image
        truth = dataset.labels(dataset.annotations(sequence)[frame]).labels == object_id
        for method in METHODS:
            scores, broken, seconds = [], 0, 0.0
            begin = time.perf_counter()
            for mask, made in click_through(nets, image, truth, clicks, refined=method == "refined"):
                seconds += time.perf_counter() - begin
                scores.append(np.count_nonzero(mask & truth) / np.count_nonzero(mask | truth))
                broken += sum(bool(mask[click.y, click.x]) != click.positive for click in made)
                begin = time.perf_counter()
            ious = tuple(scores + scores[-1:] * (clicks - len(scores)))
            rows.append(ClickScore(method, sequence, frame, object_id, ious, broken, seconds, len(scores)))
        if progress is not None:
            progress(Progress("clicks", done, len(targets)))
    return ClicksReport(ModelChoice.of(model).name, clicks, tuple(rows), time.perf_counter() - started)


def _targets(dataset: DavisDataset, sequences: Sequence[str], frames: int) -> list[tuple[str, int, int]]:
    """(sequence, frame, object): the first frames of all sequences, then the second ones, and so on."""
    found = []
    for turn in range(frames):
        for sequence in sequences:
            annotations = dataset.annotations(sequence)
            frame = turn * len(annotations) // frames
            if turn and frame == (turn - 1) * len(annotations) // frames:
                continue  # fewer frames than were asked for
            found += [(sequence, frame, k) for k in dataset.labels(annotations[frame]).ids]
    return found


def click_through(
    nets: Networks, image: np.ndarray, truth: np.ndarray, clicks: int, *, refined: bool
) -> Iterator[tuple[np.ndarray, list[Click]]]:  # fmt: skip
    """The robot's dialogue about one object: after each click the mask, bool [H, W], and all clicks so far.

    Args:
        image: uint8 [H, W, 3]; truth: bool [H, W]; clicks: at most, fewer once the mask is exact.
    """
    padding, frame = Padding.of(*truth.shape), image_tensor(image)
    size = (int(frame.shape[-2]), int(frame.shape[-1]))
    made: list[Click] = []
    mask = np.zeros(size, bool)
    while len(made) < clicks:
        click = next_click(padding.remove(mask), truth, made)
        if click is None:
            return
        made.append(click)
        positive, negative = (
            [(c.x + padding.left, c.y + padding.top) for c in made if c.positive is side] for side in (True, False)
        )
        marks = np.stack([mask.astype(np.uint8), click_plane(positive, *size), click_plane(negative, *size)])
        planes = torch.cat([frame, torch.from_numpy(marks)[None].float()], dim=1)
        prob = segment_object(nets, planes, (positive, negative) if refined else None)
        assert prob is not None  # there is a mark, the click
        mask = prob[0].numpy() > 0.5
        yield padding.remove(mask), list(made)


def next_click(mask: np.ndarray, truth: np.ndarray, made: Sequence[Click] = ()) -> Click | None:
    """The pixel deepest inside what is missing or wrong, not clicked before; None if nothing is.

    Args:
        mask, truth: bool [H, W].
    """
    best, deepest = None, 0.0
    for positive, region in ((True, truth & ~mask), (False, mask & ~truth)):
        inside = np.pad(region, 1).astype(np.uint8)  # the frame's edge is an edge, too
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        for click in made:
            depth[click.y, click.x] = 0
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[y, x] > deepest:
            best, deepest = Click(int(x), int(y), positive), float(depth[y, x])
    return best
