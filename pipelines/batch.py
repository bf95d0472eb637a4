"""Many videos: the rows of a manifest, each segmented in a folder of its own, by any executor.

>>> from pathlib import Path
>>> from pipelines.batch import run_batch
>>> report = run_batch(Path("clips.csv"), Path("out"))  # doctest: +SKIP

Each item is three tasks, decode -> segment -> encode (see `batch_item`). Run again it does what is left; several such
commands may share one output folder, also on different machines.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.batch_item import STAGES, Order, finished
from pipelines.engine import ENGINES, FUSIONS, PRECISIONS, ModelChoice
from pipelines.execution.execute import execute
from pipelines.execution.executors import Report, Setup
from pipelines.execution.models import choice_to_json, gpu_of
from pipelines.execution.tasks import DONE, FAILED, SKIPPED, Outcome, Task, shard_of
from pipelines.flow import Model
from pipelines.networks.reading import MemoryBudget
from pipelines.networks.registry import model_spec
from pipelines.rounds import Progress
from pipelines.stages.encode import FORMATS
from stores.errors import UsageError
from stores.exchange.selection import DEFAULT, check_rule
from stores.files import atomic_file, make_folder
from stores.manifest import Item, read_manifest
from stores.pictures import CODINGS, EXACT

DEVICES = ("auto", "cpu", "cuda", "mps")
TEXTS = {"device": DEVICES, "engine": ENGINES, "precision": tuple(PRECISIONS), "fusion": FUSIONS}


@dataclass(frozen=True)
class ItemReport:
    """What became of one row.

    Attributes:
        state: "done" or "failed"; resumed: an earlier run had done it; stage: that failed; error, hint: one line each.
        seconds: of all stages; attempts: of the stage that was begun most often, over all runs.
    """

    name: str
    line: int
    state: str
    resumed: bool = False
    stage: str | None = None
    error: str | None = None
    hint: str | None = None
    seconds: float | None = None
    frames: int | None = None
    attempts: int = 0


@dataclass(frozen=True)
class BatchReport:
    """What a batch, or a shard of it, did; files: the report on disk."""

    out: str
    items: tuple[ItemReport, ...]
    seconds: float
    files: dict[str, str]

    @property
    def failed(self) -> tuple[ItemReport, ...]:
        return tuple(item for item in self.items if item.state == FAILED)

    def to_json(self) -> dict[str, Any]:
        """Everything, with counts, as plain JSON values."""
        resumed = sum(item.resumed for item in self.items)
        counts = {"done": len(self.items) - len(self.failed) - resumed, "resumed": resumed, "failed": len(self.failed)}
        return {**asdict(self), "counts": counts}


def run_batch(
    manifest: Path,
    out: Path,
    *,
    size: int | None = 480,
    snap: bool = False,
    import_frames: str = DEFAULT,
    frames: str = EXACT,
    model: Model = "nano",
    formats: Sequence[str] = ("png", "overlay"),
    force: bool = False,
    setup: Setup | None = None,
    progress: Report | None = None,
) -> BatchReport:
    """Segments every video of a manifest and writes report.json and report.csv (a shard: report-k-of-n).

    A video that fails stops no other. What is finished is not done again.

    Args:
        manifest: see `stores.manifest`; its options come before those given here.
        out: each row gets a folder there. size, snap, import_frames, frames, model, formats: as of `flow.segment`.
        force: make all items again, also over what `flow.segment` has left, never over anything else.
        setup: executor, workers, shard, retries; one process if not given.

    Raises:
        UsageError: something is wrong with the manifest or an option; nothing was done.
        ClusterError: the executor failed. StorageFullError: the report cannot be written.
    """
    started, setup = time.monotonic(), setup or Setup()
    run = uuid.uuid4().hex[:12]
    orders: list[tuple[Item, Order]] = []
    for item in read_manifest(manifest):
        choice = ModelChoice.of(model)
        common = {"size": size, "snap": snap, "import_frames": import_frames, "frames": frames}
        order = _order(Path(manifest), item, Path(out), common, choice, tuple(formats), run, force)
        orders.append((item, order))
    orders = shard_of(orders, setup.shard)
    make_folder(Path(out))
    reports: dict[str, ItemReport] = {}
    tasks: list[Task] = []
    for item, order in orders:
        record = None if force else finished(order)
        if record is None:
            tasks += _tasks(item, order)
        else:
            reports[item.name] = _resumed(item, record)
    over = _run(tasks, setup, progress, len(orders))
    for item, _ in orders:
        if item.name not in reports:
            reports[item.name] = _report(item, [over[f"{item.name}/{stage}"] for stage in STAGES])
    items = tuple(reports[item.name] for item, _ in orders)
    stem = "report" if setup.shard is None else "report-{}-of-{}".format(*setup.shard)
    files = {kind: str(Path(out) / f"{stem}.{kind}") for kind in ("json", "csv")}
    report = BatchReport(str(out), items, round(time.monotonic() - started, 3), files)
    _write(report)
    return report


def _order(
    manifest: Path, item: Item, out: Path, common: dict[str, Any], choice: ModelChoice, formats: tuple[str, ...],
    run: str, force: bool,
) -> Order:  # fmt: skip
    """A row's own options over the common ones.

    Raises:
        UsageError: a value that no option takes.
    """
    own = item.options

    def wrong(column: str, value: str, known: Sequence[str]) -> UsageError:
        where = f"{manifest}, line {item.line}, column {column}: " if column in own else ""
        return UsageError(f"{where}unknown {column} {value[:60]!r}", hint=f"choose one of: {', '.join(known)}")

    texts = {key: own.get(key, getattr(choice, key) or "auto") for key in TEXTS}
    for key, known in TEXTS.items():
        if texts[key] not in known:
            raise wrong(key, texts[key], known)
    name = own.get("model", choice.name)
    try:
        model_spec(name)
    except UsageError as error:
        raise UsageError(f"{manifest}, line {item.line}, column model: {error}", hint=error.hint) from error
    wanted = tuple(dict.fromkeys(own.get("format", formats)))
    for value in wanted:
        if value not in FORMATS:
            raise wrong("format", value, tuple(FORMATS))
    checkpoints = own.get("checkpoint", choice.checkpoints)
    changed = {"name": name, **texts, "device": None if texts["device"] == "auto" else texts["device"]}
    model = {**choice_to_json(choice), **changed, "checkpoints": [os.path.abspath(path) for path in checkpoints]}
    try:
        if "memory_budget" in own:
            model["memory"] = asdict(MemoryBudget.parse(own["memory_budget"]))
        mixed = {key: own.get(key, value) for key, value in common.items()}
        check_rule(mixed["import_frames"])
        if mixed["frames"] not in CODINGS:
            raise wrong("frames", mixed["frames"], CODINGS)
    except UsageError as error:
        raise UsageError(f"{manifest}, line {item.line}: {error}", hint=error.hint) from error
    return Order(
        folder=os.path.abspath(out / item.name),
        video=str(item.video),
        scribbles=None if item.scribbles is None else str(item.scribbles),
        masks=None if item.masks is None else str(item.masks),
        size=mixed["size"] or None,
        snap=mixed["snap"],
        formats=wanted,
        model=model,
        run=run,
        force=force,
        import_frames=mixed["import_frames"],
        frames=mixed["frames"],
    )


def _tasks(item: Item, order: Order) -> list[Task]:
    arguments = {"order": asdict(order)}
    gpu = gpu_of(order.choice)
    tasks: list[Task] = []
    for stage in STAGES:
        needs = (tasks[-1].id,) if tasks else ()
        resources = gpu if stage == "segment" else {}
        tasks.append(Task(f"{item.name}/{stage}", stage, f"pipelines.batch_item:{stage}", arguments, needs, resources))
    return tasks


def _run(tasks: list[Task], setup: Setup, progress: Report | None, items: int) -> dict[str, Outcome]:
    """Outcomes by task; progress counts items that are over."""
    if not tasks:
        return {}
    over = items - len(tasks) // len(STAGES)

    def told(outcome: Outcome, done: int, total: int) -> None:
        nonlocal over
        if outcome.id.endswith(f"/{STAGES[-1]}"):
            over += 1
            if progress is not None:
                progress(Progress("videos", over, items))

    outcomes = execute(tasks, setup.open(progress), retries=setup.retries, told=told)
    return {outcome.id: outcome for outcome in outcomes}


def _resumed(item: Item, record: dict[str, Any]) -> ItemReport:
    seconds, starts = sum(record["seconds"].values()), max(record["starts"].values(), default=0)
    return ItemReport(item.name, item.line, DONE, True, seconds=seconds, frames=record.get("frames"), attempts=starts)


def _report(item: Item, outcomes: Sequence[Outcome]) -> ItemReport:
    results = [outcome.result or {} for outcome in outcomes]
    failed = next((outcome for outcome in outcomes if outcome.state == FAILED), None)
    attempts = max(
        (result.get("attempts", outcome.attempts) for result, outcome in zip(results, outcomes, strict=True))
    )
    seconds = round(sum(outcome.seconds for outcome in outcomes if outcome.state != SKIPPED), 3)
    if failed is not None:
        stage = failed.id.rpartition("/")[2]
        return ItemReport(
            item.name, item.line, FAILED, False, stage, failed.error, failed.hint, seconds, None, attempts
        )  # fmt: skip
    resumed = all(result.get("resumed") for result in results)
    return ItemReport(
        item.name, item.line, DONE, resumed, seconds=seconds, frames=results[-1].get("frames"), attempts=attempts
    )


def _write(report: BatchReport) -> None:
    with atomic_file(Path(report.files["json"])) as file:
        file.write(json.dumps(report.to_json(), indent=1).encode() + b"\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ItemReport.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(item) for item in report.items)
    with atomic_file(Path(report.files["csv"])) as file:
        file.write(text.getvalue().encode())
