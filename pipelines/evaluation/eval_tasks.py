"""`evaluate` by several processes or machines: one task follows one sequence, scores are made when all are there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.engine import ModelChoice, Networks
from pipelines.evaluation.eval_sequences import DavisProtocol, YouTubeProtocol
from pipelines.evaluation.semi_supervised import EvalRun, ruled_networks, run_settings, wanted_sequences
from pipelines.execution.execute import execute
from pipelines.execution.executors import Report, Setup
from pipelines.execution.models import choice_from_json, choice_to_json, gpu_of
from pipelines.execution.tasks import Outcome, Task, shard_of, task_progress
from pipelines.flow import Model
from pipelines.rounds import Progress
from stores.errors import UsageError

AnyProtocol = DavisProtocol | YouTubeProtocol
PROTOCOLS: dict[str, type[AnyProtocol]] = {"davis": DavisProtocol, "youtube": YouTubeProtocol}


@dataclass(frozen=True)
class Share:
    """What a run of tasks did.

    Attributes:
        outcomes: of its own tasks; finished, total: items of the whole output, those of other shards included.
    """

    outcomes: tuple[Outcome, ...]
    finished: int
    total: int

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.state != "done")

    @property
    def whole(self) -> bool:
        """Whether results of the whole can be made."""
        return self.finished == self.total and not self.failed

    def to_json(self) -> dict[str, Any]:
        failed = [{"name": o.id, "error": o.error, "hint": o.hint, "attempts": o.attempts} for o in self.failed]
        return {"finished": self.finished, "total": self.total, "failed": failed}


def run_tasks(tasks: list[Task], setup: Setup, label: str, progress: Report | None) -> tuple[Outcome, ...]:
    """Executes tasks and counts them for the user."""
    if not tasks:
        return ()

    def told(outcome: Outcome, done: int, total: int) -> None:
        if progress is not None:
            progress(Progress(label, done, total))

    return tuple(execute(tasks, setup.open(progress), retries=setup.retries, told=told))


def follow_sequences(
    protocol: AnyProtocol,
    out: Path,
    setup: Setup,
    *,
    model: Model = "nano",
    rules: Mapping[str, Any] | None = None,
    sequences: Iterable[str] | None = None,
    force: bool = False,
    progress: Report | None = None,
) -> Share:
    """The masks of every sequence, or of a shard of them. When the share is whole, `evaluate` makes the scores.

    Raises:
        UsageError: as `evaluate`; or a shard is to begin anew what the others are at.
    """
    if force and setup.shard is not None:
        raise UsageError("--force with --shard would drop what other shards do", hint="use another --output")
    nets = ruled_networks(model, rules)
    names = wanted_sequences(protocol, sequences)
    run = EvalRun(out, protocol.masks, run_settings(protocol, nets), force)
    run.begin(names)
    kind = next(name for name, made in PROTOCOLS.items() if isinstance(protocol, made))
    choice = ModelChoice.of(model)
    common = {
        "protocol": {**asdict(protocol), "root": str(protocol.root.absolute()), "kind": kind},
        "out": str(out.absolute()),
        "model": choice_to_json(choice),
        "rules": dict(rules or {}),
    }
    mine = [
        name
        for name in shard_of(names, setup.shard)
        if name not in run.entries or run.finished(protocol.clip(name)) is None
    ]
    tasks = [
        Task(name, "follow", f"{__name__}:follow_sequence", {**common, "sequence": name}, (), gpu_of(choice))
        for name in mine
    ]
    outcomes = run_tasks(tasks, setup, "sequences", progress)
    run.reload()
    return Share(outcomes, sum(name in run.entries for name in names), len(names))


def follow_sequence(
    protocol: dict[str, Any], out: str, model: dict[str, Any], rules: dict[str, Any], sequence: str
) -> dict[str, Any]:
    """Task: the masks of one sequence."""
    given = dict(protocol)
    made = PROTOCOLS[given.pop("kind")](**{**given, "root": Path(given["root"])})
    nets = _networks(json.dumps([model, rules]))
    run = EvalRun(Path(out), made.masks, run_settings(made, nets), force=False)
    entry = run.obtain(made.clip(sequence), nets, task_progress())
    return {"frames": entry["frames"], "seconds": entry["seconds"]}


@lru_cache(maxsize=1)
def _networks(key: str) -> Networks:
    model, rules = json.loads(key)
    return ruled_networks(choice_from_json(model), rules)
