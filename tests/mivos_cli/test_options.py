"""The options offer what the pipelines can do."""

from __future__ import annotations

from pathlib import Path

from mivos_cli.options import OutputFormat, choose, unique_formats
from pipelines.engine import ModelChoice
from pipelines.stages.encode import FORMATS


def test_formats_are_those_of_the_encode_stage() -> None:
    assert {format.value for format in OutputFormat} == set(FORMATS)


def test_unique_formats_keep_their_order() -> None:
    given = [OutputFormat.COCO, OutputFormat.PNG, OutputFormat.COCO]
    assert unique_formats(given) == ("coco", "png")


def test_model_options_become_a_choice() -> None:
    choice = choose("mivos", [Path("a.pth")], "auto", "torch", "bfloat16")
    assert choice == ModelChoice("mivos", None, "torch", "bfloat16", (Path("a.pth"),))
    assert choose("nano", None, "cpu", "auto") == ModelChoice("nano", "cpu")
