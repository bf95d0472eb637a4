"""Which networks run, as it was typed: the server answers before PyTorch is there to make sense of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mivos_cli.options import choose

if TYPE_CHECKING:
    from pipelines.engine import ModelChoice


@dataclass(frozen=True)
class Chosen:
    """The model options of the command line; see `pipelines.engine.ModelChoice`."""

    model: str = "nano"
    checkpoint: tuple[Path, ...] = ()
    device: str = "auto"
    engine: str = "auto"
    precision: str = "float32"
    fusion: Literal["full", "no-difference", "off"] = "full"
    memory_budget: str | None = None

    def choice(self) -> ModelChoice:
        """The Python API's form; imports PyTorch, which takes seconds the first time."""
        files = list(self.checkpoint)
        return choose(self.model, files, self.device, self.engine, self.precision, self.fusion, self.memory_budget)

    def check(self) -> None:
        """Raises the UsageError or ModelError of wrong options. The defaults are right, and cost no time here."""
        if self != Chosen():
            from pipelines.engine import networks

            networks(self.choice()).check("propagation")
