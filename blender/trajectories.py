"""Smooth random paths: degree 4 polynomials through five control points at t = 0, 1/4, 1/2, 3/4, 1.

The distributions are those of the published generator of BL30K (MiVOS, section 4 of the supplement, and its
scene sampler). A path is an array of coefficients, float64 [5, 3], lowest power first, one column per axis.

Kept as published: the limit on the step of an axis is one-sided (only a step in the positive direction is cut),
and a path may leave the volume of its control points between them.

Better here: the distance of two paths is the true minimum over [0, 1], from the roots of the derivative of the
squared distance. The published sampler does one local search, which can miss a collision.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial import polynomial

DEGREE = 4
CONTROL_POINTS = DEGREE + 1
STATIC_AT_START = 0.10
STATIC_LATER = 0.10
STATIC_ENDS = 0.65

_TIMES = np.linspace(0.0, 1.0, CONTROL_POINTS)
_INVERSE = np.linalg.inv(np.vander(_TIMES, CONTROL_POINTS, increasing=True))


def frame_times(frames: int) -> np.ndarray:
    """The times of the frames, float64 [frames]: i / (frames - 1), and 0 for a single one."""
    return np.arange(frames) / max(frames - 1, 1)


def fit(points: np.ndarray) -> np.ndarray:
    """The path through five control points, [5, 3] -> coefficients [5, 3]."""
    return _INVERSE @ points


def evaluate(path: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Points of a path, [T] -> [T, 3]."""
    return polynomial.polyval(times, path).T


def stays(rng: np.random.Generator) -> np.ndarray:
    """Which control points repeat the one before: bool [5], the first always False.

    A thing starts at rest with probability 0.10. At rest the control point repeats, and after each it moves on
    with probability 0.65. A moving thing comes to rest after a control point with probability 0.10.
    """
    still = bool(rng.random() < STATIC_AT_START)
    result = np.zeros(CONTROL_POINTS, dtype=bool)
    for i in range(1, CONTROL_POINTS):
        result[i] = still
        still = bool(rng.random() >= STATIC_ENDS) if still else bool(rng.random() < STATIC_LATER)
    return result


def control_points(first: np.ndarray, following: Callable[[np.ndarray], np.ndarray], still: np.ndarray) -> np.ndarray:
    """Five control points, [5, N]: `first` [N], then `following(previous)`, or the previous one where `still`."""
    points = [first]
    for stay in still[1:]:
        points.append(points[-1] if stay else following(points[-1]))
    return np.stack(points)


def limited_step(rng: np.random.Generator, old: np.ndarray, new: np.ndarray, sigma: float) -> np.ndarray:
    """`new`, but no axis goes up by more than |N(0, sigma)|; steps down are not limited (as published)."""
    return np.minimum(new, old + np.abs(rng.normal(0.0, sigma, old.shape)))


def minimum_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The smallest distance of two paths at equal times in [0, 1]; exact but for rounding."""
    difference = one - other
    squared = np.sum([np.convolve(column, column) for column in difference.T], axis=0)
    slope = polynomial.polytrim(polynomial.polyder(squared), tol=1e-12)
    roots = polynomial.polyroots(slope) if len(slope) > 1 else np.empty(0)
    # A double root may come out as a complex pair; looking at a few times too many does no harm.
    inside = np.clip(roots.real, 0.0, 1.0)
    times = np.concatenate([_TIMES, inside])
    return float(np.sqrt(max(polynomial.polyval(times, squared).min(), 0.0)))
