"""The official robot and scorer, the package `davisinteractive` 1.0.4 of 2020, on current libraries and on any data.

The package itself stays as it is. What it needs and current libraries lack is set beside it: old names in numpy and
networkx, columns of numbers in its summary, and the fixed seed by which scikit-image broke ties in the medial axis
until 0.18 (without it the robot draws other strokes each time; they are not those of the old version, though). Its
tables know the 120 DAVIS sequences only; `tables` puts in what is really on disk, for as long as a session runs.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from stores.davis import DavisDataset
from stores.errors import DatasetError, MaskError, ModelError
from stores.scribbles import read_scribbles

VOID = 255
SEED = 0
log = logging.getLogger("mivos")


@dataclass(frozen=True)
class Package:
    """What is used of `davisinteractive`: its two classes, the session and the tables."""

    session: Any
    davis: Any


@dataclass(frozen=True)
class SequenceFacts:
    """A sequence as it lies on disk.

    Attributes:
        objects: the highest id in any of its masks, void left out; scribbles: files 001.json, 002.json, ...;
        digest: of masks and scribbles, hexadecimal.
    """

    name: str
    frames: int
    height: int
    width: int
    objects: int
    scribbles: int
    digest: str


@lru_cache(maxsize=1)
def load_davisinteractive() -> Package:
    """Import the package, with what it lacks set; nothing that is there is replaced.

    Raises:
        ModelError: the package or one that it needs is not installed.
    """
    hint = 'pip install "mivos[bench]", then pip install --no-deps --no-build-isolation davisinteractive==1.0.4'
    try:
        import networkx

        names = {
            np: {"int": int, "float": float, "bool": bool, "NPY_OWNDATA": 4},
            networkx: {"from_scipy_sparse_matrix": networkx.from_scipy_sparse_array},
        }
        if hasattr(np, "trapezoid"):
            names[np]["trapz"] = np.trapezoid
        for module, values in names.items():
            for name, value in values.items():
                if name not in vars(module):
                    setattr(module, name, value)
        from davisinteractive.dataset import Davis
        from davisinteractive.evaluation import service
        from davisinteractive.robot import interactive_robot
        from davisinteractive.session import DavisInteractiveSession
    except ImportError as error:
        raise ModelError(f"the DAVIS interactive robot needs the package {error.name}", hint=hint) from error

    original = service.EvaluationService.summarize_report

    def summarize_report(self: Any, report: Any) -> Any:
        # Current pandas takes no mean over text, and keeps numbers that began in an empty table as objects.
        kept = report[[name for name in report.columns if name not in ("session_id", "frame")]]
        return original(self, kept.astype(dict.fromkeys(("jaccard", "contour", "j_and_f", "timing"), float)))

    service.EvaluationService.summarize_report = summarize_report
    options = inspect.signature(interactive_robot.medial_axis).parameters
    seed = next((name for name in ("rng", "random_state") if name in options), None)
    if seed is not None:
        interactive_robot.medial_axis = partial(interactive_robot.medial_axis, **{seed: SEED})
    return Package(DavisInteractiveSession, Davis)


@contextmanager
def tables(subset: str, sequences: Sequence[SequenceFacts]) -> Iterator[None]:
    """Let the package see these sequences as the whole `subset` ("train", "val" or "trainval")."""
    davis = load_davisinteractive().davis
    sets, known = dict(davis.sets), dict(davis.dataset)
    davis.sets[subset] = [facts.name for facts in sequences]
    for facts in sequences:
        davis.dataset[facts.name] = {
            **known.get(facts.name, {"name": facts.name, "set": subset}),
            "num_frames": facts.frames,
            "num_objects": facts.objects,
            "num_scribbles": facts.scribbles,
            "image_size": [facts.width, facts.height],
        }
    try:
        yield
    finally:
        for table, before in ((davis.sets, sets), (davis.dataset, known)):
            table.clear()
            table.update(before)


def find_sequences(
    dataset: DavisDataset, wanted: Sequence[str] | None = None
) -> tuple[list[SequenceFacts], tuple[str, ...]]:
    """The sequences that are there, checked, and the names of those that the split lists but that are not there.

    Args:
        wanted: only these, and all of them; None: the list of the split. A data set without lists is taken whole.

    Raises:
        DatasetError, ScribbleError, MaskError: a sequence cannot be used, or there is none.
    """
    root = dataset.base / "Annotations" / dataset.resolution
    missing: tuple[str, ...] = ()
    if wanted is not None:
        names = list(dict.fromkeys(wanted))
    elif (dataset.base / "ImageSets").is_dir():
        listed = dataset.sequences()
        names = [name for name in listed if (root / name).is_dir()]
        missing = tuple(name for name in listed if name not in names)
    else:
        names = sorted(path.name for path in root.glob("*") if (dataset.base / "Scribbles" / path.name).is_dir())
    if not names:
        raise DatasetError(
            f"{root}: holds no sequence of the split {dataset.split!r}", hint="name sequences, or another split"
        )
    if missing:
        log.warning("%d sequences of %s are not there: %s", len(missing), dataset.split, ", ".join(missing))
    return [check_sequence(dataset, name) for name in names], missing


def check_sequence(dataset: DavisDataset, name: str) -> SequenceFacts:
    """Read all masks and scribbles of a sequence, with the rules of the package, which itself only asserts.

    Raises:
        DatasetError: a file is missing, or masks and frames differ in size.
        MaskError: a mask holds colours instead of ids, or no object. ScribbleError: a scribble file is broken.
    """
    paths = dataset.annotations(name)
    digest, present = hashlib.sha256(), np.zeros(256, bool)
    size = _image(dataset.frames(name)[0])[0]
    for path in paths:
        found, values = _image(path, ids=True)
        if found != size:
            raise DatasetError(f"{path}: is {found[0]}x{found[1]}, the frames are {size[0]}x{size[1]}")
        digest.update(path.read_bytes())
        present |= np.bincount(values.ravel(), minlength=256) > 0
    ids = [number for number in np.flatnonzero(present).tolist() if number not in (0, VOID)]
    if not ids:
        hint = "masks of one object must be 0 and 1; 255 means void" if present[VOID] else None
        raise MaskError(f"{paths[0].parent}: no mask holds an object", hint=hint)
    if ids != list(range(1, ids[-1] + 1)):
        log.warning("%s: the ids %s have gaps; the scorer counts objects that never appear as right", name, ids)
    files = dataset.scribbles(name)
    for number, file in enumerate(files, start=1):
        if file.name != f"{number:03d}.json":
            raise DatasetError(f"{file.parent / f'{number:03d}.json'}: is missing, the next file is {file.name}")
        scribbles = read_scribbles(file, num_frames=len(paths))
        if scribbles.sequence != name:
            raise DatasetError(f"{file}: is of the sequence {scribbles.sequence!r}, not {name!r}")
        if len(scribbles.interactions) > 1:
            log.warning("%s: strokes on several frames; only those of the first one are used", file)
        digest.update(file.read_bytes())
    return SequenceFacts(name, len(paths), size[1], size[0], ids[-1], len(files), digest.hexdigest()[:24])


def _image(path: Path, *, ids: bool = False) -> tuple[tuple[int, int], np.ndarray]:
    """Size (width, height) and, if asked for, uint8 [H, W] ids as the package reads them."""
    try:
        with Image.open(path) as image:
            if not ids:
                return image.size, np.zeros(0, np.uint8)
            if image.mode not in ("P", "L"):
                raise MaskError(
                    f"{path}: is not an indexed PNG (mode {image.mode})", hint="save masks as palette PNGs of ids"
                )
            return image.size, np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MaskError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
