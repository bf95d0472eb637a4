"""The options offer what the pipelines can do."""

from __future__ import annotations

from mivos_cli.options import OutputFormat, device_name, unique_formats
from pipelines.stages.encode import FORMATS


def test_formats_are_those_of_the_encode_stage() -> None:
    assert {format.value for format in OutputFormat} == set(FORMATS)


def test_unique_formats_keep_their_order() -> None:
    given = [OutputFormat.COCO, OutputFormat.PNG, OutputFormat.COCO]
    assert unique_formats(given) == ("coco", "png")


def test_device_name() -> None:
    assert device_name("auto") is None
    assert device_name("cuda") == "cuda"
