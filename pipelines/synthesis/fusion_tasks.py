"""`generate_fusion` by several processes or machines: one task makes the references of one video."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.engine import ModelChoice, networks
from pipelines.execution.execute import execute
from pipelines.execution.executors import Report, Setup
from pipelines.execution.models import choice_from_json, choice_to_json, gpu_of, planned
from pipelines.execution.tasks import Task, shard_of, task_progress
from pipelines.rounds import Progress
from pipelines.synthesis.fusion_data import Failure, FusionReport, generate_fusion, run_settings
from pipelines.synthesis.fusion_run import FusionRun
from pipelines.synthesis.fusion_videos import FusionVideos

COUNTS = ("references", "existing", "empty", "maps")


def generate_fusion_with(
    setup: Setup, videos: FusionVideos, out: Path, choice: ModelChoice, *, separation: int = 25,
    reach: int | None = None, mem_every: int | None = None, size: int | None = None, progress: Report | None = None,
) -> FusionReport:  # fmt: skip
    """As `generate_fusion`, of all videos or of a shard of them, by an executor.

    Every video that fails is named in the report, whatever the reason.

    Raises:
        ClusterError: the executor failed. Others as `generate_fusion`, where they concern all videos.
    """
    started = time.monotonic()
    nets = planned(choice)
    nets.check("propagation")
    settings = run_settings(nets, videos, separation, reach, mem_every, size)
    with FusionRun.opened(out, settings, shared=True):
        pass  # told once, not by every task
    names = shard_of(videos.names, setup.shard)
    arguments = {
        "layout": videos.layout, "images": str(videos.images.absolute()), "masks": str(videos.masks.absolute()),
        "out": str(out.absolute()), "model": choice_to_json(choice), "separation": separation, "reach": reach,
        "mem_every": mem_every, "size": size,
    }  # fmt: skip
    tasks = [
        Task(name, "gen-fusion", f"{__name__}:fusion_video", {**arguments, "video": name}, (), gpu_of(choice))
        for name in names
    ]

    def told(outcome: object, done: int, total: int) -> None:
        if progress is not None:
            progress(Progress("videos", done, total))

    outcomes = execute(tasks, setup.open(progress), retries=setup.retries, told=told) if tasks else []
    counts = dict.fromkeys(COUNTS, 0)
    failed: list[Failure] = []
    for outcome in outcomes:
        if outcome.state != "done":
            failed.append(Failure(outcome.id, str(outcome.error)))
            continue
        failed += [Failure(*failure) for failure in outcome.result["failed"]]
        for key in COUNTS:
            counts[key] += outcome.result[key]
    report = FusionReport(str(out), len(names), **counts, seconds=0.0, failed=tuple(failed))
    return replace(report, seconds=time.monotonic() - started)


def fusion_video(
    layout: str, images: str, masks: str, out: str, model: dict[str, Any], video: str, **options: Any
) -> dict[str, Any]:
    """Task: the references of one video."""
    tell = task_progress()
    videos = FusionVideos(layout, Path(images), Path(masks), (video,))

    def progress(done: int, total: int) -> None:
        if tell is not None:
            tell(Progress(video, done, total))

    nets = networks(choice_from_json(model))
    report = generate_fusion(videos, Path(out), nets, **options, shared=True, progress=progress)
    found = {key: getattr(report, key) for key in COUNTS}
    return {**found, "failed": [[failure.video, failure.problem] for failure in report.failed]}
