"""What can be wrong with one image or one mask of a data set: the single-file part of `stores.dataset_check`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stores.mask_colours import VOID, davis_palette, grey_looks_blended, looks_like_picture, palette_looks_blended
from stores.png import DECODER_ERRORS, PICTURE_FORMATS

ORIENTATION = 0x0112  # EXIF tag
MAX_IDS = 254
Found = Callable[..., None]  # found(kind, path, detail="")


@dataclass(frozen=True)
class Rule:
    """A kind of problem: how bad it is, what it is called for many files at once, and what to do about it."""

    level: str
    text: str
    hint: str


PALETTE = "save it as an 8-bit palette PNG whose pixel value is the object id"
RULES: dict[str, Rule] = {
    # folders and lists
    "no-images": Rule("error", "no folder JPEGImages", "put frames into JPEGImages/480p/<video>/00000.jpg, ..."),
    "no-masks": Rule("error", "no folder Annotations", "put masks into Annotations/480p/<video>/00000.png, ..."),
    "no-videos": Rule("error", "no videos in JPEGImages", "put frames into JPEGImages/480p/<video>/00000.jpg, ..."),
    "nested": Rule("warning", "the data is in a folder below", "give `mivos train` and `gen-fusion` that folder"),
    "resolution": Rule("error", "frames are not in a folder named 480p", "rename it to 480p in both places"),
    "list-missing": Rule("error", "no list of videos to train on", "write one name per line into it"),
    "list-unreadable": Rule("error", "lists that cannot be read", "save it as UTF-8 text, one name per line"),
    "list-empty": Rule("error", "lists without a name", "write one name per line into it"),
    "list-blank": Rule("warning", "empty lines in lists", "remove them"),
    "list-name": Rule("error", "list entries that are no plain name", "one folder name per line, without spaces"),
    "list-absent": Rule("error", "listed videos that are not there", "remove them from the list, or add the video"),
    "list-twice": Rule("warning", "videos listed twice", "remove one of the lines"),
    "list-leak": Rule("warning", "videos in the lists of training and of validation", "keep them in one of the two"),
    "unlisted": Rule("warning", "videos that no list names", "add them to a list, or they are never used"),
    # videos
    "video-empty": Rule("error", "video folders without frames", "add the frames, or remove the folder"),
    "video-no-masks": Rule("error", "videos without a folder of masks", "add it to Annotations"),
    "video-no-images": Rule("warning", "folders of masks without a video", "add the frames, or remove the folder"),
    "short": Rule("error", "videos with fewer than 3 frames", "remove them: a training clip has 3 frames"),
    "mask-missing": Rule("error", "frames without a mask", "add it under the frame's name; nothing to see: all 0"),
    "image-missing": Rule("warning", "masks without a frame", "remove it, or add the frame under the mask's name"),
    "numbering": Rule("error", "videos not numbered 00000, 00001, ...", "rename frames and masks alike"),
    "suffix": Rule("error", "frames that do not end in .jpg and are never read", "convert them to .jpg"),
    "same-stem": Rule("error", "files that differ only in their suffix", "keep one of them"),
    "hidden": Rule("error", "hidden files that look like images", "delete them (macOS leaves `._` files)"),
    "video-sizes": Rule("error", "frames of another size than the first of their video", "use one size per video"),
    "all-empty": Rule("error", "videos whose masks show no object", "mask an object, or remove the video"),
    "gaps": Rule("warning", "videos whose object ids have gaps", "number objects 1, 2, 3, ..."),
    # files
    "unreadable": Rule("error", "files that cannot be read to their end", "copy or export them again"),
    "mask-size": Rule("error", "masks of another size than their image", "save the mask at the size of its image"),
    "mask-jpeg": Rule("error", "masks that are JPEGs", f"JPEG blurs ids: export it again; {PALETTE}"),
    "mask-format": Rule("error", "masks that are no PNGs", PALETTE),
    "mask-rgb": Rule("error", "masks with colours instead of ids", PALETTE),
    "mask-alpha": Rule("error", "masks with transparency", PALETTE),
    "mask-16bit": Rule("error", "masks with 16 bits", PALETTE),
    "mask-many": Rule("error", f"masks with more than {MAX_IDS} objects", f"keep ids 1..{MAX_IDS}; {PALETTE}"),
    "mask-blended": Rule("error", "masks with smoothed edges (many values)", "save it without smoothing (nearest)"),
    "mask-picture": Rule("error", "masks that look like pictures", PALETTE),
    "mask-grey-ids": Rule("error", "grey masks with several ids, which are read as one object", PALETTE),
    "void": Rule("warning", "masks with void pixels (255), which become background", "make them 0 or an id"),
    "still-empty": Rule("warning", "stills whose mask shows no object", "remove the pair"),
    "image-format": Rule("warning", "images that are no JPEGs in spite of their name", "save them as JPEG"),
    "turned": Rule("error", "images that EXIF turns, for some readers only", "turn the pixels, drop the tag"),
    # stills
    "still-no-mask": Rule("warning", "stills without a mask, which are never used", "add a .png of the same name"),
    "still-no-image": Rule("warning", "masks of stills without an image", "add a .jpg of the same name, or remove it"),
}  # fmt: skip


def look_at_image(path: Path, found: Found, *, quick: bool) -> tuple[int, int] | None:
    """Check an image; `quick` reads its header only.

    Returns:
        (width, height), None where it cannot be read.
    """
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            size = image.size
            if image.format != "JPEG":
                found("image-format", path, f"{image.format}")
            if image.getexif().get(ORIENTATION, 1) != 1:
                found("turned", path, f"orientation {image.getexif()[ORIENTATION]}")
            if not quick:
                image.draft("RGB", (size[0] // 8, size[1] // 8))  # all of the file is read, but fewer pixels are made
                image.load()
            return size
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        found("unreadable", path, _reason(error))
        return None


def look_at_mask(path: Path, found: Found, *, quick: bool, still: bool) -> tuple[tuple[int, int] | None, np.ndarray]:
    """Check a mask; `quick` reads its header only; a `still` may have soft edges.

    Returns:
        (width, height), None where it cannot be read; bool [256] the ids in it, none if `quick` or not known.
    """
    nothing = np.zeros(256, bool)
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            size, mode = image.size, image.mode
            if image.format != "PNG":
                found("mask-jpeg" if image.format == "JPEG" else "mask-format", path, f"{image.format}")
                return size, nothing
            if mode in ("RGB", "RGBA", "LA"):
                found("mask-rgb" if mode == "RGB" else "mask-alpha", path, mode)
                if not quick:
                    image.load()
                return size, nothing
            if quick:
                if mode not in ("P", "L", "1"):
                    found("mask-16bit", path)
                return size, nothing
            values = np.asarray(image)
            colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        found("unreadable", path, _reason(error))
        return None, nothing
    if mode not in ("P", "L", "1"):
        ids = np.unique(values)
        objects = int((ids > 0).sum())
        found("mask-many" if objects > MAX_IDS else "mask-16bit", path, f"{objects} objects, highest {ids[-1]}")
        return size, nothing
    values = values.astype(np.uint8)
    counts = np.bincount(values.ravel(), minlength=256)
    if mode != "P":
        return size, _grey(path, values, counts, found, still)
    used = np.flatnonzero(counts)
    own = np.zeros((256, 3), np.uint8)
    own[: len(colours)] = colours[:256]
    if not np.array_equal(own[used], davis_palette()[used]):  # that palette is always believed
        if looks_like_picture(values, counts):
            found("mask-picture", path, f"{len(used)} values")
        elif palette_looks_blended(counts):
            found("mask-blended", path, f"{len(used)} values", level="warning" if still else None)
    present = counts > 0
    if present[VOID]:
        found("void", path, f"{counts[VOID]} pixels")
    present[[0, VOID]] = False
    return size, present


def _grey(path: Path, values: np.ndarray, counts: np.ndarray, found: Found, still: bool) -> np.ndarray:
    """A grey mask is read as one object wherever it is not 0."""
    levels = np.flatnonzero(counts)
    bright = levels[levels > 0]
    if looks_like_picture(values, counts):
        found("mask-picture", path, f"{len(levels)} grey levels")
    elif len(bright) > 1 and grey_looks_blended(counts):
        found("mask-blended", path, f"{len(levels)} grey levels", level="warning" if still else None)
    elif len(bright) > 1 and not still:
        found("mask-grey-ids", path, f"values {', '.join(map(str, bright[:4]))}{', ...' if len(bright) > 4 else ''}")
    present = np.zeros(256, bool)
    present[1] = len(bright) > 0
    return present


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return "no image that can be decoded" if not text or "cannot identify" in text else text
