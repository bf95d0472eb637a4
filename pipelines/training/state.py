"""What a run keeps on disk: the checkpoint it resumes from, and weight files. All are written atomically."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from stores.errors import ModelError, StorageFullError, UsageError
from stores.files import atomic_file

CHECKPOINT = "checkpoint.pt"


@dataclass
class RunState:
    """All that changes in a run. Random numbers need no state: every step seeds them by its own number.

    Attributes:
        title: of the recipe; facts: what a continuation must agree with; average: averaged weights, if the recipe has
            them; seconds: training time so far.
    """

    title: str
    facts: dict[str, Any]
    network: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: torch.optim.swa_utils.AveragedModel | None
    iteration: int = 0
    seconds: float = 0.0

    def save(self, folder: Path) -> None:
        """Writes the checkpoint; StorageFullError if that fails, the one before then is still there."""
        content = {
            "recipe": self.title,
            "facts": self.facts,
            "iteration": self.iteration,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        if self.average is not None:
            content["average"] = self.average.state_dict()
        write_torch(content, folder / CHECKPOINT)

    def resume(self, folder: Path) -> bool:
        """Takes up the checkpoint in a folder, if there is one.

        Raises:
            ModelError: it is of another recipe, damaged, or no checkpoint of a run.
            UsageError: it was begun with other options.
        """
        path = folder / CHECKPOINT
        if not path.exists():
            return False
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # a damaged file can fail in any way
            raise ModelError(f"{path}: cannot be read: {error}".splitlines()[0], hint="start anew elsewhere") from error
        if not isinstance(content, dict) or "recipe" not in content:
            raise ModelError(f"{path}: is no checkpoint of a training run", hint="choose another --out")
        if content["recipe"] != self.title:
            raise ModelError(f"{path} belongs to a run of {content['recipe']!r}", hint="choose another --out")
        begun = content.get("facts", {})  # older runs have none
        changed = [key for key in begun if key in self.facts and begun[key] != self.facts[key]]
        if changed:
            was = ", ".join(f"{key} {begun[key]}, now {self.facts[key]}" for key in changed)
            raise UsageError(f"{path}: was begun with {was}", hint="give the same options, or choose another --out")
        try:
            self._take(content)
        except KeyError as error:
            raise ModelError(f"{path}: lacks {error}", hint="choose another --out") from error
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{path}: does not fit the network: {reason}", hint="choose another --out") from error
        return True

    def _take(self, content: dict[str, Any]) -> None:
        self.network.load_state_dict(content["network"])
        self.optimiser.load_state_dict(content["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        if content.get("scaler"):
            self.scaler.load_state_dict(content["scaler"])
        self.iteration, self.seconds = int(content["iteration"]), float(content["seconds"])

    def weights(self) -> dict[str, Tensor]:
        """The state dict to use: averaged, if the recipe averages."""
        return (self.network if self.average is None else self.average.module).state_dict()


def write_torch(content: Any, path: Path) -> None:
    """`torch.save` that leaves the old file or the whole new one.

    Raises:
        StorageFullError: the file cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        # PyTorch only says that its position in the file is not what it expected.
        full = isinstance(error, RuntimeError) and shutil.disk_usage(path.parent).free < 2**16
        reason = os.strerror(errno.ENOSPC) if full else getattr(error, "strerror", None) or str(error).splitlines()[0]
        temporary.unlink(missing_ok=True)
        raise StorageFullError(f"{path}: cannot be written: {reason}", hint="free some space") from error


def save_weights(state: dict[str, Tensor], path: Path, *, half: bool = True) -> None:
    """Writes safetensors atomically, floating tensors in fp16 by default, counters left out.

    Raises:
        StorageFullError: the file cannot be written, or its folder is not there.
    """
    if not path.parent.is_dir():
        raise StorageFullError(f"{path}: cannot be written: {path.parent} is not a folder", hint="make that folder")
    kept = {k: v.detach().cpu() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    kept = {k: (v.half() if half and v.is_floating_point() else v).contiguous() for k, v in kept.items()}
    with atomic_file(path) as file:
        file.write(save(kept))


def save_published(state: dict[str, Tensor], path: Path) -> None:
    """Writes a bare state dict in the authors' key names, float32, as ``mivos --checkpoint`` loads it."""
    write_torch({key: value.detach().cpu().contiguous() for key, value in state.items()}, path)
