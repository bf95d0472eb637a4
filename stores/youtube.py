"""YouTube-VOS folders: masks only where objects first appear; frames keep their stems, nothing is renumbered.

::

    <split>/JPEGImages/<video>/00000.jpg 00005.jpg ...             every 5th frame
    <split>/Annotations/<video>/00000.png ...                      palette PNGs
    <split>/meta.json                                              which frames of which objects are judged
    all_frames/<split>_all_frames/JPEGImages/<video>/00000.jpg ... every frame

``<split>`` is train, valid, test or a resized copy such as train_480p; a folder that itself holds JPEGImages
is taken as the split too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stores.davis import write_jpeg
from stores.errors import DatasetError
from stores.files import atomic_file, check_name, list_files, list_folders, make_folder
from stores.json_files import read_json
from stores.masks import LabelImage, read_annotation, write_mask

MAX_META_BYTES = 64 * 2**20


@dataclass(frozen=True)
class YouTubeObject:
    """One object of meta.json: its id, its category ("" if unknown) and the stems of the frames it is in."""

    object_id: int
    category: str
    frames: tuple[str, ...]


@dataclass(frozen=True)
class YouTubeDataset:
    """A YouTube-VOS tree on disk.

    Attributes:
        root: the folder of the splits, or of one split.
        split: "train", "valid", "test", ...

    Raises:
        DatasetError: from every method, naming the file and field that is missing or wrong.
    """

    root: Path
    split: str = "valid"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        check_name(self.split, "split")
        _ = self.base  # an unusable root should fail here, not at the first frame

    @cached_property
    def base(self) -> Path:
        """The folder of the split."""
        for folder in (self.root / self.split, self.root):
            if (folder / "JPEGImages").is_dir():
                return folder
        raise DatasetError(f"{self.root / self.split / 'JPEGImages'}: is missing")

    @cached_property
    def has_meta(self) -> bool:
        """Whether the split has a meta.json; resized copies come without."""
        return (self.base / "meta.json").exists()

    @cached_property
    def _meta(self) -> dict[str, tuple[YouTubeObject, ...]]:
        return _read_meta(self.base / "meta.json")

    def videos(self) -> list[str]:
        """Return the video ids: those of meta.json, else the folders of JPEGImages; sorted."""
        if self.has_meta:
            return sorted(self._meta)
        names = list_folders(self.base / "JPEGImages", DatasetError)
        if not names:
            raise DatasetError(f"{self.base / 'JPEGImages'}: holds no videos")
        return names

    def objects(self, video: str) -> tuple[YouTubeObject, ...]:
        """Return the objects of a video from meta.json, by ascending id."""
        if video not in self._meta:
            raise DatasetError(f"{self.base / 'meta.json'}: videos.{video} is missing")
        return self._meta[video]

    def required_stems(self, video: str) -> list[str]:
        """Return the stems of the frames whose masks are judged, sorted; without meta.json all of them."""
        if not self.has_meta:
            return [path.stem for path in self.frames(video)]
        return sorted({stem for item in self.objects(video) for stem in item.frames})

    def frames(self, video: str) -> list[Path]:
        """Return the JPEGs of the split, every 5th frame of the video."""
        return _frames(self.base / "JPEGImages", video)

    def all_frames(self, video: str) -> list[Path]:
        """Return every frame of the video."""
        name = f"{self.split}_all_frames"
        for top in (self.root, self.base.parent):
            folder = top / "all_frames" / name / "JPEGImages"
            if folder.is_dir():
                return _frames(folder, video)
        raise DatasetError(f"{self.root / 'all_frames' / name / 'JPEGImages'}: is missing")

    def annotations(self, video: str) -> dict[str, Path]:
        """Return the given masks by frame stem, in the order of frames; each must have its frame."""
        check_name(video, "video")
        folder = self.base / "Annotations" / video
        paths = list_files(folder, {".png"}, DatasetError)
        if not paths:
            raise DatasetError(f"{folder}: holds no masks")
        stems = {path.stem for path in self.frames(video)}
        for path in paths:
            if path.stem not in stems:
                images = self.base / "JPEGImages" / video
                raise DatasetError(f"{path}: there is no frame {path.stem}.jpg in {images}")
        return {path.stem: path for path in paths}

    def labels(self, path: Path) -> LabelImage:
        """Read one of `annotations`; void (255) is background.

        Raises:
            MaskError: the file is damaged or no label image.
        """
        return read_annotation(path)

    def first_appearance(self, video: str) -> dict[int, str]:
        """Return for each object id the stem of the first given mask that shows it; ids may have gaps."""
        first: dict[int, str] = {}
        for stem, path in self.annotations(video).items():
            for object_id in self.labels(path).ids:
                first.setdefault(object_id, stem)
        return dict(sorted(first.items()))


def write_youtube_video(
    root: str | Path,
    split: str,
    video: str,
    frames: Iterable[tuple[str, np.ndarray, np.ndarray | None]],
    objects: Iterable[YouTubeObject] = (),
    *,
    palette: np.ndarray | None = None,
) -> int:
    """Write a stream of frames as one video of a split and enter its objects in meta.json.

    Args:
        root: the folder of the splits; made if missing.
        split: name of the split.
        video: id of the video; an entry of that name in meta.json is replaced.
        frames: (stem, uint8 [H, W, 3] RGB image, labels [H, W] or None for no mask) in order.
        objects: what meta.json says about the video.
        palette: colours of the masks, the DAVIS palette if None.

    Returns:
        The number of frames.

    Raises:
        DatasetError: a bad name, or a meta.json that is there and wrong.
        StorageFullError: a file cannot be written.
    """
    check_name(split, "split")
    check_name(video, "video")
    base = Path(root) / split
    images, masks = base / "JPEGImages" / video, base / "Annotations" / video
    make_folder(images)
    make_folder(masks)
    file = base / "meta.json"
    known = _read_meta(file) if file.exists() else {}
    count = 0
    for stem, image, labels in frames:
        check_name(stem, "frame")
        write_jpeg(images / f"{stem}.jpg", image)
        if labels is not None:
            write_mask(masks / f"{stem}.png", labels, palette)
        count += 1
    known[video] = tuple(objects)
    with atomic_file(file) as out:
        out.write(json.dumps({"videos": {name: _to_json(known[name]) for name in sorted(known)}}).encode())
    return count


def _to_json(objects: tuple[YouTubeObject, ...]) -> dict[str, Any]:
    entries = {str(o.object_id): {"category": o.category, "frames": list(o.frames)} for o in objects}
    return {"objects": entries}


def _frames(images: Path, video: str) -> list[Path]:
    check_name(video, "video")
    paths = list_files(images / video, {".jpg", ".jpeg"}, DatasetError)
    if not paths:
        raise DatasetError(f"{images / video}: holds no frames")
    return paths


def _read_meta(file: Path) -> dict[str, tuple[YouTubeObject, ...]]:
    """Read and check a meta.json; messages name the field."""
    data = read_json(file, DatasetError, limit=MAX_META_BYTES)
    videos: dict[str, tuple[YouTubeObject, ...]] = {}
    for video, entry in _mapping(_mapping(data, file, "the top level").get("videos"), file, "videos").items():
        check_name(video, f"{file}: videos")
        objects = _mapping(entry, file, f"videos.{video}").get("objects")
        place = f"videos.{video}.objects"
        items = [_object(key, value, file, place) for key, value in _mapping(objects, file, place).items()]
        videos[video] = tuple(sorted(items, key=lambda item: item.object_id))
    if not videos:
        raise DatasetError(f"{file}: videos is empty")
    return videos


def _object(key: str, value: Any, file: Path, place: str) -> YouTubeObject:
    field = f"{place}.{key[:20]}"
    # Ids are one byte in the masks, and 255 is void.
    if not re.fullmatch(r"[0-9]{1,3}", key) or not 1 <= int(key) <= 254:
        raise DatasetError(f"{file}: {field}: the object id must be a number in 1..254")
    entry = _mapping(value, file, field)
    frames, category = entry.get("frames"), entry.get("category", "")
    if not isinstance(frames, list) or not all(isinstance(stem, str) for stem in frames):
        raise DatasetError(f"{file}: {field}.frames must be a list of frame names")
    for stem in frames:  # they become names of files
        check_name(stem, f"{file}: {field}.frames")
    if not isinstance(category, str):
        raise DatasetError(f"{file}: {field}.category must be a string")
    return YouTubeObject(int(key), category, tuple(frames))


def _mapping(value: Any, file: Path, field: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DatasetError(f"{file}: {field} {'is missing' if value is None else 'must be an object'}")
    return value
