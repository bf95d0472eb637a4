"""The mean of weight files, through the command and as a network that loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from mivos_cli.app import app
from pipelines.networks.registry import WEIGHTS, load_network
from pipelines.training.averaging import average_weights
from stores.errors import ModelError, UsageError

SHIPPED = WEIGHTS / "nano_fusion.safetensors"


def test_mean_of_two_runs(tmp_path: Path) -> None:
    state = load_file(SHIPPED)
    shifted = {key: value + 0.5 for key, value in state.items()}
    save_file(shifted, tmp_path / "other.safetensors")
    out = tmp_path / "mean.safetensors"
    done = CliRunner().invoke(
        app, ["models", "average", str(SHIPPED), str(tmp_path / "other.safetensors"), "-o", str(out)]
    )
    assert done.exit_code == 0, done.output
    network = load_network("nano", "fusion", out)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, state[key].float() + 0.25, atol=2e-3, rtol=1e-3)
    again = CliRunner().invoke(app, ["models", "average", str(SHIPPED), str(SHIPPED), "-o", str(out)])
    assert again.exit_code == 2 and "is there already" in again.stderr


def test_other_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is of network"):
        average_weights([SHIPPED, WEIGHTS / "nano_s2m.safetensors"], tmp_path / "out.safetensors")
    with pytest.raises(UsageError, match="at least two"):
        average_weights([SHIPPED], tmp_path / "out.safetensors")
    assert not any(tmp_path.iterdir())
