"""Training data of the fusion network: true masks of reference frames, propagated through their videos.

Layout as published with MiVOS: ``<out>/<video>/<ref>/<object>/<frame>.png``, one-channel 8-bit, floor(255 p).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pipelines.engine import Networks
from pipelines.stages.propagate import Anchor, Propagator, plan_passes
from pipelines.training.samples import Clip, resized_pair
from stores.errors import StorageFullError

MIN_PIXELS = 100
MAX_OBJECTS = 5


def generate_fusion(
    clips: list[Clip],
    out: Path,
    networks: Networks,
    *,
    separation: int = 25,
    reach: int | None = None,
    size: int = 480,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Propagates every `separation`-th frame's true masks; videos and references already there are skipped.

    Args:
        out: the run's directory. reach: frames to go from the reference in both directions, None for the whole video.
        size: shorter side in pixels of frames and maps.

    Returns:
        number of reference frames written.

    Raises:
        StorageFullError: the folder cannot be written.
    """
    jobs = [(clip, ref) for clip in clips for ref in range(0, len(clip.images), separation)]
    written = 0
    for done, (clip, ref) in enumerate(jobs, start=1):
        folder = out / clip.name / f"{ref:05d}"
        if not folder.exists():
            written += _propagate_reference(clip, ref, folder, networks, reach, size)
        if progress:
            progress(done, len(jobs))
    return written


def _propagate_reference(clip: Clip, ref: int, folder: Path, networks: Networks, reach: int | None, size: int) -> int:
    _, labels = resized_pair(clip, ref, size)
    counts = np.bincount(labels.ravel(), minlength=256)
    ids = [k for k in range(1, 255) if counts[k] > MIN_PIXELS][:MAX_OBJECTS]
    if not ids:
        return 0
    temporary = folder.with_name(f".{folder.name}.tmp")
    masks = np.stack([labels == k for k in ids]).astype(np.float32)
    shape = (labels.shape[0], labels.shape[1])
    propagator = Propagator(
        networks, lambda i: resized_pair(clip, i, size)[0], shape, len(ids), [Anchor(ref, masks, len(ids))]
    )
    try:
        for k in ids:
            (temporary / f"{k:05d}").mkdir(parents=True, exist_ok=True)
        _write(temporary, ref, ids, masks)
        for plan in plan_passes(ref, len(clip.images), [], new_objects=True):
            for item in propagator.run(plan):
                _write(temporary, item.index, ids, item.probs[1:])
                if reach is not None and abs(item.index - ref) >= reach:
                    break
        os.replace(temporary, folder)  # a folder that is there is whole
    except OSError as error:
        raise StorageFullError(
            f"cannot write {folder}: {error.strerror}", hint="free some space and run again"
        ) from error
    return 1


def _write(folder: Path, frame: int, ids: list[int], objects: np.ndarray) -> None:
    for k, plane in zip(ids, objects, strict=True):
        path = folder / f"{k:05d}" / f"{frame:05d}.png"
        if not cv2.imwrite(str(path), np.floor(plane * 255).astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 3]):
            raise OSError(28, "No space left or no permission")
