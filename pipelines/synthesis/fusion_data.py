"""Training data of the fusion network: true masks of reference frames, propagated through their videos.

Layout and encoding as published with MiVOS: ``<out>/<video>/<ref>/<object>/<frame>.png``, five digits each, one-channel
8-bit, floor(255 p) with p the object's probability after soft aggregation; no file for the background. The reference
frame is there, too. Every reference is propagated as if it were the only interaction, forward and then backward.

``<object>`` is the label in the video's masks, which is what readers compare it with. The published script writes the
rank of the label plus one instead; both are the same where labels are 1..n without gaps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pipelines.engine import Networks
from pipelines.networks.aggregate import aggregate_wbg
from pipelines.networks.registry import weights_digest
from pipelines.stages.propagate import Anchor, Pass, Propagator
from pipelines.synthesis.fusion_run import FusionRun
from pipelines.synthesis.fusion_videos import FusionVideos, read_image
from pipelines.synthesis.shared_keys import SharedKeys
from pipelines.training.samples import Clip
from stores.errors import InputError
from stores.labels import read_labels
from stores.source import working_size

MIN_PIXELS = 100  # an object of a reference frame must have more
MAX_OBJECTS = 5
CACHE_BYTES = 2**28  # decoded frames that are kept: each is read once for every reference
log = logging.getLogger("mivos")


@dataclass(frozen=True)
class Failure:
    """A video that could not be finished, and why."""

    video: str
    problem: str


@dataclass(frozen=True)
class FusionReport:
    """What a run did.

    Attributes:
        videos: that were looked at; references: written now; existing: written before; empty: reference frames without
            an object of more than `MIN_PIXELS`; maps: PNG files written now; failed: videos that are not whole.
    """

    out: str
    videos: int
    references: int
    existing: int
    empty: int
    maps: int
    seconds: float
    failed: tuple[Failure, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return asdict(self)


def generate_fusion(
    videos: FusionVideos,
    out: Path,
    networks: Networks,
    *,
    separation: int = 25,
    reach: int | None = None,
    mem_every: int | None = None,
    size: int | None = None,
    shared: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FusionReport:
    """Propagates every `separation`-th frame's true masks; references that are already there are skipped.

    A video that cannot be read is left with the references it has, logged, and named in the report.

    Args:
        out: folder of this run. reach: frames to go from a reference in both directions, None for the whole video.
        mem_every: frames between permanent memory frames, None for the model's own rule.
        size: shorter side in pixels of frames and maps, never enlarged; None as the data has it.
        shared: other processes may work on other videos of `out` meanwhile.
        progress: called with the frames propagated so far and all that are to be.

    Raises:
        UsageError: `out` was made with other settings. StorageFullError: it cannot be written to.
        ModelError: the weights are missing. SessionLockedError: another process is at it.
    """
    started = time.monotonic()
    networks.check("propagation")
    settings = run_settings(networks, videos, separation, reach, mem_every, size)
    networks = SharedKeys(networks, mem_every=mem_every)
    references = existing = empty = maps = 0
    failed: list[Failure] = []
    with FusionRun.opened(out, settings, shared=shared) as run:
        todo = _todo(run, videos, separation, reach)
        count = _Count(sum(sum(refs.values()) for refs, _ in todo.values()), progress)
        for name, (refs, already) in todo.items():
            existing += already
            end = count.done + sum(refs.values())
            try:
                with run.video(name):
                    video = _Video(videos.clip(name), size) if refs or not already else None
                    for ref, frames in refs.items():
                        assert video is not None
                        end_of_reference = count.done + frames
                        if run.has(name, ref):  # another process was faster
                            existing += 1
                            count.jump(end_of_reference)
                            continue
                        written = _propagate_reference(run, video, ref, networks, reach, count.step)
                        references, empty, maps = references + bool(written), empty + (not written), maps + written
                        count.jump(end_of_reference)
            except InputError as error:
                log.warning("%s is skipped: %s", name, error)
                failed.append(Failure(name, str(error)))
            count.jump(end)
            networks.forget()
    seconds = time.monotonic() - started
    return FusionReport(str(out), len(todo), references, existing, empty, maps, seconds, tuple(failed))


def run_settings(
    networks: Networks, videos: FusionVideos, separation: int, reach: int | None, mem_every: int | None,
    size: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Everything that decides what is written; engines agree up to rounding and are left out."""
    name, rules = networks.choice.name, networks.rules
    return {
        "format": 1,
        "model": name,
        "weights": weights_digest(name, "propagation", networks.given.get("propagation")),
        "precision": networks.choice.precision,
        "memory_every": mem_every or rules.every,
        "top_k": rules.top_k,
        "separation": separation,
        "range": reach,
        "size": size,
        "min_pixels": MIN_PIXELS,
        "max_objects": MAX_OBJECTS,
        "objects": "label ids",
        "layout": videos.layout,
        "images": str(videos.images.resolve()),
    }


