"""Interaction stage: what is marked is obeyed, what is far from every mark is not invented."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipelines.engine import ModelChoice, Networks
from pipelines.stages.interact import drop_far_parts, interact_mask, interact_strokes
from stores.scribbles import Stroke


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks(ModelChoice("nano", "cpu", "torch"))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Two flat disks on a textured ground, 144 x 240."""
    image = np.random.default_rng(0).integers(90, 120, (144, 240, 3)).astype(np.uint8)
    cv2.circle(image, (60, 72), 35, (220, 40, 40), -1)
    cv2.circle(image, (180, 72), 35, (40, 60, 220), -1)
    return image


def line(object_id: int, x: float) -> Stroke:
    return Stroke(np.array([[x - 0.06, 0.45], [x, 0.5], [x + 0.06, 0.55]]), object_id)


def overlap(probs: np.ndarray, k: int, x: int) -> float:
    truth = np.zeros(probs.shape[1:], np.uint8)
    cv2.circle(truth, (x, 72), 35, 1, -1)
    found = probs.argmax(0) == k
    return float((found & (truth > 0)).sum() / (found | (truth > 0)).sum())


def test_strokes_select_their_objects(networks: Networks, picture: np.ndarray) -> None:
    probs = interact_strokes(networks, picture, [line(1, 0.25), line(2, 0.75)], None, 2)
    assert probs.shape == (3, 144, 240) and np.allclose(probs.sum(0), 1, atol=1e-5)
    assert overlap(probs, 1, 60) > 0.7 and overlap(probs, 2, 180) > 0.7


def test_background_strokes_and_strokes_on_others_are_obeyed(networks: Networks, picture: np.ndarray) -> None:
    both = np.zeros((144, 240), np.uint8)
    for x in (60, 180):
        cv2.circle(both, (x, 72), 35, 1, -1)
    for negative in (0, 2):
        probs = interact_strokes(networks, picture, [line(1, 0.25), line(negative, 0.75)], both, 2)
        right = (probs.argmax(0) == 1)[:, 120:]
        assert right.sum() < 0.2 * (both[:, 120:] > 0).sum()
        assert overlap(probs, 1, 60) > 0.6


def test_an_object_that_nobody_marked_stays_empty(networks: Networks, picture: np.ndarray) -> None:
    probs = interact_strokes(networks, picture, [line(1, 0.25)], None, 3)
    assert probs[2:].max() < 1e-3


def test_far_parts_are_dropped_and_near_ones_kept() -> None:
    prob = np.zeros((100, 200), np.float32)
    prob[40:60, 20:40], prob[40:60, 44:50], prob[40:60, 150:160] = 0.9, 0.8, 0.7
    marked = np.zeros((100, 200), bool)
    marked[50, 30] = True
    drop_far_parts(prob, marked)
    assert prob[50, 30] > 0 and prob[50, 46] > 0 and prob[50, 155] == 0
    untouched = prob.copy()
    drop_far_parts(prob, np.zeros_like(marked))
    assert np.array_equal(prob, untouched)


def test_given_masks_replace_or_add() -> None:
    before = np.zeros((3, 4, 6), np.float32)
    before[1, :, :3], before[2, :, 3:] = 0.8, 0.7
    before[0] = 1 - before[1:].sum(0)
    labels = np.zeros((4, 6), np.uint8)
    labels[:, 0] = 1
    whole = interact_mask(labels, before, known=2, num_objects=2)  # nothing new: the whole truth of the frame
    assert whole[2].max() == 0 and whole[1].sum() == 4 and np.allclose(whole.sum(0), 1)
    labels[:, 0] = 3
    added = interact_mask(labels, before, known=2, num_objects=3)  # a new object: the others stay beside it
    assert added[3].sum() == 4 and added[1][:, 0].max() == 0 and np.allclose(added[1][:, 1:3], 0.8)
    assert np.allclose(added[2][:, 3:], 0.7) and np.allclose(added.sum(0), 1)
