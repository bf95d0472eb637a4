"""What a run of the DAVIS interactive benchmark starts from: its constants, checks, and options of the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.engine import Networks, networks
from pipelines.evaluation.robot import SequenceFacts, find_sequences
from pipelines.flow import Model
from stores.davis import DavisDataset
from stores.errors import UsageError

METRIC = "J_AND_F"
INTERACTIONS = 8
SECONDS_PER_OBJECT = 240
USER = "mivos"


def prepare(
    root: Path, subset: str, sequences: Sequence[str] | None, model: Model, interactions: int, max_time: int,
    samples: int | None,
) -> tuple[Networks, DavisDataset, list[SequenceFacts], tuple[str, ...]]:  # fmt: skip
    """Checks everything before the first sample: networks, data set, sequences to play, names that are not there."""
    if subset not in ("train", "val", "trainval"):
        raise UsageError(f"the robot has no subset {subset!r}", hint="choose train, val or trainval")
    if not 1 <= interactions <= INTERACTIONS or not 1 <= max_time <= 600:
        raise UsageError("up to 8 interactions and 600 seconds per object", hint="the benchmark takes 8 and 240")
    nets = networks(model)
    nets.check("propagation", "s2m", *(["fusion"] if nets.choice.fusion != "off" else []))
    dataset = DavisDataset(root, split=subset)
    found, missing = find_sequences(dataset, sequences)
    if samples is not None:
        found = [replace(facts, scribbles=min(facts.scribbles, samples)) for facts in found]
    return nets, dataset, found, tuple(missing)


def official_options(dataset: DavisDataset, subset: str, interactions: int, max_time: int) -> dict[str, Any]:
    """Arguments of the package's session."""
    options = {"davis_root": str(dataset.base), "subset": subset, "max_time": max_time, "user_key": USER}
    return {**options, "max_nb_interactions": interactions, "metric_to_optimize": METRIC}
