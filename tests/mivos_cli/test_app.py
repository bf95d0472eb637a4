"""Help is quick and light, and each kind of failure has its exit code and its one line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from mivos_cli import __version__
from mivos_cli.app import COMMANDS, app
from stores.errors import OutputExistsError, UsageError, VideoError
from tests.mivos_cli.conftest import environment, start_mivos

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "zarr",
    "icechunk",
    "av",
    "cv2",
    "numpy",
    "openvino",
    "pipelines.flow",
)
COMMAND_LINES = [[name] for commands in COMMANDS.values() for name in commands] + [
    ["bench", "dev"],
    ["bench", "speed"],
]


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, mivos_cli.app; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.stdout.strip() == "[]", done.stderr


def test_help_answers_at_once() -> None:
    seconds = []
    for _ in range(3):
        process = start_mivos("--help", stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        # Processor time, not time on the wall: other work on the machine must not fail this.
        seconds.append(usage.ru_utime + usage.ru_stime)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("command", COMMAND_LINES, ids=" ".join)
def test_every_command_has_help_json_and_verbose(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "-h"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "--json" in result.stdout and "--verbose" in result.stdout and "-v" in result.stdout


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"mivos {__version__}\n")


def test_an_unknown_option_is_wrong_usage() -> None:
    result = CliRunner().invoke(app, ["info", "--nonsense"])
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("failure", "code", "lines"),
    [
        (
            VideoError("no.mp4: not a video", hint="try another"),
            1,
            ["error: no.mp4: not a video", "hint: try another"],
        ),
        (UsageError("what?"), 2, ["error: what?"]),
        (OutputExistsError("out is there"), 2, ["error: out is there"]),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.png"),
            1,
            ["error: No space left on device: x.png"],
        ),
        (KeyboardInterrupt(), 130, ["interrupted; the same command continues where this one stopped"]),
        (
            ValueError("first\nsecond"),
            1,
            ["error: unexpected ValueError: first second", "hint: set MIVOS_DEBUG=1 for the traceback"],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failures(fake_flow: ModuleType, failure: BaseException, code: int, lines: list[str]) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise failure

    fake_flow.fuse = fail  # type: ignore[attr-defined]
    result = CliRunner().invoke(app, ["fuse", "somewhere", "--json"], env={"MIVOS_DEBUG": ""})
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.splitlines() == lines


def test_debugging_shows_the_traceback(fake_flow: ModuleType) -> None:
    result = CliRunner().invoke(app, ["fuse", "somewhere"], env={"MIVOS_DEBUG": "1"})
    assert result.exit_code == 1
    assert "Traceback" in result.stderr and "AttributeError" in result.stderr


def test_a_reader_that_leaves_is_no_traceback(tmp_path: Path) -> None:
    code = (
        "import sys, typer\nfrom mivos_cli.app import guarded\n"
        "try:\n    guarded(lambda: print('x' * 10_000_000))()\n"
        "except typer.Exit as end:\n    sys.exit(end.exit_code)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), error) == (141, b"")
