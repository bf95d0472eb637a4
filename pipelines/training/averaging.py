"""One network from several runs that began with the same weights: their mean, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from pipelines.networks.recognise import recognise
from pipelines.training.state import save_weights
from stores.checkpoints import read_checkpoint
from stores.errors import ModelError, UsageError


def average_weights(files: Sequence[Path], out: Path) -> str:
    """Writes the mean of weight files to `out` (safetensors, fp16) and returns the network's name.

    Runs that were fine-tuned from the same weights on different data lie close enough for their mean to work, and it
    often holds up better on new videos than either (Wortsman et al., "Model soups", ICML 2022).

    Args:
        files: two or more, of the same network.

    Raises:
        UsageError: fewer than two files. ModelError: a file is unreadable, or of another network than the first, or
        its tensors have other shapes. StorageFullError: `out` cannot be written.
    """
    if len(files) < 2:
        raise UsageError("a mean needs at least two weight files")
    states = [read_checkpoint(path) for path in files]
    names = [recognise(state, path) for state, path in zip(states, files, strict=True)]
    for path, name, state in zip(files, names, states, strict=True):
        if name != names[0] or state.keys() != states[0].keys():
            raise ModelError(
                f"{path}: is of network {name!r}, {files[0]} of {names[0]!r}", hint="average files of one network"
            )
        changed = next((key for key in state if state[key].shape != states[0][key].shape), None)
        if changed is not None:
            here, there = (tuple(each[changed].shape) for each in (state, states[0]))
            raise ModelError(
                f"{path}: {changed} is of shape {here}, in {files[0]} of {there}", hint="average files of one network"
            )
    mean = {key: torch.stack([state[key].float() for state in states]).mean(0) for key in states[0]}
    save_weights(mean, out)
    return names[0]
