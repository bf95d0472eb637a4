"""What a source of frames is, and what it yields. Light: loads neither FFmpeg nor OpenCV."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from stores.errors import UsageError

FOLDER_RATE = 24  # frames per second of an image folder: DAVIS is filmed at 24
UNSPECIFIED = 2  # "unknown" in FFmpeg's enumerations of primaries, transfer curves and matrices


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: position in the stream, from 0.
        pts: presentation time in units of the source's time base.
        image: uint8 [H, W, 3] RGB at working size.
    """

    index: int
    pts: int
    image: np.ndarray


@dataclass(frozen=True)
class SourceInfo:
    """What a source is. `probe` makes it, the session keeps it, the writers follow it.

    Attributes:
        path: absolute path of the file or folder.
        kind: "video" or "folder".
        sha256: of the file; for a folder of its file names and contents.
        width, height: pixels as displayed, after rotation.
        rotation: counter-clockwise degrees that were applied: 0, 90, 180 or 270.
        time_base: seconds per pts unit, (numerator, denominator).
        average_rate: frames per second, (0, 1) if unknown.
        color_primaries, color_trc, colorspace, color_range: FFmpeg's numbers; 2 = unspecified (range: 0).
        has_audio: there is at least one audio stream.
        header_frames: frames according to the header, 0 if it is silent. A claim, not a fact.
        sample_aspect_ratio: pixel width : height after rotation, (1, 1) if square or unknown.
        origin: pts that outputs call time zero. Not 0 only for transport streams and their kin, whose clock
            starts anywhere.
        files: a folder's image names in order; empty for a video.
    """

    path: str
    kind: str
    sha256: str
    width: int
    height: int
    rotation: int = 0
    time_base: tuple[int, int] = (1, FOLDER_RATE)
    average_rate: tuple[int, int] = (FOLDER_RATE, 1)
    color_primaries: int = UNSPECIFIED
    color_trc: int = UNSPECIFIED
    colorspace: int = UNSPECIFIED
    color_range: int = 0
    has_audio: bool = False
    header_frames: int = 0
    sample_aspect_ratio: tuple[int, int] = (1, 1)
    origin: int = 0
    files: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types; `from_json` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild from `to_json`, also after a trip through JSON text (lists become tuples again)."""
        known = {field.name for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for key, value in data.items():
            if key in known:
                values[key] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    def frame_name(self, index: int) -> str:
        """Name of a frame's outputs: the image's stem for a folder, five digits for a video."""
        return Path(self.files[index]).stem if index < len(self.files) else f"{index:05d}"


def working_size(height: int, width: int, size: int | None) -> tuple[int, int]:
    """Working (height, width): the shorter side becomes `size`, never enlarged; None keeps the source size.

    Raises:
        UsageError: `size` is below 1.
    """
    if size is None or size >= min(height, width):
        return height, width
    if size < 1:
        raise UsageError(f"the working size must be at least 1 pixel, not {size}", hint="try --size 480")
    scale = size / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))
