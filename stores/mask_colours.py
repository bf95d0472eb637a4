"""What the colours of a mask image mean: the DAVIS palette, blended edges, and `--snap`.

Snapping takes the colours that cover at least 0.1 % of the image for real and gives every pixel the nearest
of them (squared distance in RGB, ties to the smaller colour). Alpha below one half is background. A real
colour of the DAVIS palette then names its own id and black the background; any other gets the lowest id that
is still free, in order of first appearance.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from stores.errors import MaskError

VOID = 255
RARE = 0.001  # share of the pixels below which a colour is not taken for an object
CLEAN = 0.8  # share of the pixels that real colours must cover before snapping makes sense
BLACK, WHITE = 0x000000, 0xFFFFFF


@cache
def _davis_palette() -> np.ndarray:
    ids = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def davis_palette() -> np.ndarray:
    """Return the colours of DAVIS and Pascal VOC, uint8 [256, 3] RGB.

    Bits 0, 1, 2 of the id are the highest bits of red, green, blue; bits 3, 4, 5 the next, and so on.
    """
    return _davis_palette().copy()


def tint(image: np.ndarray, labels: np.ndarray, weight: int) -> np.ndarray:
    """Objects in half-transparent colours over an image, for pictures people look at.

    Args:
        image: uint8 [H, W, 3] RGB; labels: uint8 [H, W]; weight: of the colour, the image has 1.
    """
    mixed = (image.astype(np.uint16) + weight * _davis_palette()[labels].astype(np.uint16)) // (1 + weight)
    return np.where(labels[..., None] > 0, mixed, image).astype(np.uint8)


@cache
def _davis_ids() -> dict[int, int]:
    return {int(colour): i for i, colour in enumerate(_pack(_davis_palette()))}


def count_rare(counts: np.ndarray) -> tuple[int, int]:
    """Count the values present in a histogram and those of them that cover less than 0.1 %."""
    present = counts[counts > 0]
    return len(present), int((present < RARE * counts.sum()).sum())


def grey_looks_blended(counts: np.ndarray) -> bool:
    """Tell smoothed edges from labels by a grey histogram: many rare levels, spread out unlike 0, 1, 2."""
    total, rare = count_rare(counts)
    levels = np.flatnonzero(counts)
    largest = int(levels[levels != VOID].max(initial=0))
    return total >= 4 and 2 * rare >= total and (total > 32 or largest > 2 * total)


def looks_like_picture(values: np.ndarray, counts: np.ndarray) -> bool:
    """Tell a photograph from a label map [H, W]: many values that change from pixel to pixel."""
    total, _ = count_rare(counts)
    if total <= 16 or values.size < 4096:  # too little to judge by
        return False
    return float((values[:, 1:] == values[:, :-1]).mean()) < 0.75


def palette_looks_blended(counts: np.ndarray) -> bool:
    """Tell smoothed edges, reduced to a palette, from object ids by the histogram of indices."""
    total, rare = count_rare(counts)
    return total > 16 and 2 * rare >= total


def grey_snapped(values: np.ndarray, path: Path) -> np.ndarray:
    """Give every pixel of uint8 [H, W] the nearest frequent grey level.

    Raises:
        MaskError: no levels stand out, or 255 remains beside others (would be void, yet may be an object).
    """
    counts = np.bincount(values.ravel(), minlength=256)
    frequent = _frequent(counts, np.arange(256), path)
    if VOID in frequent and not set(frequent.tolist()) <= {0, VOID}:
        levels = ", ".join(str(i) for i in frequent.tolist()[:8])
        raise MaskError(
            f"{path}: grey levels {levels} remain after snapping, and 255 among other labels means 'void'",
            hint="save the mask as a palette PNG of object ids",
        )
    nearest = frequent[np.abs(np.arange(256)[:, None] - frequent[None]).argmin(axis=1)]
    return nearest.astype(np.uint8)[values]


class ColourTable:
    """Which id a snapped colour has; kept for all masks of one video so that a colour keeps its object."""

    def __init__(self) -> None:
        self.ids: dict[int, int] = {BLACK: 0}

    def assign(self, colours: np.ndarray, path: Path) -> np.ndarray:
        """Return the ids, uint8 [N], of packed colours [N].

        Raises:
            MaskError: more than 254 objects, or a DAVIS colour whose id another colour has taken before.
        """
        listed = [int(c) for c in colours]
        for colour in listed:
            own = _davis_ids().get(colour)
            if colour in self.ids or own is None:
                continue
            if own != VOID and own in self.ids.values():
                raise MaskError(
                    f"{path}: colour #{colour:06x} is object {own} of the DAVIS palette, "
                    "but another mask uses another colour for it",
                    hint="use one palette for all masks",
                )
            self.ids[colour] = own
        for colour in listed:
            if colour not in self.ids:
                free = next(i for i in range(1, VOID + 1) if i not in self.ids.values() or i == VOID)
                if free == VOID:
                    raise MaskError(f"{path}: more than 254 different colours name objects")
                self.ids[colour] = free
        return np.array([self.ids[c] for c in listed], dtype=np.uint8)

    def palette(self) -> np.ndarray:
        """Return the DAVIS palette with the colours of this table put in, uint8 [256, 3]."""
        palette = davis_palette()
        for colour, i in self.ids.items():
            palette[i] = colour >> 16, colour >> 8 & 255, colour & 255
        return palette


def labels_of_colours(
    rgba: np.ndarray, mode: str, path: Path, snap: bool, table: ColourTable
) -> tuple[np.ndarray, np.ndarray | None]:
    """Find the object of each pixel of a colour image.

    Args:
        rgba: uint8 [H, W, 4], straight alpha.
        mode: what to call the image in messages.
        path: for messages.
        snap: repair instead of refusing.
        table: ids of colours that are not of the DAVIS palette.

    Returns:
        uint8 [H, W] labels (255 = void) and uint8 [256, 3] palette, None for black and white.

    Raises:
        MaskError: the colours do not say which object is where; says how many there are.
    """
    colours, inverse, counts = _unique(rgba, snap)
    opaque = colours >> 24 == 0xFF
    colours = colours & 0xFFFFFF

    known = _davis_ids()
    foreign = [int(c) for c, solid in zip(colours, opaque, strict=True) if not solid or int(c) not in known]
    if not foreign:
        return table.assign(colours, path)[inverse], table.palette()
    if opaque.all() and set(colours.tolist()) <= {BLACK, WHITE}:
        return table.assign(colours, path)[inverse], None
    if not snap:
        total, rare = count_rare(counts)
        if 2 * rare >= total and rare > 0:
            problem = f"{rare} of which cover < 0.1 %; looks anti-aliased"
        elif not opaque.all():
            problem = f"{int((~opaque).sum())} of which are half transparent"
        else:
            shown = ", ".join(f"#{c:06x}" for c in foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            problem = f"{len(foreign)} of which ({shown}) are not of the DAVIS palette"
        raise MaskError(
            f"{path}: {mode} image with {total} colour{'s' * (total != 1)}, {problem}",
            hint="save it without smoothing as a palette PNG of object ids, or use --snap",
        )

    frequent = _frequent(counts, colours, path)
    labels = table.assign(frequent, path)
    black_and_white = set(frequent.tolist()) <= {BLACK, WHITE}
    return labels[_nearest(colours, frequent)][inverse], None if black_and_white else table.palette()


def _unique(rgba: np.ndarray, snap: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The packed colours 0xAARRGGBB of an image, ascending.

    Returns:
        int64 [N] colours, int32 [H, W] index into them, int64 [N] counts.
    """
    packed = np.empty(rgba.shape[:2], np.uint32)  # 64 bits for each of 2**26 pixels would be too much memory
    for row, pixels in enumerate(rgba):
        alpha = pixels[..., 3]
        line = np.where(alpha > 0, _pack(pixels[..., :3]) | (alpha.astype(np.int64) << 24), 0xFF << 24)
        if snap:
            line = np.where(alpha >= 128, line | 0xFF << 24, 0xFF << 24)
        packed[row] = line
    colours, counts = np.unique(packed, return_counts=True)
    inverse = packed.view(np.int32)  # in place of the colours
    for row, line in enumerate(packed):
        inverse[row] = np.searchsorted(colours, line)
    return colours.astype(np.int64), inverse, counts


