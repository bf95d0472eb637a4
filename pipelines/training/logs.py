"""What a run tells: one JSON line per entry, and TensorBoard where that is installed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stores.errors import StorageFullError
from stores.files import atomic_file

log = logging.getLogger("mivos")
LOG = "log.jsonl"
SMOOTH = 0.02  # weight of the newest step in the running means


class Scores:
    """Means of what steps report: running ones for the eye, exact ones over an interval for the log."""

    def __init__(self) -> None:
        self.running: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.running[key] = self.running.get(key, value) * (1 - SMOOTH) + value * SMOOTH
            self._sums[key] = self._sums.get(key, 0.0) + value
            self._counts[key] = self._counts.get(key, 0) + 1

    def interval(self) -> dict[str, float]:
        """Means since the last call."""
        means = {key: total / self._counts[key] for key, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means


class RunLog:
    """The log of one run; processes other than the first have one that keeps silent."""

    def __init__(self, out: Path, board: Path | None, *, active: bool, iteration: int, text: str) -> None:
        """
        Args:
            board: folder for TensorBoard, ``<out>/tensorboard`` when None. iteration: where the run (re)starts; what
            was logged after that, by a process that was killed, is dropped. text: facts of the run.
        """
        self.path, self.writer = out / LOG, None
        if not active:
            return
        if self.path.exists():
            self._drop_after(iteration)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            if board is not None:
                log.warning("TensorBoard is not installed, only %s is written", self.path)
            return
        self.writer = SummaryWriter(board or out / "tensorboard", purge_step=iteration + 1 if iteration else None)
        if not iteration:
            self.writer.add_text("run", text)

    def line(self, iteration: int, seconds: float, values: dict[str, Any]) -> None:
        """One line of the text log."""
        try:
            with self.path.open("a") as file:
                file.write(json.dumps({"iteration": iteration, "seconds": round(seconds, 1), **values}) + "\n")
        except OSError as error:
            raise StorageFullError(
                f"{self.path}: cannot be written: {error.strerror or error}", hint="free some space; --resume goes on"
            ) from error

    def scalars(self, iteration: int, values: dict[str, float], group: str = "train") -> None:
        if self.writer is not None:
            with self._room():
                for key, value in values.items():
                    self.writer.add_scalar(f"{group}/{key}", value, iteration)

    def pictures(self, iteration: int, rows: list[list[Tensor]]) -> None:
        if self.writer is not None and rows:
            with self._room():
                self.writer.add_image("train/pairs", montage(rows), iteration, dataformats="HWC")

    def close(self) -> None:
        if self.writer is not None:
            with self._room():
                self.writer.close()

    @contextmanager
    def _room(self) -> Iterator[None]:
        """TensorBoard writes in a thread of its own and names no file when that fails."""
        try:
            yield
        except OSError as error:
            where = self.writer.log_dir if self.writer is not None else self.path
            raise StorageFullError(
                f"{where}: cannot be written: {error.strerror or error}", hint="free some space; --resume goes on"
            ) from error

    def _drop_after(self, iteration: int) -> None:
        kept = []
        for line in self.path.read_text().splitlines():
            try:
                if json.loads(line)["iteration"] <= iteration:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue  # cut short when the process was killed
        with atomic_file(self.path) as file:
            file.write("".join(kept).encode())


def montage(rows: list[list[Tensor]]) -> np.ndarray:
    """Pictures side by side, uint8 [H, W, 3]: RGB uint8 [s, s, 3] as they are, planes [s, s] of 0..1 in grey."""
    drawn = []
    for row in rows:
        line = []
        for item in row:
            picture = item.detach().cpu()
            if picture.dim() == 2:
                scale = 255 if picture.is_floating_point() or picture.max() <= 1 else 1
                picture = (picture.float() * scale).clamp(0, 255).to(torch.uint8)[..., None].expand(-1, -1, 3)
            line.append(picture.numpy())
        drawn.append(np.concatenate(line, axis=1))
    width = max(line.shape[1] for line in drawn)
    return np.concatenate([np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0))) for line in drawn])
