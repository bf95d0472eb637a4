"""Soft aggregation and padding against the reference vectors of the original method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.networks.aggregate import aggregate_channels, aggregate_sbg, aggregate_wbg
from pipelines.stages.tensors import Padding


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("hard", [False, True])
def test_aggregate_equals_reference(golden: Path, count: int, hard: bool) -> None:
    data = np.load(golden / "aggregate.npz")
    probs = torch.from_numpy(data[f"in_{count}"])
    for name, function in (("wbg", aggregate_wbg), ("sbg", aggregate_sbg)):
        wanted = data[f"{name}_k{count}_hard{int(hard)}"]
        np.testing.assert_allclose(function(probs, hard=hard).numpy(), wanted, atol=3e-5)
        np.testing.assert_allclose(function(probs, hard=hard, keep_bg=False).numpy(), wanted[1:], atol=3e-5)


def test_channel_form_equals_reference(golden: Path) -> None:
    data = np.load(golden / "aggregate.npz")
    logits, probs = aggregate_channels(torch.from_numpy(data["channel_in"]))
    np.testing.assert_allclose(logits.numpy(), data["channel_logits"], atol=3e-5)
    np.testing.assert_allclose(probs.numpy(), data["channel_prob"], atol=3e-5)


def test_padding_equals_reference(golden: Path) -> None:
    data = np.load(golden / "pad.npz")
    for (height, width), pads in zip(data["sizes"].tolist(), data["pads"].tolist(), strict=True):
        padding = Padding.of(height, width)
        assert [padding.left, padding.right, padding.top, padding.bottom] == pads
        x = torch.rand(2, height, width)
        padded = padding.add(x)
        assert padded.shape[-2] % 16 == 0 and padded.shape[-1] % 16 == 0
        assert torch.equal(padding.remove(padded), x)
