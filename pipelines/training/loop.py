"""The training loop: restartable, deterministic in its data, in one process or several."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, default_collate

from pipelines.allocator import keep_freed_memory
from pipelines.training.base import Batch, Moment, Recipe, Samples, Setting
from pipelines.training.logs import LOG, RunLog, Scores
from pipelines.training.options import TrainOptions, TrainReport
from pipelines.training.parallel import Group, Step, distributed, process_group
from pipelines.training.recipes import RECIPES, find_recipe
from pipelines.training.samples import share_cache
from pipelines.training.state import CHECKPOINT, RunState, save_published, save_weights
from stores.errors import MivosError, ModelError, UsageError

__all__ = ["CHECKPOINT", "LOG", "RECIPES", "TrainOptions", "TrainReport", "save_weights", "train"]
Report = Callable[[int, int, dict[str, float]], None]


def train(
    recipe: Recipe | str,
    data: Path | None,
    out: Path,
    *,
    options: TrainOptions | None = None,
    progress: Report | None = None,
    **changes: Any,
) -> TrainReport:
    """Trains a network; run again with the same `out` to go on where it stopped, which gives the same weights.

    Under torchrun every process calls this alike; the first one writes. What is learnt does not depend on how the
    samples of a step are spread over processes, but for dropout, the choice of hard pixels over a batch (both of the
    authors' S2M) and the mean over visible objects of a batch (nano propagation), which are those of a process.

    Args:
        recipe: a part ("s2m", "propagation", "fusion": its nano recipe), "part/name" of `RECIPES`, or a recipe.
        data: root in DAVIS layout; None where the recipe needs none.
        out: run directory: checkpoint.pt, log.jsonl, tensorboard, and the weights.
        options: further options; `changes` are fields of them that are given by name.
        progress: called in the first process with iteration, iterations and running means of the scores.

    Raises:
        UsageError: unknown recipe, options that do not go together or differ from those of the run that is continued.
        DatasetError: unusable data. ModelError: weights or a device cannot be used, or the loss is not a number.
        StorageFullError: `out` cannot be written.
    """
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    wanted = replace(options or TrainOptions(), **changes)
    if wanted.minutes and chosen.published:
        raise UsageError("--minutes ends runs of nano recipes only", hint="use --iterations")
    if wanted.batch:
        chosen = replace(chosen, batch=wanted.batch)
    if wanted.threads:
        torch.set_num_threads(wanted.threads)
    keep_freed_memory()
    with process_group(wanted.device) as group:
        return _Run(chosen, data, out, wanted, group, progress).go()


class _Samples(Dataset):
    """The samples of one process, in the order of its steps.

    An error is handed out like a sample: raised in a loader process it would come back as text, without its hint.
    """

    def __init__(self, samples: Samples, recipe: Recipe, group: Group, start: int, end: int) -> None:
        self.samples, self.start, self.end = samples, start, end
        self.batch, self.size, self.rank = recipe.batch, group.size, group.rank

    def __len__(self) -> int:
        return (self.end - self.start) * self.batch

    def __getitem__(self, item: int) -> Batch | MivosError:
        step, place = divmod(item, self.batch)
        try:
            # a step takes consecutive samples whatever the number of processes
            return self.samples(((self.start + step) * self.size + self.rank) * self.batch + place)
        except MivosError as error:
            return error


def _batch(samples: list[Batch | MivosError]) -> Batch | MivosError:
    """The samples of a step in one batch, or the first error among them."""
    errors = (sample for sample in samples if isinstance(sample, MivosError))
    return next(errors, None) or tuple(default_collate(samples))


def _prepare_worker(processes: int, worker: int) -> None:
    """Makes a loader process one of so many on the machine."""
    import cv2

    cv2.setNumThreads(0)
    share_cache(processes)


@dataclass(frozen=True)
class _Precision:
    amp: bool
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        return torch.float16 if self.device.type == "cuda" else torch.bfloat16

    def cast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.amp)

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps small fp16 gradients; does nothing where bf16 or no mixed precision is used."""
        return torch.amp.GradScaler(self.device.type, enabled=self.amp and self.dtype == torch.float16)


class _Run:
    """One call of `train` in one process."""

    def __init__(
        self, recipe: Recipe, data: Path | None, out: Path, options: TrainOptions, group: Group, report: Report | None
    ) -> None:
        self.recipe, self.out, self.options, self.group, self.report = recipe, out, options, group, report
        self.total = options.iterations or recipe.iterations
        batch = recipe.batch * group.size
        amp = recipe.amp if options.amp is None else options.amp
        self.precision = _Precision(amp, group.device)
        torch.manual_seed(options.seed)  # every process builds the same network
        self.job = recipe.job(options.sources(data), Setting(options.seed, batch, self.total))
        if not (out / CHECKPOINT).exists():
            recipe.start(self.job.network, options.beginnings)
        self.network = self.job.network.to(group.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.job.helper is not None:
            self.job.helper.to(group.device).eval().requires_grad_(False)
        self.network.train()
        if recipe.batch_norm == "frozen":
            freeze_batch_norm(self.network)
        average = None
        if recipe.average is not None:
            ema = torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.average)
            average = torch.optim.swa_utils.AveragedModel(self.network, multi_avg_fn=ema)
        self.state = RunState(
            recipe.title,
            options.facts(recipe, self.total, batch, amp),
            self.network,
            _optimiser(recipe, self.network),
            self.precision.scaler(),
            average,
        )

    def go(self) -> TrainReport:
        state, options = self.state, self.options
        self.out.mkdir(parents=True, exist_ok=True)
        state.resume(self.out)
        text = "\n\n".join(f"{k}: {v}" for k, v in {**vars(self.recipe), **vars(options)}.items())
        self.log = RunLog(self.out, options.log, active=self.group.first, iteration=state.iteration, text=text)
        self.scores, self.valid = Scores(), dict[str, float]()
        step = distributed(Step(self.job), self.group, batch_norm=self.recipe.batch_norm)
        self.started = self.saved = time.monotonic()
        self.before = state.seconds
        save_every = self.recipe.save_every if options.save_every is None else options.save_every
        try:
            for batch in self._batches():
                moment = Moment(state.iteration, self.total, self._done())
                if moment.done >= 1 and state.iteration > 0 and options.minutes:
                    break
                rows = self._step(step, batch, moment)
                self._tell(rows)
                if time.monotonic() - self.saved > save_every and self.group.first:
                    self.saved = time.monotonic()
                    self._save()
                every = options.validate_every
                if every and state.iteration % every == 0 and state.iteration < self.total:
                    self._validate()
            if options.validate is not None:
                self._validate()
            weights = self._finish()
        finally:
            self.log.close()
        scores = {**self.scores.running, **self.valid}
        return TrainReport(state.title, state.iteration, state.seconds, str(weights), scores)

    def _batches(self) -> Iterator[Batch]:
        workers, cuda = self.options.workers, self.group.device.type == "cuda"
        samples = _Samples(self.job.samples, self.recipe, self.group, self.state.iteration, self.total)
        if not len(samples):
            return
        ahead = 3 if workers else None
        processes = self.group.size * max(1, workers)
        share_cache(processes)
        for batch in DataLoader(
            samples, self.recipe.batch, num_workers=workers, prefetch_factor=ahead, pin_memory=cuda, collate_fn=_batch,
            worker_init_fn=partial(_prepare_worker, processes),
        ):  # fmt: skip
            if isinstance(batch, MivosError):
                raise batch
            yield batch

    def _done(self) -> float:
        share = (self.state.iteration + 1) / self.total
        if not self.options.minutes:
            return share
        return self.group.from_first(max(share, self._seconds() / (60 * self.options.minutes)))

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def _step(self, step: nn.Module, batch: Batch, moment: Moment) -> list:
        state, recipe, device = self.state, self.recipe, self.group.device
        for group in state.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * recipe.rate(moment)
        # a step's random numbers (dropout) follow from its number, so that a continued run draws the same
        torch.manual_seed((self.options.seed * 1_000_003 + moment.iteration) * 4099 % 2**62 + self.group.rank)
        batch = tuple(tensor.to(device, non_blocking=True) for tensor in batch)
        with self.precision.cast():
            loss, scores, shown = step(batch, moment)
        values = torch.stack([loss.detach().float(), *(value.detach().float() for value in scores.values())]).tolist()
        if not all(map(_finite, values[:1])):  # never into the weights
            raise ModelError(
                f"the loss became {values[0]} at iteration {moment.iteration}; the last checkpoint is as it was",
                hint="lower the learning rate, or use --no-amp",
            )
        state.optimiser.zero_grad(set_to_none=True)
        state.scaler.scale(loss).backward()
        if recipe.clip is not None:
            state.scaler.unscale_(state.optimiser)
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        if state.average is not None:
            state.average.update_parameters(self.network)
        state.iteration += 1
        self.scores.add(dict(zip(("loss", *scores), values, strict=True)))
        due = self.group.first and (state.iteration % recipe.panel_every == 0 or state.iteration == 1)
        return self.job.panel(batch, shown) if due else []

    def _tell(self, rows: list) -> None:
        at, state = self.state.iteration, self.state
        if self.report and self.group.first:
            self.report(at, self.total, self.scores.running)
        if at % self.recipe.log_every == 0 or at == self.total:
            means = self.scores.interval()
            shared = self.group.mean(torch.tensor(list(means.values()), device=self.group.device)).tolist()
            means = dict(zip(means, shared, strict=True))
            if self.group.first:
                self.log.line(at, self._seconds(), means)
                self.log.scalars(at, {**means, "lr": state.optimiser.param_groups[0]["lr"]})
        if rows:
            self.log.pictures(at, rows)
        if self.recipe.keep_every and at % self.recipe.keep_every == 0 and self.group.first:
            save_published(state.weights(), self.out / f"{state.title}_{at}.pth")

    def _save(self) -> None:
        state = self.state
        state.seconds = self._seconds()
        state.save(self.out)
        if not self.recipe.published:  # theirs are large, and the checkpoint holds them: written at the end
            save_weights(state.weights(), self.out / f"{state.title}.safetensors")

    def _finish(self) -> Path:
        self.state.seconds = self._seconds()
        path = self.out / f"{self.state.title}{'.pth' if self.recipe.published else '.safetensors'}"
        if self.group.first:
            self._save()
            if self.recipe.published:
                save_published(self.state.weights(), path)
        self.group.wait()
        return path

    def _validate(self) -> None:
        if self.options.validate is not None and self.group.first:
            from pipelines.training.validation import validate  # with what evaluation needs; training does without

            state = self.state
            self.valid = validate(self.recipe, state.weights(), self.options, self.group.device)
            self.log.line(state.iteration, self._seconds(), self.valid)
            self.log.scalars(state.iteration, self.valid, "valid")
        self.group.wait()


def freeze_batch_norm(network: nn.Module) -> None:
    """BatchNorm statistics stay as they are; scale and shift still learn."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _optimiser(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    trunk: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (trunk if recipe.trunk_lr and name.startswith("trunk.") else rest).append(parameter)
    groups = [{"params": p, "lr": lr} for p, lr in ((trunk, recipe.trunk_lr or 0.0), (rest, recipe.lr)) if p]
    for group in groups:
        group["initial_lr"] = group["lr"]
    kind = torch.optim.AdamW if recipe.decoupled_decay else torch.optim.Adam
    return kind(groups, weight_decay=recipe.weight_decay)


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
