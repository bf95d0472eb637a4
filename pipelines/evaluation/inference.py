"""Propagation inference against a literal reading of its description: speed, memory and equality in one run.

Every way of running is a process of its own that keeps its network and memory. They take turns frame by frame, so
that a noisy machine slows all of them alike; ratios are what to look at.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.engine import ModelChoice, Networks
from pipelines.evaluation.literal import literal, segment_literally
from pipelines.evaluation.operations import count_operations
from pipelines.evaluation.speed import blobs, default_video, matmul_gflops, peak_rss_mb, read_at_size
from pipelines.evaluation.worker import fresh_process, receive
from pipelines.networks import registry
from pipelines.networks.recognise import adapt
from pipelines.networks.synthetic_weights import synthetic_state
from pipelines.rounds import Progress, Report
from pipelines.stages.follow import follow
from stores.checkpoints import read_checkpoint
from stores.errors import UsageError, VideoError

LITERAL = "literal"
_FILLS = {"propagation": "propagation", "propagation-stcn": "propagation_stcn"}
_WARM_UP = 1  # frames left out of the times: caches fill and loops compile


@dataclass(frozen=True)
class InferenceRow:
    """One way of running.

    Attributes:
        seconds: mean per frame; ratio: how many times faster than the literal reading, from the same frames;
        equal: share of all pixels with the literal reading's label; largest: largest difference of a probability;
        peak_rss_mb: highest resident memory of its process, 2**20 bytes.
    """

    name: str
    seconds: float
    ratio: float
    equal: float
    largest: float
    peak_rss_mb: float


@dataclass(frozen=True)
class InferenceReport:
    """The comparison, and what this machine can do.

    Attributes:
        gflop: operations per frame of the networks with direct convolutions, 1e9, what objects share counted once;
        literal_gflop: the same with everything repeated for every object;
        matmul_gflops: measured float32 rate, 1e9 operations per second; floor: seconds per frame at that rate.
    """

    model: str
    frames: int
    objects: int
    height: int
    width: int
    threads: int
    gflop: float
    literal_gflop: float
    matmul_gflops: float
    rows: tuple[InferenceRow, ...]

    @property
    def floor(self) -> float:
        return self.gflop / self.matmul_gflops

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "floor": self.floor}


def compare_inference(
    choice: ModelChoice,
    *,
    precisions: Sequence[str] = (),
    noise: bool = False,
    frames: int = 60,
    objects: int = 2,
    size: int = 480,
    source: Path | None = None,
    progress: Report | None = None,
) -> InferenceReport:
    """Runs a clip's first frames through the literal reading and through `follow`.

    Args:
        choice: of the model "mivos" or "mivos-stcn"; without checkpoints the weights are synthetic.
        precisions: further precisions to run the networks in; noise: run the literal reading on one thread, too. Its
            sums are then rounded in another order, which shows how much of a difference is rounding.
        frames: at least 3; source: a video or image folder, None = the one of `measure_speed`.

    Raises:
        UsageError: a model without a literal reading, or counts that make no sense. VideoError: too short a video.
        ModelError: weights, engine or precision cannot be used.
    """
    part = registry.model_spec(choice.name).propagation
    if part.network not in _FILLS:
        raise UsageError(f"model {choice.name!r} has no literal reading", hint="use --model mivos or mivos-stcn")
    if frames < 3 or objects < 1 or size < 16:
        raise UsageError("at least 3 frames, 1 object and a size of 16 are needed")
    images = list(islice(read_at_size(source or default_video(), frames, size, crop=source is None), frames))
    if len(images) < frames:
        raise VideoError(f"{source or default_video()}: has {len(images)} frames, {frames} are needed")
    height, width = images[0].shape[:2]
    labels = blobs(height, width, objects)
    if choice.checkpoints and registry.PROPAGATION not in registry.assign(choice.name, choice.checkpoints):
        raise UsageError(f"no file given holds the network {part.network!r}", hint="add --checkpoint with it")
    with ExitStack() as stack:
        if not choice.checkpoints:
            choice = replace(choice, checkpoints=(stack.enter_context(_synthetic(part)),))
        workers = {LITERAL: stack.enter_context(fresh_process(_serve, _run_literally, choice, images, labels, None))}
        if noise:
            workers[f"{LITERAL}, 1 thread"] = stack.enter_context(
                fresh_process(_serve, _run_literally, choice, images, labels, 1)
            )
        for precision in dict.fromkeys((choice.precision, *precisions)):
            other = replace(choice, precision=precision)
            workers[f"mivos {precision}"] = stack.enter_context(fresh_process(_serve, _run, other, images, labels))
        rows = _take_turns(workers, frames - 1, progress)
    return InferenceReport(
        model=choice.name,
        frames=frames,
        objects=objects,
        height=height,
        width=width,
        threads=torch.get_num_threads(),
        gflop=count_operations(choice.name, height, width, objects),
        literal_gflop=count_operations(choice.name, height, width, objects, shared=False),
        matmul_gflops=matmul_gflops(),
        rows=rows,
    )


def _take_turns(workers: dict[str, Connection], steps: int, progress: Report | None) -> tuple[InferenceRow, ...]:
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    equal: dict[str, list[float]] = {name: [] for name in workers}
    largest = dict.fromkeys(workers, 0.0)
    for step in range(steps):
        wanted = np.empty(0)
        for name, worker in workers.items():
            spent, probs = _ask(worker, "next")
            if name == LITERAL:
                wanted = probs
            seconds[name].append(spent)
            equal[name].append(float((probs.argmax(0) == wanted.argmax(0)).mean()))
            largest[name] = max(largest[name], float(np.abs(probs - wanted).max()))
        if progress is not None:
            progress(Progress("inference", step + 1, steps))
    means = {name: float(np.mean(times[_WARM_UP:])) for name, times in seconds.items()}
    peaks = {name: _ask(worker, "peak") for name, worker in workers.items()}
    return tuple(
        InferenceRow(
            name, means[name], means[LITERAL] / means[name], float(np.mean(equal[name])), largest[name], peaks[name]
        )
        for name in workers
    )


def _ask(worker: Connection, what: str) -> Any:
    worker.send(what)
    return receive(worker, "a measuring process", "try --size 240")


def _serve(pipe: Connection, target: Any, *args: Any) -> None:
    """Answers "next" with (seconds, float32 [K + 1, H, W]) and "peak" with megabytes."""
    results: Iterator[np.ndarray] | None = None
    while True:
        if pipe.recv() == "peak":
            pipe.send(peak_rss_mb())
            continue
        results = target(*args) if results is None else results
        begin = time.perf_counter()
        probs = next(results)
        pipe.send((time.perf_counter() - begin, probs))


def _run_literally(
    choice: ModelChoice, images: list[np.ndarray], labels: np.ndarray, threads: int | None
) -> Iterator[np.ndarray]:
    torch.set_num_threads(threads or torch.get_num_threads())
    part = registry.model_spec(choice.name).propagation
    path = registry.assign(choice.name, choice.checkpoints)[registry.PROPAGATION]
    network = part.build().eval()
    network.load_state_dict(adapt(read_checkpoint(path), part.network, path))
    return segment_literally(literal(network), images, labels)  # type: ignore[arg-type]


def _run(choice: ModelChoice, images: list[np.ndarray], labels: np.ndarray) -> Iterator[np.ndarray]:
    results = follow(Networks(choice), images.__getitem__, labels.shape, len(images), {0: labels})  # type: ignore[arg-type]
    next(results)  # the given frame
    return (item.probs for item in results)


@contextmanager
def _synthetic(part: registry.Part) -> Iterator[Path]:
    """A weight file filled by the rule of `synthetic_weights`."""
    with tempfile.TemporaryDirectory(prefix="mivos-inference-") as folder:
        path = Path(folder) / f"{part.network}.pth"
        torch.save(synthetic_state(_FILLS[part.network], part.build()), path)
        yield path
