"""Paths: through their control points, at rest as often as published, distances that are true minima."""

from __future__ import annotations

import numpy as np
import pytest

from blender.trajectories import (
    control_points,
    evaluate,
    fit,
    frame_times,
    limited_step,
    minimum_distance,
    stays,
)


def test_a_path_goes_through_its_control_points() -> None:
    points = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(evaluate(fit(points), np.linspace(0, 1, 5)), points, atol=1e-12)
    assert fit(points).shape == (5, 3)


def test_frame_times() -> None:
    np.testing.assert_allclose(frame_times(5), [0, 0.25, 0.5, 0.75, 1])
    assert frame_times(1).tolist() == [0.0]
    assert frame_times(160)[-1] == 1.0


def test_rest_has_the_published_probabilities() -> None:
    rng = np.random.default_rng(1)
    runs = np.array([stays(rng) for _ in range(40_000)])
    assert not runs[:, 0].any()
    assert runs[:, 1].mean() == pytest.approx(0.10, abs=0.006)
    stayed, moved = runs[:, 1:4], ~runs[:, 1:4]
    following = runs[:, 2:5]
    assert following[stayed].mean() == pytest.approx(0.35, abs=0.012)
    assert following[moved].mean() == pytest.approx(0.10, abs=0.006)


def test_at_rest_control_points_repeat() -> None:
    still = np.array([False, True, True, False, True])
    points = control_points(np.zeros(3), lambda old: old + 1.0, still)
    assert points[:, 0].tolist() == [0, 0, 0, 1, 1]


def test_only_steps_up_are_limited() -> None:
    rng = np.random.default_rng(2)
    old = np.zeros(20_000)
    up, down = limited_step(rng, old, old + 100.0, 1.2), limited_step(rng, old, old - 100.0, 1.2)
    assert (down == -100.0).all()
    assert up.min() >= 0.0 and up.mean() == pytest.approx(1.2 * np.sqrt(2 / np.pi), rel=0.03)


def test_distance_against_a_fine_search() -> None:
    rng = np.random.default_rng(3)
    times = np.linspace(0, 1, 20_001)
    for _ in range(60):
        one, other = fit(rng.normal(size=(5, 3))), fit(rng.normal(size=(5, 3)))
        searched = np.linalg.norm(evaluate(one, times) - evaluate(other, times), axis=1).min()
        exact = minimum_distance(one, other)
        assert exact <= searched + 1e-9 and exact == pytest.approx(searched, abs=1e-3)


def test_distance_of_simple_paths() -> None:
    rest = fit(np.zeros((5, 3)))
    assert minimum_distance(rest, rest + np.array([[3.0, 4.0, 0.0]] + [[0.0] * 3] * 4)) == pytest.approx(5.0)
    # Passes the other one at t = 0.6, between control points, one unit above it.
    times = np.linspace(0, 1, 5)
    passing = fit(np.stack([10 * (times - 0.6), 0 * times, 0 * times + 1.0], axis=1))
    assert minimum_distance(rest, passing) == pytest.approx(1.0, abs=1e-6)
    # Two minima: a search from the middle finds the wrong one.
    both = fit(np.stack([np.array([0.9, 4.0, 5.0, 4.0, 1.5]), 0 * times, 0 * times], axis=1))
    assert minimum_distance(rest, both) == pytest.approx(0.9, abs=1e-6)
