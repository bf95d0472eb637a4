"""Skeletons and paths along them, with OpenCV and numpy alone."""

from __future__ import annotations

from collections import deque
from functools import lru_cache

import cv2
import numpy as np

# the eight neighbours from the top, clockwise, as Zhang and Suen number them, and each one's bit in a code
NEIGHBOURS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
CURVE_POINTS = 1000


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The kernel that makes neighbourhood codes, and for both passes what to keep (1) at each code."""
    kernel = np.zeros((3, 3), np.float32)
    for bit, (dy, dx) in enumerate(NEIGHBOURS):
        kernel[1 + dy, 1 + dx] = 1 << bit
    keep = np.ones((2, 256), np.uint8)
    for code in range(256):
        p = [code >> bit & 1 for bit in range(8)]
        changes = sum(not a and b for a, b in zip(p, p[1:] + p[:1], strict=True))
        if not 2 <= sum(p) <= 6 or changes != 1:
            continue
        top, right, bottom, left = p[0], p[2], p[4], p[6]
        keep[0, code] = bool(top and right and bottom or right and bottom and left)
        keep[1, code] = bool(top and right and left or top and bottom and left)
    return kernel, keep[0], keep[1]


def thin(mask: np.ndarray) -> np.ndarray:
    """Lines one pixel wide in the middle of a mask (Zhang and Suen, CACM 1984); uint8 0/1 [h, w], also returned."""
    out = np.zeros_like(mask)
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return out
    box = np.s_[y : y + height, x : x + width]
    part = np.pad(mask[box], 1)
    kernel, *passes = _tables()
    before = -1
    while (count := cv2.countNonZero(part)) != before:
        before = count
        for keep in passes:
            code = cv2.filter2D(part, cv2.CV_8U, kernel, borderType=cv2.BORDER_CONSTANT)
            part &= cv2.LUT(code, keep)
    out[box] = part[1:-1, 1:-1]
    return out


def longest_paths(skeleton: np.ndarray) -> list[np.ndarray]:
    """For every part of a skeleton (uint8 0/1) its longest path, int [n, 2] of x, y.

    Two breadth-first passes: from anywhere to the farthest pixel, and from there to the farthest from it. On a
    skeleton with loops the way around is the shorter one (the robot breaks loops instead).
    """
    open_pixels = {(int(y), int(x)) for y, x in np.argwhere(skeleton)}
    paths = []
    while open_pixels:
        start = min(open_pixels)
        end, seen = _farthest(start, open_pixels)
        last, came = _farthest(end, open_pixels)
        open_pixels -= seen.keys()
        path = [last]
        while came[path[-1]] is not None:
            path.append(came[path[-1]])  # type: ignore[arg-type]
        paths.append(np.array(path)[:, ::-1])
    return paths


_Pixel = tuple[int, int]


def _farthest(start: _Pixel, pixels: set[_Pixel]) -> tuple[_Pixel, dict[_Pixel, _Pixel | None]]:
    came: dict[_Pixel, _Pixel | None] = {start: None}
    queue, at = deque([start]), start
    while queue:
        at = queue.popleft()
        for dy, dx in NEIGHBOURS:
            near = (at[0] + dy, at[1] + dx)
            if near in pixels and near not in came:
                came[near] = at
                queue.append(near)
    return at, came


def bezier(points: np.ndarray, samples: int = CURVE_POINTS) -> np.ndarray:
    """The Bezier curve with control points [n, 2], of any number; float [samples, 2]."""
    n = len(points) - 1
    t = np.linspace(0, 1, samples)[:, None].clip(1e-12, 1 - 1e-12)
    k = np.arange(n + 1)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])  # logarithms: they overflow
    weights = np.exp(factorial[n] - factorial[k] - factorial[n - k] + k * np.log(t) + (n - k) * np.log1p(-t))
    return weights @ points.astype(np.float64)
