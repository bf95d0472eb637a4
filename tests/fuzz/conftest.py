"""How many cases there are, and the table of them at the end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.sandbox import TALLIES, summary

CASES = int(os.environ.get("CASES", "10000"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for the files of cases."""
    folder = tmp_path / "cases"
    folder.mkdir()
    return folder


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if TALLIES:
        terminalreporter.section("fuzzing")
        for line in summary():
            terminalreporter.write_line(line)
