"""Simulated strokes and previous masks for interaction-to-mask training, with OpenCV alone."""

from __future__ import annotations

import cv2
import numpy as np


def _bezier(points: np.ndarray, samples: int = 64) -> np.ndarray:
    """Quadratic Bezier through [3, 2] control points -> int32 [samples, 1, 2] for cv2.polylines."""
    t = np.linspace(0, 1, samples)[:, None]
    curve = (1 - t) ** 2 * points[0] + 2 * t * (1 - t) * points[1] + t**2 * points[2]
    return np.round(curve).astype(np.int32)[:, None]


def _clip(drawn: np.ndarray, region: np.ndarray) -> np.ndarray:
    return drawn & cv2.dilate(region, np.ones((3, 3), np.uint8))


def random_curve(rng: np.random.Generator, region: np.ndarray, thickness: int) -> np.ndarray:
    """The longest of a few random Bezier curves inside a region (uint8 0/1 [h, w]), clipped to it."""
    ys, xs = np.nonzero(region)
    best = np.zeros_like(region)
    for _ in range(4):
        pick = rng.integers(len(xs), size=3)
        drawn = np.zeros_like(region)
        control = np.stack([xs[pick], ys[pick]], 1).astype(float)
        cv2.polylines(drawn, [_bezier(control)], False, 1, thickness)
        drawn = _clip(drawn, region)
        if drawn.sum() > best.sum():
            best = drawn
    return best


