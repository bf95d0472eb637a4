"""The training loop: restartable, deterministic in its data, with averaged weights and a plain-text log."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pipelines.allocator import keep_freed_memory
from pipelines.training.recipes import RECIPES, Batch, Recipe
from stores.errors import ModelError, UsageError

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"


@dataclass(frozen=True)
class TrainReport:
    """Where a run stands when `train` returns."""

    recipe: str
    iterations: int
    seconds: float
    weights: str
    scores: dict[str, float]

    def to_json(self) -> dict:
        return asdict(self)


class _Samples(Dataset):
    """Sample i of a run, whatever process asks for it."""

    def __init__(self, recipe: Recipe, start: int, end: int) -> None:
        self.recipe, self.start, self.end = recipe, start, end

    def __len__(self) -> int:
        return self.end - self.start

    def __getitem__(self, item: int) -> Batch:
        return self.recipe.sample(self.start + item)


def _batches(recipe: Recipe, iteration: int, iterations: int, workers: int) -> Iterator[Batch]:
    size = recipe.schedule.batch
    samples = _Samples(recipe, iteration * size, iterations * size)
    return iter(DataLoader(samples, batch_size=size, num_workers=workers, prefetch_factor=3 if workers else None))


def _optimiser(recipe: Recipe) -> torch.optim.Optimizer:
    s = recipe.schedule
    trunk: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in recipe.network.named_parameters():
        if parameter.requires_grad:
            (trunk if name.startswith("trunk.") else rest).append(parameter)
    groups = [{"params": p, "lr": lr} for p, lr in ((trunk, s.trunk_lr), (rest, s.lr)) if p]
    for group in groups:
        group["initial_lr"] = group["lr"]
    return torch.optim.AdamW(groups, weight_decay=s.weight_decay)


def freeze_batch_norm(network: nn.Module) -> None:
    """Training mode with BatchNorm statistics as they are; their scale and shift still learn."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def save_weights(state: dict[str, Tensor], path: Path, *, half: bool = True) -> None:
    """Writes safetensors atomically, floating tensors in fp16 by default, counters left out."""
    kept = {k: v.detach().cpu() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    kept = {k: (v.half() if half and v.is_floating_point() else v).contiguous() for k, v in kept.items()}
    temporary = path.with_suffix(".tmp")
    save_file(kept, temporary)
    os.replace(temporary, path)


def train(
    recipe: str,
    data: Path,
    out: Path,
    *,
    iterations: int | None = None,
    minutes: float | None = None,
    threads: int | None = None,
    seed: int = 14159265,
    workers: int = 1,
    save_every: float = 120.0,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> TrainReport:
    """Trains one embedded network; run again with the same `out` to go on where it stopped.

    Args:
        recipe: a key of `RECIPES`.
        data: root in DAVIS layout, with optional ``static/**/NAME.jpg`` + ``NAME.png``.
        out: run directory: checkpoint, log and ``<recipe>.safetensors`` (averaged weights, fp16).
        iterations: length of the run; the recipe's own when None.
        minutes: training time after which the learning rate has fallen to zero and the run ends, counted over
            restarts; without it the iterations decide.
        threads: torch threads; torch's choice when None.
        save_every: seconds between checkpoints.
        progress: called with iteration, iterations and averaged scores.

    Raises:
        UsageError: unknown recipe. DatasetError: unusable data. ModelError: the checkpoint is of another recipe.
    """
    if recipe not in RECIPES:
        raise UsageError(f"unknown recipe {recipe!r}", hint=f"choose one of: {', '.join(RECIPES)}")
    if threads:
        torch.set_num_threads(threads)
    keep_freed_memory()
    torch.manual_seed(seed)
    job = RECIPES[recipe](data, seed)
    total = iterations or job.schedule.iterations
    network = job.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    freeze_batch_norm(network)
    optimiser = _optimiser(job)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(job.schedule.average)
    )
    out.mkdir(parents=True, exist_ok=True)
    iteration, spent = _resume(out / CHECKPOINT, recipe, network, average, optimiser)
    scores: dict[str, float] = {}
    saved = started = time.monotonic()
    for batch in _batches(job, iteration, total, workers):
        done = max((iteration + 1) / total, (spent + time.monotonic() - started) / (60 * minutes) if minutes else 0)
        if done >= 1 and iteration > 0 and minutes:
            break
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * _rate(done, job.schedule.warmup)
        loss, facts = job.loss(batch, done)
        if not torch.isfinite(loss):  # never into a checkpoint
            raise ModelError(
                f"the loss became {float(loss.detach())} at iteration {iteration}", hint="lower the learning rate"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), job.schedule.clip)
        optimiser.step()
        average.update_parameters(network)
        iteration += 1
        for key, value in {"loss": float(loss.detach()), **facts}.items():
            scores[key] = scores.get(key, value) * 0.98 + value * 0.02
        if progress:
            progress(iteration, total, scores)
        now = time.monotonic()
        if now - saved > save_every:
            saved = now
            _save(out, recipe, network, average, optimiser, iteration, spent + now - started, scores)
    spent += time.monotonic() - started
    _save(out, recipe, network, average, optimiser, iteration, spent, scores)
    return TrainReport(recipe, iteration, spent, str(out / f"{recipe}.safetensors"), scores)


def _rate(done: float, warmup: float) -> float:
    return min(1.0, done / warmup) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _save(
    out: Path,
    recipe: str,
    network: nn.Module,
    average: torch.optim.swa_utils.AveragedModel,
    optimiser: torch.optim.Optimizer,
    iteration: int,
    seconds: float,
    scores: dict[str, float],
) -> None:
    state = {
        "recipe": recipe,
        "iteration": iteration,
        "seconds": seconds,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    temporary = out / (CHECKPOINT + ".tmp")
    torch.save(state, temporary)
    os.replace(temporary, out / CHECKPOINT)
    save_weights(average.module.state_dict(), out / f"{recipe}.safetensors")
    with (out / LOG).open("a") as log:
        log.write(json.dumps({"iteration": iteration, "seconds": round(seconds, 1), **scores}) + "\n")


def _resume(
    path: Path,
    recipe: str,
    network: nn.Module,
    average: torch.optim.swa_utils.AveragedModel,
    optimiser: torch.optim.Optimizer,
) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True, map_location="cpu")
    if state["recipe"] != recipe:
        raise ModelError(f"{path} belongs to a run of {state['recipe']!r}", hint="choose another --out")
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["iteration"]), float(state["seconds"])
