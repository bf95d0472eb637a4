"""How a session keeps its frames: exactly, or as JPEGs that take a fraction of the space.

A JPEG lies in its chunk with zeros behind it, so that all chunks have one length; compression makes nothing of the
zeros, and checksums are over what was written.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

EXACT, JPEG = "exact", "jpeg"
CODINGS = (EXACT, JPEG)
QUALITY = 95
SPARE = 65_536  # bytes beyond those of the picture: not even noise becomes larger as a JPEG


def coding_of(state: dict[str, Any]) -> str:
    """How the session with these attributes keeps frames."""
    return str(state.get("frames", EXACT))


def stored_shape(coding: str, height: int, width: int) -> tuple[int, ...]:
    """Of one frame in the array `frames`: (H, W, 3), or (bytes,)."""
    return (height, width, 3) if coding == EXACT else (3 * height * width + SPARE,)


def pack(image: np.ndarray, coding: str) -> np.ndarray:
    """uint8 [H, W, 3] RGB -> uint8 of `stored_shape`."""
    if coding == EXACT:
        return image
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    (length,) = stored_shape(coding, *image.shape[:2])
    if not done or len(data) > length:
        raise ValueError(f"a frame of {image.shape[1]}x{image.shape[0]} cannot be kept as a JPEG")
    stored = np.zeros(length, np.uint8)
    stored[: len(data)] = data
    return stored


def unpack(stored: np.ndarray, coding: str) -> np.ndarray:
    """Inverse of `pack`, up to what JPEG changes; ValueError if there is no picture in it."""
    if coding == EXACT:
        return stored
    image = cv2.imdecode(stored, cv2.IMREAD_COLOR) if stored.any() else None
    if image is None:
        raise ValueError("the frame is no JPEG")
    return np.ascontiguousarray(image[..., ::-1])
