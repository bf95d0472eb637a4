"""Scribbles and previous masks as S2M's training simulates them (training.md, 4.2 and 4.3), with OpenCV alone.

Masks are uint8 0/1 [h, w] throughout; randomness comes from the caller's generator.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipelines.training.strokes import dot
from pipelines.training.thinning import bezier, longest_paths, thin

ROBOT_SHARE, SECOND_SHARE, EXTRA_SHARE = 0.75, 0.3, 0.3
KINDS, KIND_SHARES = ("boundary", "skeleton", "curves"), (0.33, 0.33, 0.34)
ROUNDS, OPERATIONS = 250, 4
MIN_REGION = 100  # pixels, for curves drawn from the truth
BOX = np.ones((3, 3), np.uint8)


def ellipse(width: int, height: int | None = None) -> np.ndarray:
    """An elliptic kernel of at least one pixel."""
    size = (max(width, 1), max(width if height is None else height, 1))
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size)


def perturbed(rng: np.random.Generator, mask: np.ndarray, target: float) -> np.ndarray:
    """A copy of a mask, damaged in random rectangles until its IoU with the mask falls below `target`."""
    height, width = mask.shape
    out = mask.copy()
    if min(height, width) <= 2:
        return out
    for _ in range(ROUNDS):
        for _ in range(OPERATIONS):
            box, (y, x) = _rectangle(rng, height, width)
            if rng.random() < 0.1:
                out[y, x] = rng.integers(2)
            size = int(rng.integers(3, 10))
            kernels = (np.ones((size, size), np.uint8), (size, size), (size, size // 2), (size // 2, size))
            kernel = kernels[rng.integers(4)]
            shape = kernel if isinstance(kernel, np.ndarray) else ellipse(*kernel)
            change = cv2.dilate if rng.random() < 0.5 else cv2.erode
            out[box] = change(np.ascontiguousarray(out[box]), shape)
        union = np.count_nonzero(out | mask)
        if union == 0 or np.count_nonzero(out & mask) / union < target:
            break
    return out


def _rectangle(rng: np.random.Generator, height: int, width: int) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """Rows and columns of a random rectangle, and its centre."""
    left, top = int(rng.integers(width)), int(rng.integers(height))
    right, bottom = int(rng.integers(left + 1, width + 1)), int(rng.integers(top + 1, height + 1))
    return np.s_[top:bottom, left:right], ((top + bottom) // 2, (left + right) // 2)


def robot_strokes(mask: np.ndarray) -> np.ndarray:
    """Strokes like those of the DAVIS robot: along the longest path of the skeleton of every part of a mask."""
    height, width = mask.shape
    half = cv2.resize(mask.astype(np.float32), (max(width // 2, 1), max(height // 2, 1)), interpolation=cv2.INTER_AREA)
    small = (half >= 0.5).astype(np.uint8)
    radius = min(0.15 * float(np.sqrt(small.sum())) / 2, 16.0)
    opened: np.ndarray = small
    while radius > 1:
        opened = cv2.morphologyEx(small, cv2.MORPH_OPEN, ellipse(2 * int(radius) + 1))
        if opened.any():
            break
        radius *= 0.9
    drawn = np.zeros_like(mask)
    for path in longest_paths(thin(opened if opened.any() else small)):
        curve = np.round(bezier(path) * 2).astype(np.int32)
        cv2.polylines(drawn, [curve[:, None]], False, 1, 1)
    return cv2.dilate(drawn, BOX)


def _broken(rng: np.random.Generator, lines: np.ndarray) -> np.ndarray:
    """Lines with gaps: four random rectangles are eroded."""
    for _ in range(4):
        box, _ = _rectangle(rng, *lines.shape)
        size = int(rng.integers(5, 10))
        lines[box] = cv2.erode(np.ascontiguousarray(lines[box]), np.ones((size, size), np.uint8))
    return lines


def boundary(rng: np.random.Generator, region: np.ndarray) -> np.ndarray:
    """Pieces of the outline, some way inside."""
    inner = cv2.erode(region, ellipse(int(rng.integers(3, 50))), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return _broken(rng, cv2.morphologyEx(inner, cv2.MORPH_GRADIENT, BOX))


def skeleton(rng: np.random.Generator, region: np.ndarray) -> np.ndarray:
    """Pieces of the skeleton, three pixels wide."""
    return _broken(rng, cv2.dilate(thin(region), BOX))


def curves(rng: np.random.Generator, region: np.ndarray, count: int, *, longest: bool = True) -> np.ndarray:
    """Quadratic curves by three random pixels of a region, clipped to it: the longest of ten, or simply the first."""
    ys, xs = np.nonzero(region)
    allowed = cv2.dilate(region, ellipse(int(rng.integers(3, 7))))
    if len(xs) < 3:
        return region.copy()
    drawn = []
    for _ in range(10 if longest else count):
        pick = rng.choice(len(xs), 3, replace=False)
        line = np.zeros_like(region)
        points = np.round(bezier(np.stack([xs[pick], ys[pick]], axis=1), 1024)).astype(np.int32)
        cv2.polylines(line, [points[:, None]], False, 1, 3)
        drawn.append(line & allowed)
    if longest:
        drawn.sort(key=cv2.countNonZero, reverse=True)
    return np.bitwise_or.reduce(drawn[:count])


def random_strokes(rng: np.random.Generator, region: np.ndarray, clicks: float) -> np.ndarray:
    """Strokes of a random kind in each large enough part of a region; a share of `clicks` are small disks instead."""
    strokes = np.zeros_like(region)
    opened = cv2.morphologyEx(region, cv2.MORPH_OPEN, ellipse(int(rng.integers(5, 20))))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] < rng.integers(10, 100):
            continue
        part = (parts == label).astype(np.uint8)
        for _ in range(1 + int(rng.random() < SECOND_SHARE)):
            if clicks and rng.random() < clicks:
                strokes |= dot(rng, part)
                continue
            kind = rng.choice(KINDS, p=KIND_SHARES)
            if kind == "curves":
                strokes |= curves(rng, part, int(rng.integers(2, 4)))
            else:
                strokes |= (boundary if kind == "boundary" else skeleton)(rng, part)
    return strokes


def scribbles(
    rng: np.random.Generator, truth: np.ndarray, previous: np.ndarray, *, from_zero: bool, clicks: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Positive strokes where the previous mask lacks something, negative ones where it has too much.

    Args:
        from_zero: the previous mask is empty on purpose; then never the robot. clicks: share of small disks.
    """
    missing, wrong = truth & ~previous & 1, previous & ~truth & 1
    if not from_zero and rng.random() < ROBOT_SHARE:
        positive, negative = robot_strokes(missing), robot_strokes(wrong)
    else:
        positive, negative = random_strokes(rng, missing, clicks), random_strokes(rng, wrong, clicks)
    if rng.random() < EXTRA_SHARE or not (positive.any() or negative.any()):
        for strokes, region in ((positive, truth), (negative, 1 - truth)):
            if np.count_nonzero(region) >= MIN_REGION:
                strokes |= curves(rng, region, int(rng.integers(2, 5)), longest=False)
    return positive, negative
