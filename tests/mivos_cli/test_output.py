"""Results on stdout, everything else on stderr; progress only where it can be read."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import dataclass

import pytest
from rich.console import Console

from mivos_cli.output import Output, path_lines, row_table, stage_table
from mivos_cli.progress import Bars, plain_lines


@dataclass(frozen=True)
class Step:
    stage: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Report:
    stage: str
    frames: int
    seconds: float
    skipped: bool


def _console(**options: bool) -> Console:
    return Console(file=io.StringIO(), width=100, highlight=False, **options)  # type: ignore[arg-type]


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_json_goes_to_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True).result({"frames": 3}, lambda console: console.print("not this"))
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"frames": 3}
    assert captured.err == ""


def test_people_get_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    Output().result({"frames": 3}, lambda console: console.print("this"))
    assert capsys.readouterr().out == "this\n"


@pytest.mark.parametrize(("verbose", "expected"), [(False, ""), (True, "decode 1/2\ndecode 2/2\n")])
def test_progress_without_a_terminal(capsys: pytest.CaptureFixture[str], verbose: bool, expected: str) -> None:
    with Output(verbose=verbose).progress() as progress:
        progress(Step("decode", 1, 2))  # type: ignore[arg-type]
        progress(Step("decode", 2, 2))  # type: ignore[arg-type]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", expected)


def test_plain_lines_are_few() -> None:
    console = _console()
    update = plain_lines(console)
    for done in range(1, 1001):
        update(Step("propagate", done, 1000))  # type: ignore[arg-type]
    lines = _text(console).splitlines()
    assert lines[0] == "propagate 1/1000" and lines[-1] == "propagate 1000/1000"
    assert len(lines) < 10


def test_bars_show_each_stage_and_its_rate() -> None:
    console = _console(force_terminal=True)
    with Bars(console) as bars:
        bars.update(Step("decode", 1, None))  # type: ignore[arg-type]
        bars.update(Step("propagate", 1, 4))  # type: ignore[arg-type]
        bars.update(Step("propagate", 4, 4))  # type: ignore[arg-type]
    text = _text(console)
    assert "decode" in text and "propagate" in text and "4/4" in text and "frames/s" in text


def test_warnings_are_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Output()
    logging.getLogger("mivos").warning("the source is %s", "gone")
    logging.getLogger("mivos").info("not this")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "warning: the source is gone\n")


def test_stage_table_tells_work_from_skipped_work() -> None:
    console = _console()
    stages = [Report("decode", 10, 0.0, True), Report("propagate", 10, 2.0, False)]
    stage_table(console, "10 frames", stages)  # type: ignore[arg-type]
    text = _text(console)
    assert "already done" in text and "5.0" in text


def test_row_table_takes_columns_from_the_rows() -> None:
    console = _console()
    row_table(console, "scores", [{"sequence": "a", "j": 1.0}, {"sequence": "b", "f": 12.345}])
    text = _text(console)
    assert "12.35" in text or "12.34" in text
    assert "sequence" in text and " -" in text


def test_long_paths_stay_on_one_line() -> None:
    console = _console()
    path_lines(console, {"png": "/" + "long/" * 60})
    assert len(_text(console).splitlines()) == 1
