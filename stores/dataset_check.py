"""Is a data set fit for training? What is wrong with it, and how to mend it.

Understood are the layouts that training reads::

    JPEGImages/480p/<video>/00000.jpg  Annotations/480p/<video>/00000.png  ImageSets/2017/train.txt    DAVIS
    JPEGImages/<video>/00000.jpg       Annotations/<video>/00000.png                                   BL30K
    the same with meta.json beside, masks for some frames only                                         YouTube-VOS
    static/**/<name>.jpg with <name>.png beside (also directly below the root)                         stills

Files are looked at one by one and videos one after the other; a problem that many files share is kept as a count and
its first example, so memory does not grow with the data.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stores.dataset_files import RULES, look_at_image, look_at_mask
from stores.dataset_lists import check_lists
from stores.dataset_report import Problem, Report
from stores.errors import DatasetError
from stores.files import natural_key

__all__ = ["Problem", "Report", "check_dataset"]

IMAGES, MASKS = "JPEGImages", "Annotations"
RESOLUTION, YEAR = "480p", "2017"
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
BASES = ("", "2017/trainval", "trainval", "DAVIS/2017/trainval", "DAVIS", "2017")
Step = Callable[[int, int], None]


def check_dataset(root: str | Path, *, quick: bool = False, progress: Step | None = None) -> Report:
    """Look at a whole data set.

    Args:
        quick: read only the headers of files: sizes and types, but not ids, empty masks or damage further inside.
        progress: called with the videos and stills done, and all of them.

    Raises:
        DatasetError: `root` is no folder that can be read.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is no folder", hint="give the folder that holds JPEGImages")
    return _Check(folder, quick, progress or (lambda done, total: None)).run()


