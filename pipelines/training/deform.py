"""Thin-plate-spline warps of stills (Bookstein, 1989)."""

from __future__ import annotations

import cv2
import numpy as np

POINTS = 12
NOISE = 0.02  # of the image's size


def thin_plate(
    rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, fill: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Bends an image and its mask alike.

    12 control points lie on distinct rows and columns, each is moved by normal noise (training.md, 3.7, step 7).

    Args:
        image: uint8 [s, s, 3]; mask: uint8 [s, s]; fill: colour outside.

    Returns:
        image (linear) and mask (nearest) of the same size.
    """
    size = image.shape[0]
    points = np.stack([rng.permutation(size)[:POINTS], rng.permutation(size)[:POINTS]], axis=1) / size
    moved = points + rng.normal(0, NOISE, points.shape)
    field = _spline(points, moved, size) * size  # (s, s, 2), where each output pixel comes from
    x, y = field[..., 0].astype(np.float32), field[..., 1].astype(np.float32)
    bent = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)
    return bent, cv2.remap(mask, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def _spline(points: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """The smoothest map with points [n, 2] -> values [n, 2], at every pixel: float64 [size, size, 2], both in 0..1."""
    count = len(points)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(points[:, None] - points[None])
    system[:count, count:] = np.concatenate([np.ones((count, 1)), points], axis=1)
    system[count:, :count] = system[:count, count:].T
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros((3, 2))]))
    axis = np.arange(size) / size
    x, y = np.meshgrid(axis, axis)
    out = weights[count] + x[..., None] * weights[count + 1] + y[..., None] * weights[count + 2]
    for point, weight in zip(points, weights[:count], strict=True):
        out += _kernel(np.stack([x - point[0], y - point[1]], axis=-1))[..., None] * weight
    return out


def _kernel(difference: np.ndarray) -> np.ndarray:
    """r^2 log r^2 of [..., 2]."""
    square = np.square(difference).sum(-1)
    return square * np.log(np.maximum(square, 1e-12))
