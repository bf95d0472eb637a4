"""Networks are told apart by keys and shapes, those of the authors' files and of our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.networks.recognise import NETWORKS, STEMS, adapt, expected_shapes, recognise
from pipelines.networks.registry import MODELS, WEIGHTS
from stores.checkpoints import read_checkpoint
from stores.errors import ModelError

TABLES = {
    "s2m": "s2m",
    "propagation": "propagation",
    "propagation_stcn": "propagation-stcn",
    "fusion": "fusion",
    "fusion_stcn": "fusion",
}


def zeros(name: str) -> dict[str, Tensor]:
    """A state dict of a network; the tensors take no memory."""
    return {key: torch.zeros(()).expand(shape) for key, shape in expected_shapes(name).items()}


@pytest.mark.parametrize("table", TABLES)
def test_the_authors_files(golden: Path, table: str) -> None:
    lines = (golden.parent / "state_dicts" / f"{table}.tsv").read_text().splitlines()[1:]
    state = {}
    for key, dtype, shape in (line.split("\t") for line in lines):
        size = [int(number) for number in shape.split("x")] if shape.strip("()- ") and shape != "scalar" else []
        state[key] = torch.zeros((), dtype=getattr(torch, dtype)).expand(size)
    assert recognise(state) == TABLES[table]
    assert list(adapt(state, TABLES[table])) == list(state)


@pytest.mark.parametrize("part", ["propagation", "s2m", "fusion"])
def test_our_own_files(part: str) -> None:
    path = WEIGHTS / MODELS["nano"].part(part).weights
    assert recognise(read_checkpoint(path)) == f"nano-{part}"


def test_tell_tale_keys_are_of_one_network() -> None:
    for name, (_, _, key) in NETWORKS.items():
        assert [other for other in NETWORKS if key in expected_shapes(other)] == [name]


@pytest.mark.parametrize("name", STEMS)
def test_a_file_of_stage_0_gets_a_zero_channel(name: str, caplog: pytest.LogCaptureFixture) -> None:
    state = zeros(name)
    state[STEMS[name]] = torch.ones(64, 4, 7, 7)
    assert recognise(state) == name
    with caplog.at_level(logging.WARNING, "mivos"):
        stem = adapt(state, name, "s0.pth")[STEMS[name]]
    assert stem.shape == (64, 5, 7, 7) and float(stem[:, :4].min()) == 1 and float(stem[:, 4].abs().max()) == 0
    assert "s0.pth" in caplog.text and "zero channel" in caplog.text
    assert state[STEMS[name]].shape[1] == 4


def test_counters_of_batch_norm_may_be_missing() -> None:
    state = zeros("s2m")
    bare = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert recognise(bare) == "s2m" and len(bare) < len(state)
    complete = adapt(bare, "s2m")
    assert list(complete) == list(state) and complete["backbone.bn1.num_batches_tracked"].dtype == torch.int64


def test_a_missing_key_is_named_also_the_tell_tale() -> None:
    state = zeros("fusion")
    del state["final_conv.weight"]
    with pytest.raises(ModelError, match="'fusion', but 1 of 12 keys are missing, the first is final_conv.weight"):
        recognise(state)


def test_an_unexpected_key_is_named() -> None:
    with pytest.raises(ModelError, match="'propagation', but 1 keys are unexpected, the first is extra.weight"):
        recognise({**zeros("propagation"), "extra.weight": torch.zeros(1)})


def test_a_wrong_shape_is_named() -> None:
    state = {**zeros("s2m"), "backbone.conv1.weight": torch.zeros(64, 3, 7, 7)}
    with pytest.raises(ModelError, match="net.pth.*backbone.conv1.weight is 64x3x7x7, not 64x6x7x7"):
        recognise(state, "net.pth")


def test_something_else() -> None:
    with pytest.raises(ModelError, match="no network known") as failure:
        recognise({"encoder.weight": torch.zeros(3), "encoder.bias": torch.zeros(3)})
    assert "encoder.bias" in str(failure.value)


def test_adapt_to_another_network() -> None:
    with pytest.raises(ModelError, match="not of network 's2m'"):
        adapt(zeros("fusion"), "s2m")