def long_axis(rng: np.random.Generator, region: np.ndarray, thickness: int) -> np.ndarray:
    """A smooth stroke along the middle of a region, as the DAVIS robot draws: the ridge of the distance transform
    averaged in slices across the main axis."""
    distance = cv2.distanceTransform(region, cv2.DIST_L2, 3)
    ridge = distance >= cv2.dilate(distance, np.ones((5, 5), np.uint8)) - 0.5
    ridge &= distance > max(1.0, 0.25 * float(distance.max()))
    ys, xs = np.nonzero(ridge)
    if len(xs) < 4:
        return random_curve(rng, region, thickness)
    points = np.stack([xs, ys], 1).astype(float)
    centred = points - points.mean(0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    along = centred @ axis
    lo, hi = np.quantile(along, [0.02, 0.98])
    slices = np.linspace(lo, hi, int(rng.integers(4, 9)))
    path = []
    for a, b in zip(slices[:-1], slices[1:], strict=True):
        inside = points[(along >= a) & (along <= b)]
        if len(inside):
            path.append(inside[rng.integers(len(inside))] * 0.5 + inside.mean(0) * 0.5)
    drawn = np.zeros_like(region)
    if len(path) < 2:
        return random_curve(rng, region, thickness)
    smooth = np.array(path)
    if len(smooth) >= 3:
        smooth[1:-1] = (smooth[:-2] + smooth[1:-1] + smooth[2:]) / 3
    cv2.polylines(drawn, [np.round(smooth).astype(np.int32)[:, None]], False, 1, thickness)
    return _clip(drawn, region)


def boundary(rng: np.random.Generator, region: np.ndarray, thickness: int) -> np.ndarray:
    """Pieces of a contour drawn some way inside a region."""
    kernel = int(rng.integers(3, 25))
    inner = cv2.erode(region, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (kernel, kernel)))
    drawn = cv2.morphologyEx(inner, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    h, w = region.shape
    for _ in range(4):
        x, y = int(rng.integers(w)), int(rng.integers(h))
        drawn[y : y + h // 3, x : x + w // 3] = 0
    return _clip(drawn, region) if drawn.any() else random_curve(rng, region, thickness)


def dot(rng: np.random.Generator, region: np.ndarray) -> np.ndarray:
    """A click: a small disk near the middle of a region."""
    distance = cv2.distanceTransform(region, cv2.DIST_L2, 3)
    ys, xs = np.nonzero(distance >= 0.6 * distance.max())
    k = int(rng.integers(len(xs)))
    drawn = np.zeros_like(region)
    cv2.circle(drawn, (int(xs[k]), int(ys[k])), int(rng.integers(2, 6)), 1, -1)
    return drawn


def draw(rng: np.random.Generator, region: np.ndarray, *, robot: bool = False, min_area: int = 30) -> np.ndarray:
    """One stroke in each large component of a region (uint8 0/1 [h, w]); uint8 0/1 [h, w]."""
    strokes = np.zeros_like(region)
    _, components, stats, _ = cv2.connectedComponentsWithStats(region, connectivity=8)
    largest = np.argsort(-stats[1:, cv2.CC_STAT_AREA])[:3] + 1  # empty without components
    for label in largest:
        if stats[label, cv2.CC_STAT_AREA] < min_area:
            continue
        part = (components == label).astype(np.uint8)
        thickness = int(rng.integers(1, 5))
        kind = 0.0 if robot else rng.random()
        if kind < 0.5:
            strokes |= long_axis(rng, part, thickness)
        elif kind < 0.75:
            strokes |= random_curve(rng, part, thickness)
        elif kind < 0.85:
            strokes |= boundary(rng, part, thickness)
        else:
            strokes |= dot(rng, part)
    return strokes


def perturb(rng: np.random.Generator, mask: np.ndarray, target: float) -> np.ndarray:
    """A copy of a mask (uint8 0/1 [h, w]) damaged to an IoU near `target`: patches grown, shrunk and flipped."""
    out, (h, w) = mask.copy(), mask.shape
    for _ in range(60):
        for _ in range(4):
            x, y = int(rng.integers(w)), int(rng.integers(h))
            box = np.s_[y : y + int(rng.integers(8, h // 2)), x : x + int(rng.integers(8, w // 2))]
            size = int(rng.integers(3, 10))
            kernel = cv2.getStructuringElement(int(rng.integers(0, 3)), (size, size))
            patch = np.ascontiguousarray(out[box])
            out[box] = cv2.dilate(patch, kernel) if rng.random() < 0.5 else cv2.erode(patch, kernel)
            if rng.random() < 0.08:
                cv2.circle(out, (x, y), int(rng.integers(4, 16)), int(rng.integers(0, 2)), -1)
        union = int((out | mask).sum())
        if union == 0 or (out & mask).sum() / union < target:
            break
    return out


def interaction_sample(
    rng: np.random.Generator, mask: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A previous mask and the strokes a person would correct it with.

    Args:
        mask: the true object, uint8 0/1 [h, w]; other: another object (may be empty), which may be marked negative
            or be wrongly part of the previous mask.

    Returns:
        previous mask, positive strokes, negative strokes; uint8 0/1 [h, w].
    """
    previous = np.zeros_like(mask)
    if rng.random() < 0.5:
        previous = perturb(rng, mask, rng.uniform(0.4, 0.95)) if rng.random() < 0.7 else mask.copy()
        if other.any() and rng.random() < 0.6:  # a wrong object in the mask, to be removed by a negative stroke
            previous |= perturb(rng, other, 0.6) if rng.random() < 0.5 else other
        elif rng.random() < 0.4:
            h, w = mask.shape
            centre, axes = (
                (int(rng.integers(w)), int(rng.integers(h))),
                (int(rng.integers(8, w // 5)), int(rng.integers(8, h // 5))),
            )
            cv2.ellipse(previous, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    missing, wrong = mask & ~previous & 1, previous & ~mask & 1
    robot = rng.random() < 0.5
    positive, negative = draw(rng, missing, robot=robot), draw(rng, wrong, robot=robot)
    if not positive.any() and not negative.any() or rng.random() < 0.15:
        positive |= draw(rng, mask)
    outside = 1 - mask
    if other.any() and rng.random() < 0.5:
        negative |= draw(rng, other & outside)
    if rng.random() < 0.25 and outside.sum() > 100:
        negative |= random_curve(rng, outside, int(rng.integers(1, 5)))
    return previous, positive, negative & ~positive & 1
