"""How time and memory of the whole pipeline grow with frames, objects and resolution.

One of the three is varied at a time. Every point is measured in a process of its own, because memory that was once
taken shows in a process's peak for ever, and a process that has compiled something is faster than a fresh one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.engine import ModelChoice, networks
from pipelines.evaluation.records import Data, RunRecord, record
from pipelines.evaluation.speed import copy_bandwidth, default_video, matmul_gflops, measure_rows
from pipelines.evaluation.worker import fresh_process, receive
from pipelines.flow import Model
from pipelines.rounds import Progress, Report
from stores.errors import ModelError, UsageError
from stores.files import atomic_file

AXES = {"frames": "frames", "objects": "objects", "megapixels": "megapixels per frame"}
MEASURES = {"seconds": "seconds per frame", "peak_mb": "peak memory (MB)"}
PLOT_SUFFIXES = (".png", ".svg")


@dataclass(frozen=True)
class GrowthPoint:
    """One measurement.

    Attributes:
        frames, objects: as measured; height, width: of the frames in pixels.
        seconds: per frame, from frames in the session to masks in the session, everything loaded before.
        peak_mb: highest resident memory of the process, 2**20 bytes; on a GPU that of its memory.
    """

    frames: int
    objects: int
    height: int
    width: int
    seconds: float
    peak_mb: float

    @property
    def megapixels(self) -> float:
        """Pixels of a frame, 1e6."""
        return self.height * self.width / 1e6


@dataclass(frozen=True)
class Fit:
    """Least-squares line of a measure over an axis: measure = intercept + slope * axis.

    Attributes:
        axis: of `AXES`; measure: of `MEASURES`; points: how many different values of the axis there were.
        residual: root mean square of what the line leaves over, in units of the measure.
    """

    axis: str
    measure: str
    slope: float
    intercept: float
    residual: float
    points: int


@dataclass(frozen=True)
class GrowthReport:
    """All points and lines, beside what this machine can do.

    Attributes:
        axes: axis -> indices of its points, by growing value.
        matmul_gflops: float32 matrix products on the CPU, 1e9 operations/s; copy_gb_s: `copy_bandwidth`.
    """

    model: str
    engine: str
    device: str
    threads: int
    matmul_gflops: float
    copy_gb_s: float
    points: tuple[GrowthPoint, ...]
    axes: dict[str, tuple[int, ...]]
    fits: tuple[Fit, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        points = [{**asdict(point), "megapixels": point.megapixels} for point in self.points]
        return {**asdict(self), "points": points}


def measure_growth(
    *,
    model: Model = "nano",
    frames: Sequence[int] = (20, 10, 40),
    objects: Sequence[int] = (1, 2, 4),
    sizes: Sequence[int] = (480, 240, 360),
    source: Path | None = None,
    progress: Report | None = None,
) -> GrowthReport:
    """Measures points along three axes that cross at the first value of each.

    Args:
        frames, objects, sizes: the values; the first of each holds while another one is varied. sizes are shorter
            sides in pixels. A single value is not varied.
        source: a video or image folder with enough frames, None: as in `measure_speed`.

    Raises:
        UsageError: nothing is varied, or counts that make no sense. VideoError: the video is too short.
        ModelError: the model cannot be used, or a measuring process died (too little memory, most likely).
    """
    if not (frames and objects and sizes) or min(frames) < 2 or min(objects) < 1 or min(sizes) < 16:
        raise UsageError("growth needs at least 2 frames, 1 object and a size of 16")
    started = time.perf_counter()
    base = (frames[0], objects[0], sizes[0])
    plan: dict[tuple[int, int, int], int] = {}  # (frames, objects, size) -> index of the point
    wanted: dict[str, list[int]] = {}
    for place, (axis, values) in enumerate(zip(AXES, (frames, objects, sizes), strict=True)):
        if len(set(values)) < 2:
            continue
        along = [(*base[:place], value, *base[place + 1 :]) for value in sorted(set(values))]
        wanted[axis] = [plan.setdefault(key, len(plan)) for key in along]  # type: ignore[arg-type]
    if not plan:
        raise UsageError("nothing to vary", hint="give at least two values of frames, objects or sizes")
    points, facts = [], dict[str, Any]()
    for done, key in enumerate(plan):
        point, facts = _in_fresh_process(ModelChoice.of(model), key, source)
        points.append(point)
        if point.frames != key[0]:
            raise UsageError(
                f"the video has only {point.frames} of {key[0]} frames",
                hint="give a longer one, or smaller numbers of frames",
            )
        if progress is not None:
            progress(Progress("growth", done + 1, len(plan)))
    fits = tuple(
        fit(axis, measure, [points[index] for index in indices])
        for axis, indices in wanted.items()
        for measure in MEASURES
    )
    return GrowthReport(
        **facts,
        matmul_gflops=matmul_gflops(),
        copy_gb_s=copy_bandwidth(),
        points=tuple(points),
        axes={axis: tuple(indices) for axis, indices in wanted.items()},
        fits=fits,
        seconds=time.perf_counter() - started,
    )


def fit(axis: str, measure: str, points: Sequence[GrowthPoint]) -> Fit:
    """The least-squares line of a measure over an axis; at least two different values of the axis."""
    x = np.array([getattr(point, axis) for point in points], np.float64)
    y = np.array([getattr(point, measure) for point in points], np.float64)
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / np.square(x - x.mean()).sum())
    intercept = float(y.mean() - slope * x.mean())
    residual = float(np.sqrt(np.mean(np.square(y - intercept - slope * x))))
    return Fit(axis, measure, slope, intercept, residual, len(np.unique(x)))


def plot(report: GrowthReport, path: Path) -> None:
    """Draws points and lines, a column for each axis, into a PNG or SVG.

    Raises:
        UsageError: another kind of file. ModelError: matplotlib is not installed. StorageFullError: cannot be written.
    """
    check_plot(path)
    from matplotlib.figure import Figure  # heavy, and needed only here

    figure = Figure(figsize=(4 * len(report.axes), 6), layout="constrained")
    grid = figure.subplots(len(MEASURES), len(report.axes), squeeze=False)
    for column, (axis, indices) in enumerate(report.axes.items()):
        points = [report.points[index] for index in indices]
        x = np.array([getattr(point, axis) for point in points])
        for row, (measure, title) in enumerate(MEASURES.items()):
            line = next(item for item in report.fits if (item.axis, item.measure) == (axis, measure))
            axes = grid[row][column]
            axes.plot(x, [getattr(point, measure) for point in points], "o", color="tab:blue")
            label = f"{line.intercept:.3g} + {line.slope:.3g} x"
            axes.plot(x, line.intercept + line.slope * x, "-", color="tab:orange", label=label)
            axes.set_ylim(0, 1.3 * max(getattr(point, measure) for point in points) or 1)
            axes.set_xlabel(AXES[axis])
            axes.set_ylabel(title)
            axes.legend()
    figure.suptitle(f"{report.model} ({report.device}, {report.engine}, {report.threads} threads)")
    with atomic_file(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower())


def to_record(report: GrowthReport, choice: ModelChoice, source: Path | None = None) -> RunRecord:
    """The report as a record for `bench compare`: every point is a "sequence", the lines are the means."""
    scores = {
        f"{point.frames} frames, {point.objects} objects, {point.width}x{point.height}": {
            title: getattr(point, measure) for measure, title in MEASURES.items()
        }
        for point in report.points
    }
    means = {
        f"{name} of {MEASURES[line.measure]} over {AXES[line.axis]}": getattr(line, name)
        for line in report.fits
        for name in ("slope", "intercept")
    }
    rates = {"matmul GFLOP/s": report.matmul_gflops, "copy GB/s": report.copy_gb_s}
    settings = {**asdict(choice), "engine": report.engine, "device": report.device}
    return record("growth", settings, scores, data=Data.video(source or default_video()), means={**means, **rates})


def check_plot(path: Path) -> None:
    """Refuses what `plot` could not write, before a long measurement. Errors as in `plot`."""
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise UsageError(f"{path} is neither .png nor .svg", hint="name the plot growth.png or growth.svg")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ModelError("plots need the package matplotlib", hint='pip install "mivos[bench]"') from error


def _in_fresh_process(
    choice: ModelChoice, key: tuple[int, int, int], source: Path | None
) -> tuple[GrowthPoint, dict[str, Any]]:
    frames, objects, size = key
    with fresh_process(_measure, choice, key, source) as pipe:
        return receive(pipe, f"measuring {frames} frames, {objects} objects at {size}", "try smaller values")


def _measure(pipe: Connection, choice: ModelChoice, key: tuple[int, int, int], source: Path | None) -> None:
    frames, objects, size = key
    (height, width), (row,) = measure_rows(model=choice, objects=(objects,), frames=frames, size=size, source=source)
    nets = networks(choice)
    on_gpu = nets.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else row.peak_rss_mb
    point = GrowthPoint(row.frames, objects, height, width, row.seconds / row.frames, peak)
    facts = {"model": choice.name, "engine": nets.engine, "device": str(nets.device)}
    pipe.send((point, {**facts, "threads": torch.get_num_threads()}))
