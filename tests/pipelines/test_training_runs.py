"""Whole runs: killed and resumed, in two processes, with pictures and validation, and what they leave."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.networks.recognise import recognise
from pipelines.networks.registry import load_network
from pipelines.training import loop
from pipelines.training.averaging import average_weights
from pipelines.training.base import Moment, Setting, Sources
from pipelines.training.parallel import SharedBatchNorm
from pipelines.training.recipes import find_recipe
from pipelines.training.recipes.fusion import READERS
from pipelines.training.state import save_weights
from stores.errors import DatasetError, ModelError, StorageFullError, UsageError
from tests.conftest import ROOT
from tests.pipelines import weight_files
from tests.pipelines.training_data import make_sets

# One run in a process of its own: arguments are a JSON object.
PROGRAM = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path
from pipelines.training import loop
from pipelines.training.recipes import find_recipe

def main(given):
    def killed(iteration, total, scores):
        if iteration == given.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)

    recipe = replace(find_recipe(given["recipe"]), log_every=1, **given["facts"])
    root = Path(given["root"])
    loop.train(
        recipe, root, Path(given["out"]), progress=killed, iterations=given["iterations"], workers=0, threads=1, seed=5,
        device="cpu", youtube=root / "youtube", save_every=0.0, start_from="none" if recipe.published else None,
        propagation=root / "propagation.pth" if recipe.part == "fusion" else None, fusion=(root / "fusion",),
    )

if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def sets(carphone_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_sets(carphone_video, tmp_path_factory.mktemp("sets"))
    torch.manual_seed(1)
    torch.save(READERS["mivos-stcn"]().state_dict(), root / "propagation.pth")
    (root / "program.py").write_text(PROGRAM)
    return root


def run(sets: Path, out: Path, recipe: str, facts: dict, *, processes: int = 1, **more: object) -> int:
    """The exit code of a run in processes of their own."""
    given = {"recipe": recipe, "facts": facts, "root": str(sets), "out": str(out), **more}
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [*start, str(sets / "program.py"), json.dumps(given)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr[-3000:])
    return done.returncode


def checkpoint(out: Path) -> dict:
    return torch.load(out / loop.CHECKPOINT, weights_only=True)


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / loop.LOG).read_text().splitlines()]


FUSION = ("fusion/mivos-stcn-davis", {"crop": 48, "batch": 2, "amp": False})
S2M = ("s2m/mivos", {"crop": 64, "batch": 2})


@pytest.mark.parametrize(
    "recipe", [FUSION, pytest.param(S2M, marks=pytest.mark.slow)], ids=["fusion", "s2m with dropout"]
)
def test_a_killed_run_resumes_exactly(sets: Path, tmp_path: Path, recipe: tuple[str, dict]) -> None:
    assert run(sets, tmp_path / "whole", *recipe, iterations=5) == 0
    assert run(sets, tmp_path / "broken", *recipe, iterations=5, kill=4) == -signal.SIGKILL
    assert checkpoint(tmp_path / "broken")["iteration"] == 3
    assert run(sets, tmp_path / "broken", *recipe, iterations=5) == 0
    a, b = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "broken")
    assert a["iteration"] == b["iteration"] == 5
    assert all(torch.equal(a["network"][key], b["network"][key]) for key in a["network"])
    moments = [state["optimiser"]["state"] for state in (a, b)]
    assert all(torch.equal(moments[0][k]["exp_avg_sq"], moments[1][k]["exp_avg_sq"]) for k in moments[0])
    curves = [[(line["iteration"], line["loss"]) for line in lines(tmp_path / name)] for name in ("whole", "broken")]
    assert curves[0] == curves[1] and [i for i, _ in curves[0]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "recipe",
    [
        FUSION,
        pytest.param(S2M, marks=pytest.mark.slow),
        pytest.param(("propagation/stcn-main", {"crop": 48, "batch": 2, "amp": False}), marks=pytest.mark.slow),
        pytest.param(("s2m/nano", {"crop": 64, "batch": 2}), marks=pytest.mark.slow),
    ],
    ids=lambda recipe: recipe[0],
)
def test_two_processes_learn_what_one_does(sets: Path, tmp_path: Path, recipe: tuple[str, dict]) -> None:
    name, facts = recipe
    steps = 4
    if name == "s2m/mivos":  # dropout and the hardest pixels are those of a process
        facts = {**facts, "warm": [10**6, 2 * 10**6]}
        steps = 1
    run(sets, tmp_path / "one", name, {**facts, "batch": 4}, iterations=steps)
    run(sets, tmp_path / "two", name, {**facts, "batch": 2}, iterations=steps, processes=2)
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert len(one) == len(two) == steps
    tolerance = 0.2 if name == "s2m/mivos" else 1e-4
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], abs=tolerance)
    if name.startswith("fusion"):
        a, b = checkpoint(tmp_path / "one")["network"], checkpoint(tmp_path / "two")["network"]
        assert max(float((a[key] - b[key]).abs().max()) for key in a) < 1e-4


SHARED = """
import sys, torch, torch.distributed as dist
from torch import nn
from pipelines.training.parallel import SharedBatchNorm
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
x, weight = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5)
plain = nn.BatchNorm2d(3)
whole = x.clone().requires_grad_()
(plain(whole) * weight).sum().backward()
shared = SharedBatchNorm(3)
part = x[2 * rank : 2 * rank + 2].clone().requires_grad_()
(shared(part) * weight[2 * rank : 2 * rank + 2]).sum().backward()
assert torch.allclose(part.grad, whole.grad[2 * rank : 2 * rank + 2], atol=1e-5)
assert torch.allclose(shared.running_var, plain.running_var, atol=1e-6)
assert torch.allclose(shared.running_mean, plain.running_mean, atol=1e-6)
dist.barrier()  # a process that leaves while the other is still busy aborts it
dist.destroy_process_group()
"""


def test_statistics_are_those_of_all_processes(tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(SHARED)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run([*start, str(tmp_path / "shared.py")], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    alone, plain = SharedBatchNorm(2), torch.nn.BatchNorm2d(2)
    x = torch.randn(3, 2, 4, 4)
    assert torch.allclose(alone(x), plain(x), atol=1e-6)


def fusion_run(sets: Path, out: Path, **options: object) -> loop.TrainReport:
    recipe = replace(find_recipe(FUSION[0]), **FUSION[1], log_every=1)
    return loop.train(
        recipe, sets, out, iterations=2, workers=0, threads=1, propagation=sets / "propagation.pth", **options
    )


def test_what_a_run_leaves(sets: Path, tmp_path: Path) -> None:
    report = fusion_run(sets, tmp_path / "run")
    assert report.weights.endswith("fusion-mivos-stcn-davis.pth") and {"loss", "iou", "p"} <= set(report.scores)
    state = torch.load(report.weights, weights_only=True)  # a bare state dict, as the authors publish
    assert recognise(state) == "fusion" and all(value.dtype == torch.float32 for value in state.values())
    network = load_network("mivos-stcn", "fusion", Path(report.weights))
    assert torch.equal(network.state_dict()["final_conv.weight"], state["final_conv.weight"])
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = events.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("train/loss")] == [1, 2]
    assert board.Scalars("train/loss")[1].value == pytest.approx(lines(tmp_path / "run")[1]["loss"], rel=1e-5)
    (panel,) = board.Images("train/pairs")
    assert panel.step == 1 and panel.width == 8 * 48 and panel.height == 2 * 48


def test_other_options_cannot_continue_a_run(sets: Path, tmp_path: Path) -> None:
    fusion_run(sets, tmp_path / "run")
    with pytest.raises(UsageError, match="was begun with seed 14159265, now 7") as caught:
        fusion_run(sets, tmp_path / "run", seed=7)
    assert "\n" not in str(caught.value) and caught.value.hint
    with pytest.raises(UsageError, match="--minutes"):
        fusion_run(sets, tmp_path / "run", minutes=1.0)
    (tmp_path / "run" / loop.CHECKPOINT).write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ModelError, match="cannot be read"):
        fusion_run(sets, tmp_path / "run")


def test_a_loss_that_is_no_number_stops_the_run(sets: Path, tmp_path: Path) -> None:
    recipe = replace(find_recipe(FUSION[0]), **FUSION[1], lr=float("inf"))
    options = {"workers": 0, "threads": 1, "propagation": sets / "propagation.pth", "save_every": 0.0}
    with pytest.raises(ModelError, match="the loss became nan at iteration 1; the last checkpoint"):
        loop.train(recipe, sets, tmp_path / "run", iterations=5, **options)  # type: ignore[arg-type]
    assert checkpoint(tmp_path / "run")["iteration"] == 1


def test_mixed_precision_and_loader_processes(sets: Path, tmp_path: Path) -> None:
    plain = fusion_run(sets, tmp_path / "plain")
    mixed = fusion_run(sets, tmp_path / "mixed", amp=True)
    assert plain.scores["loss"] == pytest.approx(mixed.scores["loss"], rel=0.05)
    assert plain.scores["loss"] != mixed.scores["loss"]  # bf16 was used
    recipe = replace(find_recipe(FUSION[0]), **FUSION[1], log_every=1)
    loop.train(
        recipe, sets, tmp_path / "loaded", iterations=2, workers=2, threads=1, propagation=sets / "propagation.pth"
    )
    assert [x["loss"] for x in lines(tmp_path / "loaded")] == [x["loss"] for x in lines(tmp_path / "plain")]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_loader_process_arrives_as_it_was(carphone_video: Path, tmp_path: Path, workers: int) -> None:
    root = make_sets(carphone_video, tmp_path / "sets")
    shutil.rmtree(root / "static")
    masks = sorted((root / "Annotations" / "480p" / "car").iterdir())
    for mask in masks:
        mask.write_bytes(mask.read_bytes()[: mask.stat().st_size // 2])
    recipe = replace(find_recipe("s2m"), crop=64, batch=2)
    with pytest.raises(DatasetError, match=r"\.png: cannot be read: ") as caught:
        loop.train(recipe, root, tmp_path / "run", iterations=2, workers=workers, threads=1)
    message = str(caught.value)
    assert "\n" not in message and "Caught" not in message and caught.value.hint
    assert message.partition(":")[0] in map(str, masks)


def test_foreign_checkpoints_are_refused(sets: Path, tmp_path: Path) -> None:
    fusion_run(sets, tmp_path / "run")
    path, content = tmp_path / "run" / loop.CHECKPOINT, checkpoint(tmp_path / "run")
    network = {key: value[:1] if value.dim() else value for key, value in content["network"].items()}
    for foreign, words in (
        ({"epoch": 3}, "is no checkpoint of a training run"),
        ([1, 2], "is no checkpoint of a training run"),
        ({key: value for key, value in content.items() if key != "optimiser"}, "lacks 'optimiser'"),
        ({**content, "network": network}, "does not fit the network"),
    ):
        torch.save(foreign, path)
        with pytest.raises(ModelError, match=words) as caught:
            fusion_run(sets, tmp_path / "run")
        assert "\n" not in str(caught.value) and caught.value.hint


def test_weight_files_that_cannot_be_written(tmp_path: Path) -> None:
    state = {"a": torch.ones(2, 3), "num_batches_tracked": torch.tensor(1)}
    save_weights(state, tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    (kept,) = load_file(tmp_path / "a.safetensors").items()
    assert kept[0] == "a" and kept[1].dtype == torch.float16 and bool((kept[1] == 1).all())
    (tmp_path / "taken").mkdir()
    for path, words in ((tmp_path / "none" / "b", "is not a folder"), (tmp_path / "taken", "cannot be written")):
        with pytest.raises(StorageFullError, match=words) as caught:
            save_weights(state, path)
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "taken"]


def test_means_are_of_tensors_of_one_shape(tmp_path: Path) -> None:
    weight_files.save_weights(tmp_path / "two.pth", "propagation-stcn")
    state = torch.load(tmp_path / "two.pth", weights_only=True)
    stem = "value_encoder.conv1.weight"
    torch.save({**state, stem: state[stem][:, :4]}, tmp_path / "one.pth")  # of one object, as stage 0 leaves it
    with pytest.raises(ModelError, match=r"one.pth: value_encoder.conv1.weight is of shape \(64, 4, 7, 7\)") as caught:
        average_weights([tmp_path / "two.pth", tmp_path / "one.pth"], tmp_path / "mean.safetensors")
    assert "\n" not in str(caught.value) and caught.value.hint and not (tmp_path / "mean.safetensors").exists()


def test_validation_scores_and_logs(sets: Path, tmp_path: Path) -> None:
    pytest.importorskip("vos_benchmark")
    recipe = replace(find_recipe("propagation"), crop=64, batch=2)
    report = loop.train(
        recipe, sets, tmp_path / "run", iterations=1, workers=0, threads=1, validate=sets, validate_frames=4,
        validate_sequences=1,
    )  # fmt: skip
    assert 20 < report.scores["J&F"] <= 100  # ImageNet features alone follow a slow object for four frames
    assert lines(tmp_path / "run")[-1]["J&F"] == report.scores["J&F"]


@pytest.mark.slow
def test_validation_of_the_other_parts(sets: Path, shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("vos_benchmark")
    options = {"iterations": 1, "workers": 0, "threads": 1, "validate_sequences": 1, "validate_frames": 5}
    fusion = replace(find_recipe("fusion"), crop=64, size=120, batch=2)
    report = loop.train(fusion, sets, tmp_path / "fusion", validate=sets, **options)  # type: ignore[arg-type]
    assert 50 < report.scores["J&F"] <= 100  # two true masks of five frames
    s2m = replace(find_recipe("s2m"), crop=64, batch=2)
    report = loop.train(s2m, sets, tmp_path / "s2m", validate=shared_data, **options)  # type: ignore[arg-type]
    assert 0 <= report.scores["J"] <= 100


@pytest.mark.slow
def test_one_sample_can_be_learnt_by_heart(sets: Path) -> None:
    recipe = replace(find_recipe("propagation/stcn-main"), crop=64, batch=1, iterations=60, lr=1e-4)
    torch.manual_seed(0)
    job = recipe.job(Sources(sets, youtube=sets / "youtube"), Setting(1, 1, 60))
    batch = tuple(tensor[None] for tensor in job.samples(3))
    job.network.eval()
    optimiser = torch.optim.Adam(job.network.parameters(), lr=recipe.lr)
    losses = []
    for _ in range(40):
        loss = job.loss(batch, Moment(0, 60, 0)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
