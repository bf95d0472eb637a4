"""Quantised probabilities, checksums and the vectors held in memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stores.arrays import FrameVector, checksum, label, quantise, restore, sealed, unsealed


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.sampled_from([8, 16]))
@settings(max_examples=40, deadline=None)
def test_quantising_is_close_idempotent_and_keeps_the_argmax(seed: int, objects: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.random((objects + 1, 9, 7), dtype=np.float32) ** 4
    probs /= probs.sum(axis=0)
    integers = quantise(probs, bits)
    restored = restore(integers)
    assert restored.dtype == np.float32 and integers.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert np.abs(restored[1:] - probs[1:]).max(initial=0) <= 0.5001 / (2**bits - 1)
    assert restored.min() >= 0 and restored.max() <= 1
    assert np.array_equal(quantise(restored, bits), integers)
    assert np.array_equal(label(integers), restored.argmax(axis=0))


def test_every_level_survives() -> None:
    for bits, dtype in ((8, np.uint8), (16, np.uint16)):
        levels = np.arange(2**bits, dtype=dtype).reshape(1, 1, -1)
        assert np.array_equal(quantise(restore(levels), bits), levels)


def test_values_beyond_the_range_are_clipped() -> None:
    probs = np.array([0.5, -0.2, 1.7], np.float32).reshape(3, 1, 1)
    assert quantise(probs, 8).ravel().tolist() == [0, 255]


def test_ties_go_to_the_background_and_then_to_the_first_object() -> None:
    tied = np.array([[85, 100, 0], [85, 100, 255]], np.uint8).reshape(2, 1, 3)
    assert label(tied).tolist() == [[0, 1, 2]]


def test_checksum_sees_order_and_not_empty_blocks() -> None:
    blocks = np.random.default_rng(0).integers(1, 255, (2, 4, 4), dtype=np.uint8)
    grown = np.concatenate([blocks, np.zeros_like(blocks)])
    assert checksum(blocks) == checksum(grown) != checksum(blocks[::-1])
    assert checksum(np.zeros_like(blocks)) == checksum(blocks[:0]) == 0


def test_sealed_attributes_do_not_change_unnoticed() -> None:
    attributes = {"a": 1, "b": ["ü", 2.5]}
    assert unsealed(sealed(attributes)) == attributes
    with pytest.raises(ValueError, match="checksum"):
        unsealed({**sealed(attributes), "a": 2})


def test_a_frame_vector_grows() -> None:
    vector = FrameVector(np.zeros(0, np.int64))
    for index in range(200):
        vector[index] = index
    assert vector.values.tolist() == list(range(200)) and vector.changed
