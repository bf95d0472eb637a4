"""Baselines, scorer and speed measurement on real frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pipelines.engine import ModelChoice
from pipelines.evaluation import baselines, certainty, dev_split, speed
from pipelines.evaluation.baselines import BASELINES, LabelPropagation, copy_first_mask, warp_by_flow
from stores.davis import DavisDataset, write_davis_sequence
from stores.errors import MaskError, ModelError, UsageError

Clip = tuple[list[np.ndarray], list[np.ndarray]]
SEQUENCE = "car-turn"
FRAMES = 6
HEIGHT, WIDTH = 96, 172


@pytest.fixture(scope="module")
def tiny_root(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of one dev sequence, made small, as a DAVIS tree."""
    root: Path = tmp_path_factory.mktemp("davis")
    dataset = DavisDataset(shared_data)

    def frames() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        pairs = zip(dataset.frames(SEQUENCE), dataset.annotations(SEQUENCE), strict=True)
        for image, mask in islice(pairs, FRAMES):
            yield (
                np.asarray(Image.open(image).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BOX)),
                np.asarray(Image.open(mask).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)),
            )

    write_davis_sequence(root, SEQUENCE, frames())
    return root


@pytest.fixture(scope="module")
def clip(tiny_root: Path) -> Clip:
    dataset = DavisDataset(tiny_root)
    images = [np.asarray(Image.open(path)) for path in dataset.frames(SEQUENCE)]
    return images, [dataset.labels(path).labels for path in dataset.annotations(SEQUENCE)]


def iou(labels: np.ndarray, truth: np.ndarray) -> float:
    return np.count_nonzero((labels == 1) & (truth == 1)) / np.count_nonzero((labels == 1) | (truth == 1))


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_stream_one_mask_per_frame(name: str, clip: Clip) -> None:
    images, truth = clip
    taken = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal taken
        for image in images:
            taken += 1
            yield image

    for index, labels in enumerate(BASELINES[name](counted(), truth[0])):
        assert taken == index + 1, "a stream must not look ahead"
        assert labels.dtype == np.uint8 and labels.shape == (HEIGHT, WIDTH)
        if index == 0:
            assert np.array_equal(labels, truth[0])
    assert index + 1 == FRAMES
    assert iou(labels, truth[-1]) > 0.5


def test_flow_follows_a_moving_picture(clip: Clip) -> None:
    images, truth = clip
    shift = 4
    moved = [np.roll(images[0], step * shift, axis=1) for step in range(4)]
    target = np.roll(truth[0], 3 * shift, axis=1)
    *_, warped = warp_by_flow(moved, truth[0])
    *_, copied = copy_first_mask(moved, truth[0])
    assert iou(warped, target) > max(0.9, iou(copied, target))


@pytest.mark.parametrize("stride", [8, 16])
def test_label_propagation_keeps_ids_and_still_objects(stride: int, clip: Clip) -> None:
    images, _ = clip
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[30:80, 60:130] = 7  # ids need not be 1..K
    mask[:20, :20] = 3
    settings = LabelPropagation(stride=stride, radius=3, recent=2, top_k=1)
    results = list(baselines.propagate_labels([images[0]] * 3, mask, settings=settings))
    assert set(np.unique(results[-1])) == {0, 3, 7}
    assert iou(results[-1] == 7, mask == 7) > 0.8


def test_label_propagation_matches_the_plain_formula() -> None:
    rng = torch.Generator().manual_seed(1)
    height, width, radius = 5, 6, 2
    settings = LabelPropagation(radius=radius, top_k=3, temperature=0.1)

    def features() -> torch.Tensor:
        return F.normalize(torch.randn(4, height, width, generator=rng), dim=0)

    query = features()
    context = [(features(), torch.rand(2, height, width, generator=rng)) for _ in range(3)]
    got = baselines._match_labels(query, context, settings)
    for y in range(height):
        for x in range(width):
            rows = slice(max(0, y - radius), y + radius + 1)
            columns = slice(max(0, x - radius), x + radius + 1)
            keys = torch.cat([key[:, rows, columns].flatten(1) for key, _ in context], dim=1)
            labels = torch.cat([label[:, rows, columns].flatten(1) for _, label in context], dim=1)
            best, where = (query[:, y, x] @ keys).topk(3)
            torch.testing.assert_close(got[:, y, x], labels[:, where] @ torch.softmax(best / 0.1, dim=0))


def test_a_mask_of_another_size_is_refused(clip: Clip) -> None:
    images, truth = clip
    for baseline in BASELINES.values():
        with pytest.raises(MaskError, match="172x96"):
            next(baseline(images, truth[0][:-1]))


def _score(root: Path, masks: list[np.ndarray], folder: Path) -> tuple[float, float]:
    from stores.masks import write_masks

    dataset = DavisDataset(root)
    write_masks(folder / SEQUENCE, ((f"{i:05d}", mask) for i, mask in enumerate(masks)))
    truth_root = dataset.annotations(SEQUENCE)[0].parent.parent
    objects, j, f = dev_split.score_folders(dev_split.load_evaluator(), truth_root, folder, SEQUENCE)
    assert objects == 1
    return j, f