class _Check:
    def __init__(self, root: Path, quick: bool, progress: Step) -> None:
        self.root, self.quick, self.progress = root, quick, progress
        self.problems: dict[tuple[str, str], Problem] = {}
        self.frames = self.stills = self.done = self.total = 0

    def found(self, kind: str, path: Path, detail: str = "", *, level: str | None = None, count: int = 1) -> None:
        """Count a problem; the first of its kind is the example."""
        rule = RULES[kind]
        key = kind, level or rule.level
        before = self.problems.get(key)
        if before is None:
            first = str(path.relative_to(self.root)) if path != self.root else str(path)
            self.problems[key] = Problem(key[1], kind, rule.text, rule.hint, count, first, detail)
        else:
            self.problems[key] = replace(before, count=before.count + count)

    def run(self) -> Report:
        base = next((self.root / part for part in BASES if (self.root / part / IMAGES).is_dir()), None)
        top = self.root / "static" if (self.root / "static").is_dir() else self.root
        layouts, names = [], list[str]()
        if base is not None:
            layout, images, masks, names = self._folders(base)
            layouts.append(layout)
        has_stills = (top != self.root or base is None) and any(self._still_folders(top))
        if has_stills:
            layouts.append("static")
        self.total = len(names) + (sum(len(files) for _, files in self._still_folders(top)) if has_stills else 0)
        if base is not None:
            if base != self.root:
                self.found("nested", base)
            if layout == "davis":
                check_lists(base / "ImageSets" / YEAR, images, names, self.found)
            for name in names:
                self._video(images / name, masks / name, layout)
                self._step(1)
        if has_stills:
            for folder, files in self._still_folders(top):
                self._stills(folder, files)
        if base is None and not self.stills:
            self.found("no-images", self.root, self._similar())
        order = sorted(self.problems.values(), key=lambda problem: problem.level != "error")
        return Report(str(self.root), tuple(layouts), len(names), self.frames, self.stills, self.quick, tuple(order))

    def _step(self, count: int) -> None:
        self.done += count
        self.progress(self.done, self.total)

    def _similar(self) -> str:
        """What is there instead of JPEGImages, in a few words."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.root))[:5]
        except OSError as error:
            raise DatasetError(f"{self.root}: cannot be read: {error.strerror or error}") from error
        return f"it holds {', '.join(names)}" if names else "it is empty"

    # ---- videos

    def _folders(self, base: Path) -> tuple[str, Path, Path, list[str]]:
        """Layout, folders of images and masks, names of the videos."""
        images, masks, layout = base / IMAGES, base / MASKS, "bl30k"
        inner = _folders_in(images)
        deep = [name for name in inner if _folders_in(images / name) and not _holds_pictures(images / name)]
        if RESOLUTION in inner or deep:
            layout, name = "davis", RESOLUTION if RESOLUTION in inner else deep[0]
            if name != RESOLUTION:
                self.found("resolution", images / name)
            images, masks = images / name, masks / name
        elif (base / "meta.json").exists():
            layout = "youtube"
        names = _folders_in(images)
        if not names:
            self.found("no-videos", images)
        if not masks.is_dir():
            self.found("no-masks", masks)
        else:
            known = set(names)
            for name in _folders_in(masks):
                if name not in known:
                    self.found("video-no-images", masks / name)
        return layout, images, masks, names

    def _video(self, images: Path, masks: Path, layout: str) -> None:
        files = self._pictures(images)
        frames = {path.stem: path for path in files if path.suffix == ".jpg"}
        for path in files:
            if path.suffix != ".jpg":
                self.found("same-stem" if path.stem in frames else "suffix", path)
        if not frames:
            if not files:
                self.found("video-empty", images)
            return
        if len(frames) < 3:
            self.found("short", images, f"{len(frames)} frames")
        self._numbering(images, list(frames), layout)
        given = {path.stem: path for path in self._pictures(masks)} if masks.is_dir() else {}
        wrong = [path for path in given.values() if path.suffix != ".png"]
        for path in wrong:
            self.found("mask-jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "mask-format", path, path.suffix)
            del given[path.stem]
        if not masks.is_dir() and masks.parent.is_dir():
            self.found("video-no-masks", masks)
        lacking = [path for stem, path in frames.items() if stem not in given]
        if lacking and masks.is_dir() and not (layout == "youtube" and given):
            if len(lacking) > len(wrong):  # else it was told already
                self.found("mask-missing", lacking[0], count=len(lacking) - len(wrong))
        for stem, path in given.items():
            if stem not in frames:
                self.found("image-missing", path)
        self._pixels(images, frames, given)

    def _numbering(self, folder: Path, stems: list[str], layout: str) -> None:
        numbers = [int(stem) if stem.isascii() and stem.isdigit() else None for stem in stems]
        step = 1
        if layout != "davis" and len(numbers) > 1 and numbers[0] is not None and numbers[1] is not None:
            step = max(1, numbers[1] - numbers[0])  # YouTube-VOS has every fifth frame
        for index, stem in enumerate(stems):
            if stem != f"{index * step:05d}":
                level = None if layout == "davis" else "warning"
                self.found("numbering", folder / stem, f"expected {index * step:05d}", level=level)
                return

    def _pixels(self, folder: Path, frames: dict[str, Path], given: dict[str, Path]) -> None:
        """Every image and mask of a video, one at a time."""
        first, present, known = None, np.zeros(256, bool), not self.quick
        for stem, path in frames.items():
            self.frames += 1
            size = look_at_image(path, self.found, quick=self.quick)
            first = first or size
            if size is not None and size != first:
                self.found("video-sizes", path, f"{_text(size)}, the first {_text(first)}")
            if stem in given:
                ids = self._mask(given[stem], size, still=False)
                if ids is None:
                    known = False
                else:
                    present |= ids
        if known and given:
            ids = np.flatnonzero(present)
            if not len(ids):
                self.found("all-empty", folder)
            elif len(ids) != ids[-1]:
                self.found("gaps", folder, f"ids {', '.join(map(str, ids[:6]))}{', ...' if len(ids) > 6 else ''}")

    def _mask(self, path: Path, size: tuple[int, int] | None, *, still: bool) -> np.ndarray | None:
        """The ids of a mask; None if something about it is wrong, which is told."""
        wrong = list[str]()

        def found(kind: str, *args: Any, **more: Any) -> None:
            if kind != "void":
                wrong.append(kind)
            self.found(kind, *args, **more)

        own, ids = look_at_mask(path, found, quick=self.quick, still=still)
        if own is not None and size is not None and own != size:
            found("mask-size", path, f"{_text(own)}, its image {_text(size)}")
        return None if wrong else ids

    def _pictures(self, folder: Path) -> list[Path]:
        """Image files of a folder in natural order; hidden ones are told."""
        try:
            names = [entry.name for entry in os.scandir(folder) if entry.name.lower().endswith(PICTURES)]
        except OSError as error:
            self.found("unreadable", folder, error.strerror or str(error))
            return []
        for name in sorted(names):
            if name.startswith("."):
                self.found("hidden", folder / name)
        return [folder / name for name in sorted(names, key=natural_key) if not name.startswith(".")]

    # ---- stills

    def _still_folders(self, top: Path) -> Iterator[tuple[Path, list[str]]]:
        """Folders with pictures in them."""
        for folder, inner, files in os.walk(top):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            names = [name for name in files if name.lower().endswith(PICTURES)]
            if names:
                yield Path(folder), sorted(names)

    def _stills(self, folder: Path, names: list[str]) -> None:
        there = set(names)
        stems = Counter(Path(name).stem for name in names if not name.lower().endswith(".png"))
        look = partial(look_at_image, found=self.found, quick=self.quick)
        for name in names:
            self._step(1)
            path = folder / name
            if name.startswith("."):
                self.found("hidden", path)
            elif path.suffix == ".png":
                if not stems[path.stem]:
                    self.found("still-no-image", path)
            elif path.suffix != ".jpg":
                self.found("same-stem" if f"{path.stem}.jpg" in there else "suffix", path, level="warning")
            elif f"{path.stem}.png" not in there:
                self.found("still-no-mask", path)
            else:
                self.stills += 1
                ids = self._mask(path.with_suffix(".png"), look(path), still=True)
                if ids is not None and not self.quick and not ids.any():
                    self.found("still-empty", path.with_suffix(".png"))


def _folders_in(folder: Path) -> list[str]:
    """Visible folders in natural order; none where it cannot be read."""
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(names, key=natural_key)


def _holds_pictures(folder: Path) -> bool:
    return any(entry.name.lower().endswith(PICTURES) for entry in os.scandir(folder))


def _text(size: tuple[int, int] | None) -> str:
    return "?" if size is None else f"{size[0]}x{size[1]}"
