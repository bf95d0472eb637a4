"""A model's choice as JSON, the form in which tasks carry it to other processes."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipelines.engine import ModelChoice, Networks
from pipelines.networks.reading import MemoryBudget


def choice_to_json(choice: ModelChoice) -> dict[str, Any]:
    """Plain values; paths become absolute."""
    return {**asdict(choice), "checkpoints": [os.path.abspath(path) for path in choice.checkpoints]}


def choice_from_json(data: dict[str, Any]) -> ModelChoice:
    """Inverse of `choice_to_json`."""
    budget = data.get("memory")
    paths = tuple(Path(path) for path in data.get("checkpoints", ()))
    return ModelChoice(**{**data, "checkpoints": paths, "memory": None if budget is None else MemoryBudget(**budget)})


def planned(choice: ModelChoice) -> Networks:
    """Rules and weights of a model for whoever only hands tasks out: that machine may lack the workers' device."""
    nets = Networks(replace(choice, device="cpu", engine="torch", precision="float32"))
    nets.choice = choice
    return nets


def gpu_of(choice: ModelChoice) -> dict[str, float]:
    """What a task that runs this model asks of its worker: {"GPU": 1} where the device is cuda."""
    return {"GPU": 1} if str(choice.device or "").startswith("cuda") else {}
