"""Dense correspondences against outputs of the authors' code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.networks.protocol import Query
from pipelines.networks.reading import MemoryRules
from pipelines.networks.stm import STM
from pipelines.stages.correspond import Correspondence, correspond, overlay, relative
from stores.errors import InputError, UsageError
from tests.pipelines.reference import network

RULES = MemoryRules(top_k=None, shared_keys=False, similarity="dot", scale_dim=STM.key_scale_dim)


@pytest.fixture(scope="module")
def data(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "correspondence_main.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def found(data: dict[str, np.ndarray]):
    yield correspond(network("propagation"), RULES, data["frame_src"], data["frame_tar"])
    network.cache_clear()


def near(got: np.ndarray, wanted: np.ndarray) -> None:
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=5e-5, rtol=0)


def test_weights_are_those_of_the_authors(found: Correspondence, data: dict[str, np.ndarray]) -> None:
    near(found.weights(), data["W"][0])


def test_a_point_is_carried(found: Correspondence, data: dict[str, np.ndarray]) -> None:
    y, x = data["point_yx"].tolist()
    cell = found.mark(x, y)
    assert np.argwhere(cell[0]).tolist() == [data["cell_yx"].tolist()]
    near(found.at_pixels(cell), data["source_vis"][0])
    shown = found.at_pixels(found.transfer(cell))
    near(shown, data["transfer"][0])
    near(relative(shown), data["transfer_normalised"][0])


@pytest.mark.parametrize("block_bytes", [2**20, 4 * 63 * 10])
def test_colours_are_carried(
    found: Correspondence, data: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr("pipelines.stages.correspond.BLOCK_BYTES", block_bytes)  # all at once, and 10 of 63 positions
    near(found.transfer(data["rgb_low"][0]), data["rgb_transferred"][0])


class Colours:
    """A network whose key is the image itself, made smaller."""

    def encode_key(self, image: torch.Tensor) -> Query:
        return Query(40 * torch.nn.functional.avg_pool2d(image, 16), ())

    def encode_memory(self, image, query, masks, others) -> tuple[torch.Tensor, torch.Tensor]:
        assert not masks.any() and not others.any()
        return query.key, masks

    def decode(self, readout, query, previous) -> torch.Tensor:
        raise AssertionError("nothing is to be decoded")


def test_a_mirrored_image_is_found_mirrored() -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, 4, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    between = correspond(Colours(), MemoryRules(top_k=None, scale_dim=3), image, image[:, ::-1].copy())
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_allclose(between.transfer(values), values[..., ::-1], atol=1e-3)


def test_what_does_not_fit_is_refused(found: Correspondence) -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    with pytest.raises(InputError, match="source image is 48x32, the target image 32x32"):
        correspond(Colours(), RULES, image, image[:, :32])
    with pytest.raises(InputError, match=r"shape \[9, 7\], the grid is \[7, 9\]"):
        found.transfer(np.zeros((9, 7), np.float32))
    with pytest.raises(UsageError, match=r"\(138, 0\) is outside the 138x100 source image"):
        found.mark(138, 0)


def test_overlay_is_red_where_the_map_is_high() -> None:
    image = np.full((1, 3, 3), 100, np.uint8)
    shown = overlay(image, np.array([[0.0, 0.25, 0.7]]))
    assert shown.tolist() == [[[70, 70, 70], [139, 50, 50], [208, 30, 30]]]
