"""The published recipes: every one takes a step on small real data, and begins as it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pipelines.networks.recognise import adapt, recognise
from pipelines.networks.s2m import S2M
from pipelines.networks.stcn import STCN
from pipelines.training.base import Moment, Recipe, Setting, Sources
from pipelines.training.losses import bootstrapped_cross_entropy
from pipelines.training.recipes import RECIPES, find_recipe
from pipelines.training.recipes.fusion import READERS
from pipelines.training.recipes.propagation_job import dense_read, single_object_stem
from pipelines.training.start import load_propagation_start, load_s2m_start
from stores.errors import ModelError, UsageError
from tests.pipelines.training_data import make_sets

PUBLISHED = [recipe for recipes in RECIPES.values() for recipe in recipes.values() if recipe.published]


@pytest.fixture(scope="module")
def sets(carphone_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sets(carphone_video, tmp_path_factory.mktemp("sets"))


def sources(sets: Path, propagation: Path | None = None) -> Sources:
    return Sources(
        sets, (sets / "bl30k",), (sets / "fusion",), sets / "youtube", sets / "static", sets / "lvis", propagation
    )  # fmt: skip


def propagated(root: Path) -> Path:
    """Fusion data of the rendered video is that of the other one here."""
    if not (root / "fusion" / "v1").exists():
        (root / "fusion" / "v1").symlink_to(root / "fusion" / "car")
    return root


@pytest.mark.parametrize("recipe", PUBLISHED, ids=lambda recipe: recipe.title)
def test_every_recipe_takes_a_step(recipe: Recipe, sets: Path, tmp_path: Path) -> None:
    small = replace(recipe, crop=48, batch=1, iterations=3)
    torch.manual_seed(0)
    if recipe.part == "fusion":
        torch.save(READERS[recipe.model]().state_dict(), tmp_path / "propagation.pth")
    job = small.job(sources(propagated(sets), tmp_path / "propagation.pth"), Setting(1, 1, 3))
    items = [job.samples(1)]
    assert all(torch.equal(a, b) for a, b in zip(items[0], job.samples(1), strict=True))
    batch = tuple(torch.stack(tensors) for tensors in zip(*items, strict=True))
    job.network.eval()
    outcome = job.loss(batch, Moment(2, 3, 0.9))  # late: hard pixels only
    assert outcome.loss.isfinite() and outcome.loss > 0
    assert float(outcome.scores["p"]) == pytest.approx(small.kept_now(Moment(2, 3, 0.9)))
    outcome.loss.backward()
    lost = [name for name, parameter in job.network.named_parameters() if parameter.grad is None]
    assert not lost and any(parameter.grad.any() for parameter in job.network.parameters())  # type: ignore[union-attr]
    assert job.panel(batch, outcome.shown)


def test_rates_and_hard_pixels_follow_the_iterations() -> None:
    stm = find_recipe("propagation/stm-main")

    def rate(i: int, total: int) -> float:
        return stm.rate(Moment(i, total, 0))

    assert [rate(i, 150_000) for i in (0, 124_999, 125_000)] == pytest.approx([1, 1, 0.1])
    assert [rate(i, 300_000) for i in (124_999, 125_000)] == pytest.approx([1, 0.1])  # a longer run keeps them
    assert [rate(i, 150) for i in (124, 125)] == pytest.approx([1, 0.1])  # a shorter one goes through the same
    kept = [stm.kept_now(Moment(i, 150_000, 0)) for i in (19_999, 45_000, 70_000, 149_999)]
    assert kept == pytest.approx([1.0, 0.575, 0.15, 0.15])
    assert RECIPES["s2m"]["mivos"].milestones == () and RECIPES["s2m"]["mivos"].batch_norm == "train"
    assert all("Command:" in (recipe.__doc__ or "") for recipe in PUBLISHED)


def test_an_absent_object_takes_no_part(sets: Path) -> None:
    job = replace(find_recipe("propagation/stcn-main"), crop=32).job(sources(sets), Setting(1, 1, 3))  # type: ignore[call-arg]
    images, given, labels, _ = (tensor[None] for tensor in job.samples(0))
    labels = labels.clamp(max=1)
    given = torch.cat([given[:, :1], torch.zeros_like(given[:, :1])], dim=1)
    torch.manual_seed(0)
    nn.init.constant_(job.network.decoder.pred.bias, 2.0)  # type: ignore[union-attr, arg-type]
    job.network.eval()
    with torch.no_grad():
        outcome = job.loss((images, given, labels, torch.tensor([[1.0, 0.0]])), Moment(0, 3, 0))
        both = job.loss((images, given, labels, torch.tensor([[1.0, 1.0]])), Moment(0, 3, 0))
    shown = outcome.shown["masks"]
    assert float(shown[:, :, 1].max()) < 1e-5 and both.shown["masks"][:, :, 1].max() > 0.1
    flat = shown[:, 0, 0].clamp(1e-6, 1 - 1e-6)  # the loss of a problem of two classes
    binary = nn.functional.binary_cross_entropy(flat, labels[:, 1].float())
    assert float(outcome.scores["loss_1"]) == pytest.approx(float(binary), rel=1e-3)


def test_dense_read_is_attention() -> None:
    torch.manual_seed(0)
    keys, values, query = torch.randn(2, 2, 4, 6), torch.randn(2, 2, 5, 6), torch.randn(2, 4, 1, 3)
    found = dense_read(keys, values, query, "l2", 4).unflatten(0, (2, 2))
    difference = keys[1, 0].T[:, None] - query[1].flatten(1).T[None]  # (N, HW, C)
    weights = torch.softmax(-difference.square().sum(-1) / 2, dim=0)
    assert torch.allclose(found[1, 0, :, 0], values[1, 0] @ weights, atol=1e-5)
    dot = dense_read(keys, values, query, "dot", 4).unflatten(0, (2, 2))
    weights = torch.softmax(keys[0, 1].T @ query[0].flatten(1) / 2, dim=0)
    assert torch.allclose(dot[0, 1, :, 0], values[0, 1] @ weights, atol=1e-5)


def test_hard_pixels_of_each_sample_or_of_all() -> None:
    logits = torch.zeros(2, 2, 1, 4)
    logits[0, 1] = torch.tensor([[4.0, 3, 2, 1]])
    target = torch.zeros(2, 1, 4, dtype=torch.long)
    loss = nn.functional.cross_entropy(logits, target, reduction="none").flatten(1)
    assert torch.isclose(bootstrapped_cross_entropy(logits, target, 0.5), loss.topk(2, dim=1).values.mean())
    assert torch.isclose(bootstrapped_cross_entropy(logits, target, 0.5, together=True), loss[0].mean())


def test_a_later_stage_gets_a_channel_for_other_objects(tmp_path: Path) -> None:
    stem = "value_encoder.conv1.weight"
    first = STCN()
    single_object_stem(first)
    assert first.state_dict()[stem].shape[1] == 4
    torch.save(first.state_dict(), tmp_path / "stage0.pth")
    second = STCN()
    load_propagation_start(second, "propagation-stcn", (str(tmp_path / "stage0.pth"),))
    weight, old = second.state_dict()[stem], first.state_dict()[stem]
    assert torch.equal(weight[:, :4], old)
    extra = weight[:, 4].flatten(1)  # rows or columns of unit length
    gram = extra.T @ extra
    assert torch.allclose(gram, torch.eye(len(gram)), atol=1e-4)
    load_propagation_start(first, "propagation-stcn", (str(tmp_path / "stage0.pth"),))  # stage 0 goes on
    torch.save(second.state_dict(), tmp_path / "stage1.pth")
    with pytest.raises(ModelError, match="several objects"):
        load_propagation_start(first, "propagation-stcn", (str(tmp_path / "stage1.pth"),))


def test_imagenet_files_start_the_encoders(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    small, large = torchvision.models.resnet18(), torchvision.models.resnet50()
    for name, network in (("18", small), ("50", large)):
        torch.save(network.state_dict(), tmp_path / f"{name}.pth")
    stcn, files = STCN(), (str(tmp_path / "18.pth"), str(tmp_path / "50.pth"))
    load_propagation_start(stcn, "propagation-stcn", files)
    state, given = stcn.state_dict(), large.state_dict()
    assert torch.equal(state["key_encoder.res2.0.conv3.weight"], given["layer1.0.conv3.weight"])
    assert torch.equal(state["value_encoder.conv1.weight"][:, :3], small.state_dict()["conv1.weight"])
    assert not state["value_encoder.layer1.0.conv1.bias"].any()
    with pytest.raises(UsageError, match="resnet18 is missing"):
        load_propagation_start(STCN(), "propagation-stcn", files[1:])


def test_s2m_starts_from_voc_classes(tmp_path: Path) -> None:
    import numpy as np

    made = S2M().state_dict()
    voc = {
        **made,
        "backbone.conv1.weight": made["backbone.conv1.weight"][:, :3].clone(),
        "classifier.classifier.3.weight": torch.randn(21, 256, 1, 1),
        "classifier.classifier.3.bias": torch.randn(21),
    }
    torch.save({"cur_itrs": 30_000, "model_state": voc, "best_score": np.float64(0.77)}, tmp_path / "voc.pth")
    network = S2M()
    load_s2m_start(network, (str(tmp_path / "voc.pth"),))
    state = network.state_dict()
    assert torch.equal(state["backbone.conv1.weight"][:, :3], voc["backbone.conv1.weight"])
    extra = state["backbone.conv1.weight"][:, 3:].flatten(1)
    assert extra.shape == (64, 147) and torch.allclose(extra @ extra.T, torch.eye(64), atol=1e-4)
    assert not state["classifier.classifier.3.bias"].any()
    assert float(state["classifier.classifier.3.weight"].norm()) == pytest.approx(1, abs=1e-4)
    with pytest.raises(UsageError, match="VOC"):
        load_s2m_start(S2M(), ())


def test_what_stage_0_writes_is_the_authors_form() -> None:
    network = STCN()
    single_object_stem(network)
    assert recognise(network.state_dict()) == "propagation-stcn"
    assert adapt(network.state_dict(), "propagation-stcn")["value_encoder.conv1.weight"].shape[1] == 5


def test_missing_data_is_explained(sets: Path, tmp_path: Path) -> None:
    for name, option in (("stm-static", "--static"), ("stcn-bl30k", "--synthetic"), ("stcn-main", "--youtube")):
        with pytest.raises(UsageError, match=option):
            find_recipe(f"propagation/{name}").job(Sources(None), Setting(1, 2, 3))
    with pytest.raises(UsageError, match="no recipe 'x'"):
        find_recipe("fusion/x")
