"""What `stores.dataset_check` found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One kind of problem.

    Attributes:
        level: "error" (training would fail or learn nonsense) or "warning"; kind: its short name, a key of `RULES`;
        count: how often; first: the first file or folder, relative to the root; detail: about the first.
    """

    level: str
    kind: str
    text: str
    hint: str
    count: int
    first: str
    detail: str

    def line(self) -> str:
        """Everything in one line."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.level}: {self.text}: {self.count}, first {self.first}{detail} -> {self.hint}"


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        layouts: "davis", "bl30k", "youtube", "static"; videos, frames, stills: looked at; quick: headers only.
    """

    root: str
    layouts: tuple[str, ...]
    videos: int
    frames: int
    stills: int
    quick: bool
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> int:
        """Kinds of errors."""
        return sum(problem.level == "error" for problem in self.problems)

    @property
    def warnings(self) -> int:
        """Kinds of warnings."""
        return len(self.problems) - self.errors

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {**asdict(self), "errors": self.errors, "warnings": self.warnings}
