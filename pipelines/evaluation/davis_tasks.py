"""The DAVIS interactive benchmark by several processes or machines: one task plays the samples of one sequence.

Times are of the model on its worker. Workers that share a machine slow each other down, and the limit of `max_time`
counts scoring and robot, too: published times should come from one worker per machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.engine import ModelChoice
from pipelines.evaluation.davis_interactive import Runner
from pipelines.evaluation.davis_samples import Samples, run_settings
from pipelines.evaluation.davis_setup import METRIC, official_options, prepare
from pipelines.evaluation.eval_tasks import Share, run_tasks
from pipelines.evaluation.robot import load_davisinteractive
from pipelines.execution.executors import Report, Setup
from pipelines.execution.models import choice_from_json, choice_to_json, gpu_of
from pipelines.execution.tasks import Task, shard_of, task_progress
from stores.errors import UsageError


def play_sequences(
    root: Path, out: Path, setup: Setup, *, subset: str, sequences: Sequence[str] | None, model: ModelChoice,
    interactions: int, max_time: int, samples: int | None, masks: bool, force: bool = False,
    progress: Report | None = None,
) -> Share:  # fmt: skip
    """Every sequence, or a shard of them. When the share is whole, `evaluate_davis_interactive` sums it up.

    Raises:
        UsageError: as there; or a shard is to begin anew what the others are at.
    """
    if force and setup.shard is not None:
        raise UsageError("--force with --shard would drop what other shards do", hint="use another --output")
    load_davisinteractive()
    nets, _, found, _ = prepare(root, subset, sequences, model, interactions, max_time, samples)
    settings = {**run_settings(nets, interactions, max_time, METRIC), **({} if force else Samples.place(out))}
    kept = Samples.open(out, settings, force=force, note=False)

    def done(name: str) -> bool:
        (facts,) = (facts for facts in found if facts.name == name)
        return all(kept.finished(facts, index, masks=masks) is not None for index in range(1, facts.scribbles + 1))

    arguments = {
        "root": str(root.absolute()), "out": str(out.absolute()), "subset": subset, "model": choice_to_json(model),
        "interactions": interactions, "max_time": max_time, "samples": samples, "masks": masks,
    }  # fmt: skip
    tasks = [
        Task(name, "play", f"{__name__}:play_sequence", {**arguments, "sequence": name}, (), gpu_of(model))
        for name in shard_of([facts.name for facts in found], setup.shard)
        if not done(name)
    ]
    outcomes = run_tasks(tasks, setup, "sequences", progress)
    return Share(outcomes, sum(done(facts.name) for facts in found), len(found))


def play_sequence(
    root: str, out: str, subset: str, model: dict[str, Any], interactions: int, max_time: int, samples: int | None,
    masks: bool, sequence: str,
) -> dict[str, Any]:  # fmt: skip
    """Task: the samples of one sequence that are not played yet."""
    choice = choice_from_json(model)
    nets, dataset, found, _ = prepare(Path(root), subset, [sequence], choice, interactions, max_time, samples)
    kept = Samples.open(Path(out), run_settings(nets, interactions, max_time, METRIC))
    options = official_options(dataset, subset, interactions, max_time)
    runner = Runner(load_davisinteractive(), options, dataset, nets, Path(out) if masks else None, task_progress())
    played = 0
    for facts in found:
        for index in range(1, facts.scribbles + 1):
            with kept.lock(facts, index):
                if kept.finished(facts, index, masks=masks) is None:
                    kept.write(facts, index, *runner.play(facts, index))
                    played += 1
    return {"samples": played}
