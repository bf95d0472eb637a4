"""Polygons to masks, by COCO's own rule."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

MAX_OUTLINE = 2**22  # pixels along all outlines of a shape; the rasteriser needs some 60 bytes for each


def fill_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    """The union of polygons, bool [height, width].

    Args:
        polygons: each x0, y0, x1, y1, ... in pixels from the top left corner, at least three points.

    Raises:
        ValueError: it is not that; the message continues "has".
    """
    from pycocotools import mask as coco  # slow to import, and only polygons need it

    outline = 0.0
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon of {len(polygon)} numbers, not pairs x, y of at least three points")
        if not all(type(value) in (int, float) and math.isfinite(value) for value in polygon):
            raise ValueError("a polygon with coordinates that are not finite numbers")
        points = np.array(polygon, np.float64).reshape(-1, 2)
        reach = np.array([width, height])
        if (points < -reach).any() or (points > 2 * reach).any():
            raise ValueError("a polygon far outside the picture")
        outline += float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
    if outline > MAX_OUTLINE:
        raise ValueError(f"an outline of {outline:.0f} pixels, more than {MAX_OUTLINE}")
    parts = coco.frPyObjects([[float(value) for value in polygon] for polygon in polygons], height, width)
    return coco.decode(coco.merge(parts)).astype(bool)