def _pack(rgb: np.ndarray) -> np.ndarray:
    """Turn uint8 [..., 3] into int64 [...] 0xRRGGBB."""
    return rgb.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def _frequent(counts: np.ndarray, colours: np.ndarray, path: Path) -> np.ndarray:
    """Return the colours that cover at least 0.1 %; refuse images that are not flat areas."""
    often = counts >= max(1, RARE * counts.sum())
    share = counts[often].sum() / counts.sum()
    if share < CLEAN or often.sum() > VOID:
        raise MaskError(
            f"{path}: has {int((counts > 0).sum())} colours and hardly flat areas: a picture, not a mask",
            hint="save the mask as a palette PNG of object ids",
        )
    return colours[often]


def _nearest(colours: np.ndarray, frequent: np.ndarray) -> np.ndarray:
    """Return for each packed colour [N] the index of the nearest one in `frequent` [F]."""
    split = [np.stack([c >> 16, c >> 8 & 255, c & 255], axis=-1) for c in (colours, frequent)]
    result = np.empty(len(colours), dtype=np.int64)
    for first in range(0, len(colours), 4096):  # bounds the distance table
        difference = split[0][first : first + 4096, None] - split[1][None]
        result[first : first + 4096] = (difference**2).sum(axis=-1).argmin(axis=1)
    return result
