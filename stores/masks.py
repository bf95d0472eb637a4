"""Label images: PNGs whose pixel value is the object id.

What a user's mask file may be, and what it means:

- palette PNG (P): the index is the object id; the palette is kept.
- grey (1, L, 16 bit): 0 and white only is object 1; otherwise the value is the object id.
- RGB, RGBA, LA: if every pixel has a colour of the DAVIS palette, that colour's id; black and white only is
  object 1; anything else is refused, because no colour names an object then. Fully transparent is background.
- 255 means "void" in many data sets: refused in a user's mask; background with `snap` and in data sets.

Ids are kept as they are and need not be contiguous. `snap` repairs images with blended (anti-aliased) edges,
see `stores.mask_colours`; it leaves clean images alone and never resizes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stores.errors import MaskError
from stores.files import atomic_file, list_files, make_folder
from stores.mask_colours import (
    VOID,
    ColourTable,
    count_rare,
    davis_palette,
    grey_looks_blended,
    grey_snapped,
    labels_of_colours,
    looks_like_picture,
    palette_looks_blended,
)
from stores.png import Pixels, decode_png

__all__ = [
    "LabelImage",
    "davis_palette",
    "iter_mask_inputs",
    "read_annotation",
    "read_mask",
    "read_mask_inputs",
    "write_mask",
    "write_masks",
]


@dataclass(frozen=True, eq=False)
class LabelImage:
    """A mask of several objects.

    Attributes:
        labels: uint8 [H, W], 0 = background, otherwise the object id.
        palette: uint8 [256, 3] RGB colours of the ids, None if the file had none.
    """

    labels: np.ndarray
    palette: np.ndarray | None

    @property
    def ids(self) -> tuple[int, ...]:
        """The object ids present, ascending, without 0; they may have gaps."""
        return tuple(int(i) for i in np.flatnonzero(np.bincount(self.labels.ravel(), minlength=256)) if i)


def read_mask(path: str | Path, *, size: tuple[int, int] | None = None, snap: bool = False) -> LabelImage:
    """Read a mask that a user gives.

    Args:
        path: a PNG file.
        size: (height, width) that it must have.
        snap: map each pixel of a blended image to the nearest frequent colour, and 255 to background.

    Raises:
        MaskError: it is not a PNG, damaged, of the wrong size, or its colours do not tell the objects.
    """
    return _read_mask(Path(path), size, snap, ColourTable())


def read_annotation(path: str | Path, *, size: tuple[int, int] | None = None, binary: bool = False) -> LabelImage:
    """Read a ground-truth mask of a data set: like `read_mask`, but 255 (void) is background.

    Args:
        path: a PNG file.
        size: (height, width) that it must have.
        binary: everything that is not 0 is object 1, as in DAVIS 2016.

    Raises:
        MaskError: as in `read_mask`.
    """
    file = Path(path)
    pixels = decode_png(file, size)
    if binary:
        inside = pixels.values != 0
        if pixels.kind == "colour":
            inside = inside[..., :3].any(axis=-1) & inside[..., 3]
        return LabelImage(inside.astype(np.uint8), pixels.palette)
    labels, palette = _interpret(pixels, file, False, ColourTable())
    if VOID in labels:
        labels = np.where(labels == VOID, np.uint8(0), labels)
    return LabelImage(labels, palette)


def write_mask(path: str | Path, labels: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write a palette PNG; it appears under its name only when complete.

    Args:
        path: the file; its folder must exist.
        labels: integers 0..255, [H, W].
        palette: uint8 [N, 3] with N <= 256, the DAVIS palette if None.

    Raises:
        ValueError: `labels` is not a map of ids in 0..255.
        StorageFullError: the file cannot be written.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be a map of integers [H, W], not {labels.dtype} {list(labels.shape)}")
    if labels.dtype != np.uint8 and (labels.min() < 0 or labels.max() > 255):
        raise ValueError(f"labels must be in 0..255, not {labels.min()}..{labels.max()}")
    image = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8))
    colours = davis_palette() if palette is None else np.asarray(palette, dtype=np.uint8)
    image.putpalette(colours.tobytes())
    with atomic_file(Path(path), durable=False) as file:
        image.save(file, format="PNG")


def write_masks(folder: str | Path, masks: Iterable[tuple[str, np.ndarray]], palette: np.ndarray | None = None) -> int:
    """Write a stream of (frame stem, labels) as ``<folder>/<stem>.png``: a result of DAVIS or YouTube-VOS.

    Returns:
        The number of files written.
    """
    target = Path(folder)
    make_folder(target)
    count = 0
    for stem, labels in masks:
        write_mask(target / f"{stem}.png", labels, palette)
        count += 1
    return count


def read_mask_inputs(
    path: str | Path,
    *,
    num_frames: int,
    names: Sequence[str] | None,
    size: tuple[int, int] | None,
    snap: bool = False,
) -> list[tuple[int, LabelImage]]:
    """Read the masks of ``--masks``: one PNG (frame 0) or a folder of PNGs that are named like frames.

    Args:
        path: a PNG file or a folder.
        num_frames: length of the video.
        names: the frame stems of an image folder; None for a video, where a stem is the frame number.
        size: (height, width) that every mask must have.
        snap: as in `read_mask`.

    Returns:
        (frame, mask) in frame order; `iter_mask_inputs` gives the same with one mask in memory at a time.

    Raises:
        MaskError: a mask is wrong, belongs to no frame, or none of them shows an object.
    """
    return list(iter_mask_inputs(Path(path), num_frames=num_frames, names=names, size=size, snap=snap))


def iter_mask_inputs(
    path: str | Path,
    *,
    num_frames: int,
    names: Sequence[str] | None,
    size: tuple[int, int] | None,
    snap: bool = False,
) -> Iterator[tuple[int, LabelImage]]:
    """Stream what `read_mask_inputs` returns."""
    path = Path(path)
    files = _mask_files(path, num_frames, names) if os.path.isdir(path) else {0: path}
    # One table for all files: a colour that is not of the DAVIS palette names the same object in each.
    table = ColourTable()
    seen = False
    for frame in sorted(files):
        mask = _read_mask(files[frame], size, snap, table)
        seen = seen or bool(mask.labels.any())
        yield frame, mask
    if not seen:
        hint = "paint objects with ids 1, 2, ..."
        raise MaskError(f"{path}: shows no object, every pixel is background", hint=hint)


def _mask_files(folder: Path, num_frames: int, names: Sequence[str] | None) -> dict[int, Path]:
    paths = list_files(folder, {".png"}, MaskError)
    if not paths:
        raise MaskError(f"{folder}: holds no PNG files")
    index = None if names is None else {name: i for i, name in enumerate(names)}
    files: dict[int, Path] = {}
    for path in paths:
        stem = path.stem
        if index is not None:
            if stem not in index:
                raise MaskError(
                    f"{path}: there is no frame named {stem!r} (the frames are {_names_range(list(index))})",
                    hint="name each mask like the frame it belongs to",
                )
            frame = index[stem]
        elif stem.isascii() and stem.isdigit():
            frame = int(stem[-18:]) if len(stem.lstrip("0")) <= 18 else num_frames
            if frame >= num_frames:
                shown = stem.lstrip("0") or "0"
                span = f"0..{num_frames - 1}"
                raise MaskError(f"{path}: frame {shown} is out of range, the video has frames {span}")
        else:
            hint = "name masks by frame number, such as 00012.png"
            raise MaskError(f"{path}: the name is not a frame number", hint=hint)
        if frame in files:
            raise MaskError(f"{path}: frame {frame} has a second mask, {files[frame].name}")
        files[frame] = path
    return files


def _names_range(names: Sequence[str]) -> str:
    """Describe a list of frame names in a few words."""
    return f"{names[0]}..{names[-1]}" if names else "none"


def _read_mask(path: Path, size: tuple[int, int] | None, snap: bool, table: ColourTable) -> LabelImage:
    labels, palette = _interpret(decode_png(path, size), path, snap, table)
    if VOID in labels:
        if not snap:
            raise MaskError(
                f"{path}: has pixels of value 255, which means 'void' in many data sets and is no object id",
                hint="change them to 0 or to an id in 1..254, or use --snap to take them as background",
            )
        labels = np.where(labels == VOID, np.uint8(0), labels)
    return LabelImage(labels, palette)


def _interpret(pixels: Pixels, path: Path, snap: bool, table: ColourTable) -> tuple[np.ndarray, np.ndarray | None]:
    """Decide which object each pixel shows: uint8 [H, W] (255 = void) and the palette."""
    if pixels.kind == "colour":
        return labels_of_colours(pixels.values, pixels.mode, path, snap, table)
    counts = np.bincount(pixels.values.ravel())
    if pixels.palette is not None:
        return _interpret_index(pixels, pixels.palette, counts, path, snap, table)
    white = 65535 if pixels.values.dtype == np.uint16 else 255
    present = set(np.flatnonzero(counts).tolist())
    if present <= {0, white}:
        return (pixels.values > 0).astype(np.uint8), None
    if max(present) > VOID:
        raise MaskError(f"{path}: is a 16-bit image with label {max(present)}, the largest possible is 254")
    values = pixels.values.astype(np.uint8)
    if looks_like_picture(values, counts):
        raise _picture(path, pixels.mode, counts)
    if grey_looks_blended(counts):
        if not snap:
            raise _blended(path, pixels.mode, counts)
        values = grey_snapped(values, path)
        if set(np.unique(values).tolist()) <= {0, VOID}:
            values = (values == VOID).astype(np.uint8)
    return values, None


def _interpret_index(
    pixels: Pixels, palette: np.ndarray, counts: np.ndarray, path: Path, snap: bool, table: ColourTable
) -> tuple[np.ndarray, np.ndarray | None]:
    # Many small objects are possible, so the DAVIS palette is always believed.
    used = np.flatnonzero(counts)
    if not np.array_equal(palette[used], davis_palette()[used]):
        if looks_like_picture(pixels.values, counts):
            raise _picture(path, pixels.mode, counts)
        if palette_looks_blended(counts):
            if not snap:
                raise _blended(path, pixels.mode, counts)
            opaque = np.full((*pixels.values.shape, 1), 255, dtype=np.uint8)
            rgba = np.concatenate([palette[pixels.values], opaque], axis=-1)
            return labels_of_colours(rgba, pixels.mode, path, snap, table)
    return pixels.values, palette


def _picture(path: Path, mode: str, counts: np.ndarray) -> MaskError:
    total, _ = count_rare(counts)
    return MaskError(
        f"{path}: {mode} image with {total} colours and hardly flat areas: a picture, not a mask",
        hint="save the mask as a palette PNG of object ids",
    )


def _blended(path: Path, mode: str, counts: np.ndarray) -> MaskError:
    total, rare = count_rare(counts)
    return MaskError(
        f"{path}: {mode} image with {total} colours, {rare} of which cover < 0.1 %; looks anti-aliased",
        hint="save it without smoothing as a palette PNG of object ids, or use --snap",
    )
