"""Clicks as disks, and refinement: clicks hold afterwards, never fewer than before, with every interaction network."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.engine import ModelChoice, Networks
from pipelines.networks.registry import load_network
from pipelines.stages.refine import Clicks, RefineRules, Windows, click_plane, minimise, refine_clicks
from pipelines.stages.tensors import image_tensor
from stores.errors import UsageError
from stores.video import read_frames

Pixels = list[tuple[int, int]]
SIZE = (144, 176)
HEAD: Pixels = [(86, 50), (80, 80)]
SEAT: Pixels = [(20, 100), (150, 60)]


@pytest.fixture(scope="module")
def nano() -> Networks:
    return Networks(ModelChoice("nano", "cpu", "torch"))


@pytest.fixture(scope="module")
def authors(checkpoint_files: dict[str, Path]) -> Networks:
    return Networks(ModelChoice("mivos", "cpu", "torch", checkpoints=(checkpoint_files["s2m"],)))


@pytest.fixture(scope="module")
def image(carphone_video: Path) -> np.ndarray:
    """uint8 [144, 176, 3]: a man in a car."""
    return next(read_frames(carphone_video, size=None)).image


def planes(image: np.ndarray, positive: Pixels, negative: Pixels) -> Tensor:
    frame = image_tensor(image)
    size = tuple(frame.shape[-2:])
    marks = np.stack([np.zeros(size, np.uint8), click_plane(positive, *size), click_plane(negative, *size)])
    return torch.cat([frame, torch.from_numpy(marks)[None].float()], dim=1)


def scattered(seed: int, count: int, size: tuple[int, int] = SIZE) -> tuple[Pixels, Pixels]:
    """Clicks that no object of the picture would explain."""
    rng = np.random.default_rng(seed)
    pixels = [(int(rng.integers(size[1])), int(rng.integers(size[0]))) for _ in range(count)]
    return pixels[: count // 2], pixels[count // 2 :]


def broken(prob: Tensor, positive: Pixels, negative: Pixels) -> int:
    wrong = [prob[0, 0, y, x] <= 0.5 for x, y in positive] + [prob[0, 0, y, x] > 0.5 for x, y in negative]
    return int(sum(wrong))


def test_disks_grow_with_the_frame() -> None:
    small, large = click_plane([(30, 20)], 144, 176), click_plane([(30, 20)], 720, 1280)
    assert small.shape == (144, 176) and small.dtype == np.uint8 and set(np.unique(small)) == {0, 1}
    ys, xs = np.nonzero(small)
    assert (ys.mean(), xs.mean()) == (20, 30) and np.ptp(xs) == np.ptp(ys) == 2 * 4
    assert np.ptp(np.nonzero(click_plane([(400.9, 200.2)], 480, 864))[1]) == 2 * 5
    assert np.ptp(np.nonzero(large)[0]) == 2 * 7
    assert not click_plane([], 144, 176).any()
    assert click_plane([(0, 0), (175, 143)], 144, 176)[[0, -1], [0, -1]].all()


@pytest.mark.parametrize("point", [(-1, 5), (176, 5), (5, 144), (math.nan, 5), (5, math.inf)])
def test_a_point_outside_is_an_error(nano: Networks, image: np.ndarray, point: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="outside of the frame of 176x144"):
        click_plane([point], *SIZE)
    for positive, negative in (([HEAD[0], point], []), (HEAD, [point])):
        with pytest.raises(UsageError, match="outside"):
            refine_clicks(nano, planes(image, HEAD, []), positive, negative)


def test_one_click_and_clicks_that_hold_give_the_plain_mask(nano: Networks, image: np.ndarray) -> None:
    one = planes(image, HEAD[:1], [])
    assert torch.equal(refine_clicks(nano, one, HEAD[:1], []), nano.segment_strokes(one))
    more = planes(image, HEAD, SEAT)
    plain = nano.segment_strokes(more)
    assert broken(plain, HEAD, SEAT) == 0
    sure = float(Clicks.of(HEAD, SEAT, SIZE).support(plain).min())
    held = refine_clicks(nano, more, HEAD, SEAT, RefineRules(certainty=sure - 1e-3))
    assert torch.equal(held, plain)
    asked = refine_clicks(nano, more, HEAD, SEAT, RefineRules(certainty=(1 + sure) / 2))
    assert not torch.equal(asked, plain)
    assert Clicks.of(HEAD, SEAT, SIZE).support(asked).min() > sure


@pytest.mark.parametrize("model", ["nano", "authors"])
def test_clicks_hold_after_refinement(model: str, image: np.ndarray, request: pytest.FixtureRequest) -> None:
    networks: Networks = request.getfixturevalue(model)
    before = after = 0
    for seed in range(8 if model == "nano" else 2):
        positive, negative = scattered(seed, 6)
        marked = planes(image, positive, negative)
        plain, refined = networks.segment_strokes(marked), refine_clicks(networks, marked, positive, negative)
        assert refined.shape == plain.shape == (1, 1, *SIZE) and refined.dtype == torch.float32
        assert 0 <= refined.min() and refined.max() <= 1 and not refined.requires_grad
        counts = broken(plain, positive, negative), broken(refined, positive, negative)
        assert counts[1] <= counts[0]
        before, after = before + counts[0], after + counts[1]
    assert before >= 2 and after == 0


def test_what_cannot_hold_does_no_harm(nano: Networks, image: np.ndarray) -> None:
    marked = planes(image, HEAD, HEAD)
    refined = refine_clicks(nano, marked, HEAD, HEAD)
    assert refined.isfinite().all()
    assert broken(refined, HEAD, HEAD) <= broken(nano.segment_strokes(marked), HEAD, HEAD)


def test_the_same_clicks_give_the_same_mask(nano: Networks, image: np.ndarray) -> None:
    positive, negative = scattered(0, 6)
    marked = planes(image, positive, negative)
    first = refine_clicks(nano, marked, positive, negative)
    with torch.inference_mode():  # callers may be in it
        again = refine_clicks(nano, marked.clone(), positive, negative)
    assert torch.equal(first, again) and not torch.equal(first, nano.segment_strokes(marked))
    own = nano.runner("s2m").network.parameters()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in own)


def test_other_engines_refine_alike(nano: Networks, image: np.ndarray) -> None:
    pytest.importorskip("openvino")
    positive, negative = scattered(0, 6)
    marked = planes(image, positive, negative)
    compiled = refine_clicks(Networks(ModelChoice("nano", "cpu", "openvino")), marked, positive, negative)
    torch.testing.assert_close(compiled, refine_clicks(nano, marked, positive, negative), atol=0.02, rtol=0)


@pytest.mark.parametrize("model", ["nano", "authors"])
@pytest.mark.parametrize("size", [(64, 80), (496, 368)])
def test_windows_give_the_logits_of_the_whole(
    model: str, size: tuple[int, int], checkpoint_files: dict[str, Path]
) -> None:  # fmt: skip
    network = load_network("nano", "s2m") if model == "nano" else load_network("mivos", "s2m", checkpoint_files["s2m"])
    g = torch.Generator().manual_seed(2)
    height, width = size
    corners = [(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)]
    clicks = Clicks.of(corners, sum(scattered(3, 20, size), []), size)
    with torch.inference_mode():
        features = network.features(torch.randn(1, 6, *size, generator=g))  # type: ignore[operator]
        scale, shift = 1 + 0.3 * torch.randn(2, features[0].shape[1], 1, 1, generator=g)
        logits = network.head(features[0] * scale + shift, *features[1:])  # type: ignore[operator]
        whole = network.enlarge(logits, size)[0, 0, clicks.ys, clicks.xs]  # type: ignore[operator]
        windows = Windows.around(network, features, clicks, size)  # type: ignore[arg-type]
        assert windows.features[0].shape[-1] <= 2 * network.reach + 1  # type: ignore[operator]
        got = windows.support(scale, shift) * windows.signs
    torch.testing.assert_close(got, whole, atol=1e-5 * float(whole.std() + 1), rtol=1e-5)


def rosenbrock(counts: list[int]) -> Callable[[Tensor], tuple[Tensor, Tensor, bool]]:
    def objective(place: Tensor) -> tuple[Tensor, Tensor, bool]:
        counts[0] += 1
        x, y = place
        value = 100 * (y - x * x) ** 2 + (1 - x) ** 2
        slope = torch.stack([-400 * x * (y - x * x) - 2 * (1 - x), 200 * (y - x * x)])
        return value, slope, bool(value < 1e-9)

    return objective


def test_minimiser_finds_a_hard_minimum_and_keeps_to_its_budget() -> None:
    start, counts = torch.tensor([-1.2, 1.0], dtype=torch.float64), [0]
    found = minimise(rosenbrock(counts), start, 200)
    torch.testing.assert_close(found, torch.ones(2, dtype=torch.float64), atol=1e-3, rtol=0)
    assert counts[0] < 80
    for budget in (1, 2, 7, 20):
        counts = [0]
        place = minimise(rosenbrock(counts), start, budget)
        assert counts[0] <= budget
        assert rosenbrock([0])(place)[0] <= rosenbrock([0])(start)[0]