def test_scorer_knows_right_from_wrong(tiny_root: Path, clip: Clip, tmp_path: Path) -> None:
    _, truth = clip
    assert _score(tiny_root, truth, tmp_path / "same") == (100.0, 100.0)
    j, f = _score(tiny_root, [np.zeros_like(mask) for mask in truth], tmp_path / "empty")
    assert j == 0 and f == 0
    # The first and the last frame do not count.
    edges = [np.zeros_like(truth[0]), *truth[1:-1], np.zeros_like(truth[0])]
    assert _score(tiny_root, edges, tmp_path / "edges") == (100.0, 100.0)


def test_baseline_report(tiny_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    report = dev_split.evaluate_dev_split(tiny_root, model=None, out=out)
    assert report.methods == tuple(BASELINES) and report.sequences == (SEQUENCE,)
    for row in report.rows:
        assert row.frames == FRAMES and row.objects == 1
        assert 0 < row.j <= 100 and 0 < row.f <= 100
        mean = report.mean(row.method)
        assert mean.jf == pytest.approx(row.jf)
    assert "first and the last" in report.scorer
    with Image.open(out / "copy_first_mask" / SEQUENCE / "00000.png") as image:
        assert image.mode == "P"
    assert json.loads(json.dumps(report.to_json()))["means"][0]["method"] == "copy first mask"
    with pytest.raises(KeyError):
        report.mean("nobody")


def test_too_few_masks_are_an_error(tiny_root: Path, tmp_path: Path) -> None:
    def lazy(frames: object, first_mask: np.ndarray) -> Iterator[np.ndarray]:
        yield first_mask

    with pytest.raises(ModelError, match="1 masks for the 6 frames"):
        dev_split._write_predictions(DavisDataset(tiny_root), SEQUENCE, lazy, tmp_path, "lazy", None)


def test_nothing_to_evaluate(tiny_root: Path) -> None:
    with pytest.raises(UsageError):
        dev_split.evaluate_dev_split(tiny_root, model=None, baselines=False)


def test_region_similarity() -> None:
    truth = np.zeros((4, 4), np.uint8)
    truth[0], truth[1] = 1, 2
    labels = truth.copy()
    labels[1, :2] = 0
    assert dev_split.region_similarity(labels, truth) == (2, 0.75)
    assert dev_split.region_similarity(truth * 0, truth * 0) == (0, 1.0)
    assert dev_split.region_similarity(truth, truth * 0) == (0, 0.0)


def test_speed_helpers() -> None:
    labels = speed.blobs(48, 86, 3)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert speed.matmul_gflops(side=128, repeats=2) > 0
    assert speed.peak_rss_mb() > 50
    with pytest.raises(UsageError):
        speed.measure_speed(objects=())


def test_speed_frames_have_the_size_asked_for(bikes_video: Path) -> None:
    assert speed.default_video() == bikes_video
    for size in (48, 300):  # bikes.mp4 is 640x272
        images = list(speed.read_at_size(bikes_video, 2, size, crop=False))
        assert [min(image.shape[:2]) for image in images] == [size, size]
    (image,) = speed.read_at_size(bikes_video, 1, 480, crop=True)
    assert image.shape == (480, 854, 3)


def test_speed_report(bikes_video: Path) -> None:
    report = speed.measure_speed(model=ModelChoice(engine="torch"), objects=(2,), frames=3, size=64)
    (row,) = report.rows
    assert row.frames == 3 and row.frames_per_second > 0 and row.startup > 0
    assert {"decode", "interact", "propagate", "encode"} <= set(row.stages)
    assert (report.height, report.width, report.engine) == (64, 114, "torch")
    assert json.loads(json.dumps(report.to_json()))["rows"][0]["frames_per_second"] == row.frames_per_second


def test_model_on_one_sequence(tiny_root: Path) -> None:
    reports = []
    report = dev_split.evaluate_dev_split(
        tiny_root, model=ModelChoice(engine="torch"), baselines=False, progress=reports.append
    )
    assert report.methods == ("mivos nano",)
    assert reports[-1].done == reports[-1].total == FRAMES


def test_scribbles_to_masks(tiny_root: Path) -> None:
    frame = 2
    path = [[0.4, 0.5], [0.5, 0.55], [0.6, 0.5]]
    strokes = [{"path": path, "object_id": 1, "start_time": 0, "end_time": 1}]
    content = {"sequence": SEQUENCE, "scribbles": [strokes if i == frame else [] for i in range(FRAMES)]}
    folder = tiny_root / "Scribbles" / SEQUENCE
    folder.mkdir(parents=True)
    (folder / "001.json").write_text(json.dumps(content))
    report = dev_split.evaluate_s2m(tiny_root, model=ModelChoice(engine="torch"))
    (row,) = report.rows
    assert row.frame == frame and row.objects == 1 and 0 <= row.j <= 1
    assert report.mean == row.j == report.to_json()["mean"]


def test_confidence_is_compared_with_the_truth(tiny_root: Path) -> None:
    row = certainty.measure_certainty(tiny_root, model=ModelChoice(engine="torch"), sequences=[SEQUENCE]).rows[0]
    assert row.frames == FRAMES - 1 and 50 < row.j <= 100 and 0 <= row.j_least <= 100
    assert certainty._spearman(np.array([1.0, 2, 3, 3]), np.array([10.0, 20, 30, 30])) == pytest.approx(1)
    assert certainty._spearman(np.array([1.0, 2, 3]), np.array([9.0, 4, 1])) == pytest.approx(-1)
    assert certainty._spearman(np.array([1.0, 1, 1]), np.array([9.0, 4, 1])) is None
