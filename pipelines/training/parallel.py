"""Several processes that train one network, as started by torchrun; a single process is the same with a world of one.

Gradients are averaged by DistributedDataParallel around a whole training step, so that a step may call its network
several times.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipelines.training.base import Batch, Job, Moment, Outcome
from stores.errors import ModelError, UsageError

PATIENCE = timedelta(hours=12)  # the others wait while the first process validates


@dataclass(frozen=True)
class Group:
    """This process among all of a run. `rank` 0 writes files."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Mean over processes; every process must call it."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.size
        return values

    def from_first(self, value: float) -> float:
        """The value that the first process has; every process must call it."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float32, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared.item())

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """ "auto" is cuda where there is one, else mps, else cpu; on cuda every process has a device of its own.

    Raises:
        UsageError: not a device. ModelError: this machine lacks it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name not in ("cpu", "cuda", "mps"):
        raise UsageError(f"unknown device {name!r}", hint="choose auto, cpu, cuda or mps")
    if name == "cuda" and not torch.cuda.is_available() or name == "mps" and not torch.backends.mps.is_available():
        raise ModelError(f"device {name!r} is not available here", hint="use --device auto")
    if name != "cuda":
        return torch.device(name)
    if local_rank >= torch.cuda.device_count():
        raise ModelError(f"process {local_rank} has no GPU of its own", hint="start as many processes as GPUs")
    return torch.device("cuda", local_rank)


@contextmanager
def process_group(device: str) -> Iterator[Group]:
    """Joins the processes of this run, by torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, ...)."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = pick_device(device, int(os.environ.get("LOCAL_RANK", str(rank))))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        yield Group(0, 1, chosen)
        return
    if dist.is_initialized():
        yield Group(rank, size, chosen)
        return
    try:
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, init_method="env://", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"cannot join {size} processes: {error}", hint="start them with torchrun") from error
    try:
        yield Group(rank, size, chosen)
    finally:
        dist.destroy_process_group()


class Step(nn.Module):
    """A job's loss as a module whose parameters are those of the network."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.network = job.network
        self.__dict__["job"] = job  # no submodule of it: its helper is not trained

    def forward(self, batch: Batch, moment: Moment) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        outcome: Outcome = self.__dict__["job"].loss(batch, moment)
        return outcome.loss, outcome.scores, outcome.shown


def distributed(step: Step, group: Group, *, batch_norm: str) -> nn.Module:
    """The step with gradients averaged over processes, and statistics of BatchNorm shared where they are trained."""
    if group.size == 1:
        return step
    if batch_norm == "train":
        _share_statistics(step, group)
    devices = [group.device] if group.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(step, device_ids=devices, broadcast_buffers=False)


def _share_statistics(step: Step, group: Group) -> None:
    if group.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(step)
        return
    for module in step.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm  # the same parameters and buffers


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes, for devices that torch's SyncBatchNorm does not know."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        sums = torch.stack([x.sum((0, 2, 3)), x.square().sum((0, 2, 3))])
        count = torch.full((1, sums.shape[1]), x.numel() / x.shape[1], device=x.device, dtype=sums.dtype)
        total = _AllSum.apply(torch.cat([sums, count]))
        mean, square, n = total[0] / total[2], total[1] / total[2], total[2]
        variance = (square - mean.square()).clamp(min=0)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * n / (n - 1).clamp(min=1), momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


class _AllSum(torch.autograd.Function):
    """Sum over processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clone()
        dist.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad
