"""Reports of the benchmarks as records that `mivos bench compare` can set side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.engine import ModelChoice
from pipelines.evaluation.clicks import ClicksReport
from pipelines.evaluation.davis_interactive import InteractiveReport
from pipelines.evaluation.long import LongReport
from pipelines.evaluation.records import Data, RunRecord, record
from pipelines.evaluation.report import DevSplitReport, S2MReport, SpeedReport
from pipelines.evaluation.speed import default_video
from stores.davis import DavisDataset

MEASURES = (("J&F", "jf"), ("J", "j"), ("F", "f"))


def of_dev_split(report: DevSplitReport, root: Path, choice: ModelChoice) -> RunRecord:
    """`bench dev`: J&F, J and F of every method by sequence."""
    scores = {
        name: {
            f"{row.method} {title}": getattr(row, key)
            for row in report.rows
            if row.sequence == name
            for title, key in MEASURES
        }
        for name in report.sequences
    }
    means: dict[str, Any] = {}
    for method in report.methods:
        mean = report.mean(method)
        means |= {f"{method} {title}": getattr(mean, key) for title, key in MEASURES}
        means[f"{method} frames/s"] = mean.frames_per_second
    settings = {**asdict(choice), "scorer": report.scorer}
    return record("dev", settings, scores, data=Data.davis(_dataset(root), report.sequences), means=means)


def of_strokes(report: S2MReport, root: Path, choice: ModelChoice) -> RunRecord:
    """`bench strokes`: J of every scribble file."""
    scores = {f"{row.sequence} {row.file}": {"J": row.j, "seconds": row.seconds} for row in report.rows}
    data = Data.davis(_dataset(root), dict.fromkeys(row.sequence for row in report.rows))
    return record("strokes", asdict(choice), scores, data=data, means={"J": report.mean})


def of_clicks(report: ClicksReport, root: Path, choice: ModelChoice) -> RunRecord:
    """`bench clicks`: the IoU after the last click on every object, and the means of both methods."""
    scores: dict[str, dict[str, float]] = {}
    for row in report.rows:
        name = f"{row.sequence} {row.frame} {row.object_id}"
        scores.setdefault(name, {})[f"{row.method} IoU"] = row.ious[-1]
    means = {f"{method} {key}": value for method in report.methods for key, value in report.mean(method).items()}
    data = Data.davis(_dataset(root), dict.fromkeys(row.sequence for row in report.rows))
    return record("clicks", {**asdict(choice), "clicks": report.limit}, scores, data=data, means=means)


def of_speed(report: SpeedReport, choice: ModelChoice) -> RunRecord:
    """`bench speed`: rates and memory by number of objects."""
    scores = {
        f"{row.objects} objects": {
            "frames/s": row.frames_per_second,
            "startup (s)": row.startup,
            "peak memory (MB)": row.peak_rss_mb,
            **{f"{stage} (s)": seconds for stage, seconds in row.stages.items()},
        }
        for row in report.rows
    }
    settings = {**asdict(choice), "size": f"{report.width}x{report.height}", "engine": report.engine}
    rates = {"matmul GFLOP/s": report.matmul_gflops, "copy GB/s": report.copy_gb_s}
    return record("speed", settings, scores, data=Data.video(default_video()), means=rates)


def of_long(report: LongReport, root: Path, choice: ModelChoice) -> RunRecord:
    """`bench long`: J&F by sequence and bound of memory."""
    scores: dict[str, dict[str, float]] = {}
    for row in report.rows:
        scores.setdefault(row.sequence, {})[f"memory {row.memory} J&F"] = row.jf
    means = {
        f"memory {memory} {key}": value for memory in report.memories for key, value in report.mean(memory).items()
    }
    frames = report.rows[0].frames
    settings = {**asdict(choice), "frames": frames, "size": report.size}
    return record("long", settings, scores, data=Data.davis(_dataset(root), scores), means=means)


def of_davis(report: InteractiveReport, root: Path, choice: ModelChoice) -> RunRecord:
    """`bench davis`: the scores after the last interaction by sequence, and the two numbers of the summary."""
    scores = {row["sequence"]: {"J&F": row["j_and_f"], "J": row["j"], "F": row["f"]} for row in report.sequences}
    means = {"AUC": report.auc, "J&F@60s": report.at_60}
    settings = {**asdict(choice), "subset": report.subset, "samples": report.samples, "interactions": len(report.rows)}
    return record("davis", settings, scores, data=Data.davis(_dataset(root, report.subset), scores), means=means)


def _dataset(root: Path, split: str = "val") -> DavisDataset:
    return DavisDataset(root, year="2017", split=split, resolution="480p")