def _todo(
    run: FusionRun, videos: FusionVideos, separation: int, reach: int | None
) -> dict[str, tuple[dict[int, int], int]]:
    """Video -> references still to be made with the number of frames each reaches, and how many are there."""
    todo = {}
    for name in videos.names:
        count = videos.count(name)
        every = range(0, count, separation)
        refs = {
            ref: sum(len(plan.indices) for plan in _passes(ref, count, reach))
            for ref in every
            if not run.has(name, ref)
        }
        todo[name] = refs, len(every) - len(refs)
    return todo


def _passes(ref: int, count: int, reach: int | None) -> list[Pass]:
    """Forward, then backward from `ref`, not further than `reach`."""
    high = count if reach is None else min(count, ref + reach + 1)
    low = -1 if reach is None else max(-1, ref - reach - 1)
    return [plan for plan in (Pass(ref, 1, high, None), Pass(ref, -1, low, None)) if len(plan.indices)]


class _Count:
    """Propagated frames so far."""

    def __init__(self, total: int, report: Callable[[int, int], None] | None) -> None:
        self.done, self.total, self.report = 0, total, report or (lambda done, total: None)

    def step(self) -> None:
        self.jump(self.done + 1)

    def jump(self, done: int) -> None:
        """Frames that need no work, or cannot be had, count as done."""
        if done != self.done:
            self.done = done
            self.report(done, self.total)


class _Video:
    """Frames and labels of a video at the working size."""

    def __init__(self, clip: Clip, size: int | None) -> None:
        self.clip = clip
        height, width = read_labels(clip.labels[0]).shape
        self.height, self.width = working_size(height, width, size)
        self.resized = (height, width) != (self.height, self.width)
        kept = max(2, CACHE_BYTES // (3 * self.height * self.width))
        self.frame = lru_cache(maxsize=kept)(self._frame)

    def _frame(self, index: int) -> np.ndarray:
        image = read_image(self.clip.images[index])
        if self.resized:
            image = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return image

    def labels(self, index: int) -> np.ndarray:
        """uint8 [H, W] object ids."""
        labels = read_labels(self.clip.labels[index])
        if self.resized:
            labels = cv2.resize(labels, (self.width, self.height), interpolation=cv2.INTER_NEAREST)
        return labels


def _propagate_reference(
    run: FusionRun, video: _Video, ref: int, networks: Networks, reach: int | None, step: Callable[[], None]
) -> int:
    """Write one reference, calling `step` after every frame; returns the number of files, 0 without an object."""
    labels = video.labels(ref)
    counts = np.bincount(labels.ravel(), minlength=256)
    ids = [k for k in range(1, 255) if counts[k] > MIN_PIXELS][:MAX_OBJECTS]
    if not ids:
        return 0
    planes = torch.from_numpy(np.stack([labels == k for k in ids]).astype(np.float32))
    masks = aggregate_wbg(planes[:, None], keep_bg=False)[:, 0].numpy()
    anchor = Anchor(ref, masks, len(ids))
    with run.writing(video.clip.name, ref) as folder:
        for k in ids:
            (folder / f"{k:05d}").mkdir()
        _write(folder, ref, ids, masks)
        frames = 1
        propagator = Propagator(networks, video.frame, (video.height, video.width), len(ids), [anchor])
        for plan in _passes(ref, len(video.clip.images), reach):
            for item in propagator.run(plan):
                _write(folder, item.index, ids, item.probs[1:])
                frames += 1
                step()
    return frames * len(ids)


def _write(folder: Path, frame: int, ids: list[int], objects: np.ndarray) -> None:
    """Maps float32 [K, H, W] of one frame."""
    for k, plane in zip(ids, objects, strict=True):
        values = np.floor(plane * 255).astype(np.uint8)
        done, png = cv2.imencode(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, 3])
        assert done
        (folder / f"{k:05d}" / f"{frame:05d}.png").write_bytes(png.tobytes())
