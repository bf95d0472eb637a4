"""DAVIS folders: ``JPEGImages``, ``Annotations``, ``ImageSets`` and ``Scribbles``.

Read as they are published, below one root::

    2016/{JPEGImages,Annotations}/480p/<sequence>/00000.jpg|png              masks 0 or 255
    2017/trainval/{JPEGImages,Annotations}/480p/<sequence>/00000.jpg|png     palette PNGs, every frame
    2017/trainval/ImageSets/{2016,2017}/{train,val}.txt                      one sequence name per line
    2017/trainval/Scribbles/<sequence>/001.json ...
    2017/test-dev/...                                                        masks of the first frames only

or flat, with ``JPEGImages`` directly below the root (also below ``trainval/`` or ``DAVIS/...``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from stores.errors import DatasetError
from stores.files import atomic_file, check_name, list_files, make_folder, read_limited
from stores.masks import LabelImage, read_annotation, write_mask

MAX_LIST_BYTES = 2**24


@dataclass(frozen=True)
class DavisDataset:
    """A DAVIS tree on disk.

    Attributes:
        root: the DAVIS folder, see the module's text.
        year: "2017" (several objects) or "2016" (one object, masks > 0).
        split: name of the list in ImageSets: "train", "val", "trainval" (both), "test-dev", ...
        resolution: "480p" or "Full-Resolution".

    Raises:
        DatasetError: from every method, naming the file or folder that is missing or wrong.
    """

    root: Path
    year: str = "2017"
    split: str = "val"
    resolution: str = "480p"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        if self.year not in ("2016", "2017"):
            raise DatasetError(f"DAVIS has the years 2016 and 2017, not {self.year!r}")
        check_name(self.split, "split")
        check_name(self.resolution, "resolution")
        _ = self.base  # an unusable root should fail here, not at the first frame

    @cached_property
    def base(self) -> Path:
        """The folder that holds JPEGImages and Annotations."""
        part = "test-dev" if self.split.startswith("test-dev") else "trainval"
        inner = ["2016"] if self.year == "2016" else [f"2017/{part}", part, "2017"]
        choices = [self.root / top / name for top in ("", "DAVIS") for name in (*inner, "")]
        for folder in choices:
            if (folder / "JPEGImages" / self.resolution).is_dir():
                return folder
        raise DatasetError(
            f"{self.root}: has no JPEGImages/{self.resolution} folder",
            hint=f"give the folder that holds JPEGImages, or a DAVIS folder with {inner[0]}/JPEGImages",
        )

    def sequences(self) -> list[str]:
        """Return the names of the split in the order of its list."""
        if self.split == "trainval" and not self._list_file("trainval").is_file():
            return self._read_list("train") + self._read_list("val")
        return self._read_list(self.split)

    def frames(self, sequence: str) -> list[Path]:
        """Return the JPEGs of a sequence; they must be numbered from 00000 without gaps."""
        folder = self._folder("JPEGImages", sequence)
        paths = list_files(folder, {".jpg", ".jpeg"}, DatasetError)
        if not paths:
            raise DatasetError(f"{folder}: holds no frames")
        for index, path in enumerate(paths):
            if path.stem != f"{index:05d}":
                missing = folder / f"{index:05d}.jpg"
                raise DatasetError(f"{missing}: is missing, the next frame is {path.name}")
        return paths

    def annotations(self, sequence: str) -> list[Path]:
        """Return the masks of a sequence: one per frame, but in the test splits only those that exist."""
        folder = self._folder("Annotations", sequence)
        paths = [folder / f"{path.stem}.png" for path in self.frames(sequence)]
        for index, path in enumerate(paths):
            if (index == 0 or not self.split.startswith("test")) and not path.is_file():
                raise DatasetError(f"{path}: is missing")
        return [path for path in paths if path.is_file()]

    def labels(self, path: Path) -> LabelImage:
        """Read one of `annotations`: void (255) is background; for 2016 everything that is not 0 is object 1.

        Raises:
            MaskError: the file is damaged or no label image.
        """
        return read_annotation(path, binary=self.year == "2016")

    def object_ids(self, sequence: str) -> tuple[int, ...]:
        """Return the objects of a sequence: the ids in its first mask, ascending."""
        return self.labels(self.annotations(sequence)[0]).ids

    def scribbles(self, sequence: str) -> list[Path]:
        """Return the scribble files of a sequence, 001.json first."""
        check_name(sequence, "sequence")
        folder = self._list_root() / "Scribbles" / sequence
        paths = list_files(folder, {".json"}, DatasetError)
        if not paths:
            raise DatasetError(f"{folder}: holds no scribble files such as 001.json")
        return paths

    def _folder(self, kind: str, sequence: str) -> Path:
        check_name(sequence, "sequence")
        folder = self.base / kind / self.resolution / sequence
        if not folder.is_dir():
            raise DatasetError(f"{folder}: is missing")
        return folder

    def _list_root(self) -> Path:
        """The folder of ImageSets and Scribbles: for 2016 that is the one of 2017, if it is there."""
        if self.year == "2016":
            # The lists that come with 2016 hold pairs of paths; the names are in the later package.
            for folder in (self.base.parent / "2017" / "trainval", self.base.parent / "trainval"):
                if (folder / "ImageSets" / "2016").is_dir():
                    return folder
        return self.base

    def _list_file(self, split: str) -> Path:
        return self._list_root() / "ImageSets" / self.year / f"{split}.txt"

    def _read_list(self, split: str) -> list[str]:
        file = self._list_file(split)
        text = read_limited(file, MAX_LIST_BYTES, DatasetError).decode("utf-8", errors="replace")
        names = [line.strip() for line in text.splitlines() if line.strip()]
        for number, name in enumerate(names):
            check_name(name, f"{file}: line {number + 1}")
        if not names:
            raise DatasetError(f"{file}: lists no sequences")
        return names


def write_davis_sequence(
    root: str | Path,
    sequence: str,
    frames: Iterable[tuple[np.ndarray, np.ndarray | None]],
    *,
    year: str = "2017",
    split: str = "val",
    resolution: str = "480p",
    palette: np.ndarray | None = None,
) -> int:
    """Write a stream of frames into a flat DAVIS tree and add the sequence to the list of its split.

    Args:
        root: the folder of JPEGImages, Annotations and ImageSets; made if missing.
        sequence: name of the sequence.
        frames: (uint8 [H, W, 3] RGB image, labels [H, W] or None for no mask) in order.
        year: folder of the list.
        split: name of the list.
        resolution: name of the inner folder.
        palette: colours of the masks, the DAVIS palette if None.

    Returns:
        The number of frames.

    Raises:
        DatasetError: a bad name.
        StorageFullError: a file cannot be written.
    """
    for name in (sequence, split, resolution):
        check_name(name, "name")
    base = Path(root)
    images, masks = (base / kind / resolution / sequence for kind in ("JPEGImages", "Annotations"))
    for folder in (images, masks, base / "ImageSets" / year):
        make_folder(folder)
    count = 0
    for image, labels in frames:
        write_jpeg(images / f"{count:05d}.jpg", image)
        if labels is not None:
            write_mask(masks / f"{count:05d}.png", labels, palette)
        count += 1
    # Listed last, so that an interrupted run leaves no half sequence in the split.
    listing = base / "ImageSets" / year / f"{split}.txt"
    names = read_limited(listing, MAX_LIST_BYTES, DatasetError).decode().split() if listing.exists() else []
    with atomic_file(listing) as file:
        file.write("".join(f"{name}\n" for name in [*names, *({sequence} - set(names))]).encode())
    return count


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write uint8 [H, W, 3] RGB as a JPEG of quality 95 without chroma subsampling.

    Raises:
        StorageFullError: the file cannot be written.
    """
    with atomic_file(path) as file:
        Image.fromarray(image).save(file, format="JPEG", quality=95, subsampling=0)
