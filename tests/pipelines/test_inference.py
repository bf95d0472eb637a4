"""The comparison with the literal reading: it measures two different programs that agree."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.engine import ModelChoice
from pipelines.evaluation.inference import compare_inference
from pipelines.evaluation.literal import literal
from pipelines.evaluation.operations import count_operations
from stores.davis import write_jpeg
from stores.errors import UsageError, VideoError
from tests.pipelines.reference import SMALL, image, load, network, planes


@pytest.mark.parametrize(("model", "name"), [("mivos", "propagation"), ("mivos-stcn", "propagation_stcn")])
def test_both_ways_agree(model: str, name: str, checkpoint_files: dict[str, Path], bikes_video: Path) -> None:
    choice = ModelChoice(model, "cpu", checkpoints=(checkpoint_files[name],))
    report = compare_inference(choice, frames=8, size=112, source=bikes_video)
    slow, fast = report.rows
    assert (slow.name, slow.ratio, slow.equal) == ("literal", 1.0, pytest.approx(1))
    assert fast.equal >= 0.999 and fast.largest < 0.02 and fast.seconds > 0
    assert fast.ratio == pytest.approx(slow.seconds / fast.seconds)
    assert report.to_json()["floor"] == pytest.approx(report.gflop / report.matmul_gflops)


@pytest.mark.parametrize(("form", "name"), [("main", "propagation"), ("stcn", "propagation_stcn")])
def test_the_literal_reading_is_the_authors(form: str, name: str, golden: Path) -> None:
    """Its read-out and probabilities against the recorded ones, 144 memory positions of three frames."""
    data = load(golden / f"propagation_{form}.npz")
    model, top = literal(network(name)), {"main": 50, "stcn": 20}[form]  # type: ignore[arg-type]
    frames = {int(i): n for n, i in enumerate(data["frame_ids"])}
    labels = {int(i): n for n, i in enumerate(data["label_ids"])}
    memory = []
    with torch.inference_mode():
        for index in (0, 3, 6):
            picture = image(data["frames"][frames[index]])
            memory.append(model.memorise(picture, model.query(picture), planes(data["labels"][labels[index]], 1, 2)))
        keys, values = (torch.cat([frame[i] for frame in memory], dim=2) for i in (0, 1))
        probs = model.segment((keys, values), model.query(image(data["frames"][frames[8]])))
    torch.testing.assert_close(probs, data[f"seg_T3_k{top}"], **SMALL)


def test_operations_shared_by_objects_are_counted_once() -> None:
    one, two = (count_operations("mivos", 480, 854, k) for k in (1, 2))
    repeated = count_operations("mivos", 480, 854, 2, shared=False)
    assert one < two < repeated and math.isclose(repeated, 860, rel_tol=0.05)
    assert count_operations("nano", 480, 854, 1) < 0.1 * one


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no literal reading"):
        compare_inference(ModelChoice("nano"))
    with pytest.raises(UsageError, match="at least 3 frames"):
        compare_inference(ModelChoice("mivos"), frames=1)
    write_jpeg(tmp_path / "00000.jpg", np.zeros((32, 48, 3), np.uint8))
    with pytest.raises(VideoError, match="has 1 frames"):
        compare_inference(ModelChoice("mivos"), frames=3, size=32, source=tmp_path)
