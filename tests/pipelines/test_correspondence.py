"""Points and masks carried between frames: geometry at any size, shared and own keys, real masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.engine import ModelChoice
from pipelines.evaluation.correspondence import match_mask, match_point
from pipelines.stages.correspond import DETAIL
from stores.errors import InputError, MaskError, UsageError
from stores.masks import read_annotation, read_mask, write_mask

NANO = ModelChoice("nano", engine="torch")


@dataclass(frozen=True)
class Moved:
    """A folder of two frames, the second one shifted, at a size that is no multiple of 16 and is worked on smaller."""

    folder: Path
    shift: tuple[int, int]
    size: tuple[int, int]


@pytest.fixture(scope="module")
def moved(bikes_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Moved:
    folder, (dx, dy) = tmp_path_factory.mktemp("moved"), (96, -32)
    reader = cv2.VideoCapture(str(bikes_video))
    reader.set(cv2.CAP_PROP_POS_FRAMES, 112)
    image = cv2.resize(reader.read()[1], (900, 500), interpolation=cv2.INTER_CUBIC)
    for index, (x, y) in enumerate(((0, 0), (dx, dy))):
        shifted = cv2.warpAffine(image, np.float32([[1, 0, x], [0, 1, y]]), (900, 500), borderMode=cv2.BORDER_REFLECT)
        cv2.imwrite(str(folder / f"{index:05d}.png"), shifted)
    return Moved(folder, (dx, dy), (500, 900))


@pytest.mark.parametrize("size", [250, 450])  # nano sees 400 and more in a grid coarser than 16 pixels
def test_a_frame_is_found_in_itself(moved: Moved, tmp_path: Path, size: int) -> None:
    for number, point in enumerate([(0, 0), (333, 217), (899, 499)]):
        found = match_point(moved.folder, 0, 0, point, tmp_path / f"{number}.png", size=size, model=NANO)
        assert found.match == point and found.weight > 0.2
        assert found.cell[0] > (18 if size == 450 else 31)


def test_a_moved_point_is_found(moved: Moved, tmp_path: Path) -> None:
    hits = 0
    points = [(x, y) for x in (200, 400, 600) for y in (150, 300)]
    for x, y in points:
        found = match_point(moved.folder, 0, 1, (x, y), tmp_path / "p.png", size=250, model=NANO, force=True)
        wanted = x + moved.shift[0], y + moved.shift[1]
        hits += all(abs(a - b) <= cell for a, b, cell in zip(found.match, wanted, found.cell, strict=True))
    assert hits >= 5


@pytest.mark.parametrize("model, part", [("mivos", "propagation"), ("mivos-stcn", "propagation_stcn")])
def test_the_authors_networks(
    moved: Moved, tmp_path: Path, checkpoint_files: dict[str, Path], model: str, part: str
) -> None:
    choice = ModelChoice(model, engine="torch", checkpoints=(checkpoint_files[part],))
    found = match_point(moved.folder, 0, 0, (333, 217), tmp_path / "p.png", size=96, model=choice)
    assert found.model == model and 0 < found.weight <= 1
    if model == "mivos-stcn":  # keys from images alone are their own best match even with synthetic weights
        assert found.match == (333, 217)


def test_a_real_mask_is_carried(shared_data: Path, tmp_path: Path) -> None:
    frames, truth = (shared_data / kind / "480p" / "bear" for kind in ("JPEGImages", "Annotations"))
    first, later = (read_annotation(truth / f"{index:05d}.png") for index in (0, 5))
    write_mask(tmp_path / "given.png", first.labels)
    found = match_mask(frames, 0, 5, tmp_path / "given.png", tmp_path / "out.png", model=NANO)
    carried = read_mask(found.mask, size=later.labels.shape).labels
    both, either = (carried > 0) & (later.labels > 0), (carried > 0) | (later.labels > 0)
    assert both.sum() / either.sum() > 0.9
    assert found.objects == {1: (int((first.labels > 0).sum()), int((carried > 0).sum()))}


def test_masks_are_checked(moved: Moved, tmp_path: Path) -> None:
    mask, out = tmp_path / "mask.png", tmp_path / "out.png"
    write_mask(mask, np.zeros(moved.size, np.uint8))
    with pytest.raises(UsageError, match="shows no object"):
        match_mask(moved.folder, 0, 1, mask, out, model=NANO)
    write_mask(mask, np.ones((50, 90), np.uint8))
    with pytest.raises(MaskError, match="mask.png"):
        match_mask(moved.folder, 0, 1, mask, out, model=NANO)
    assert not out.exists()


def test_masks_keep_detail_between_grid_positions() -> None:
    import torch

    from pipelines.networks.reading import MemoryRules
    from pipelines.stages.correspond import Correspondence

    keys = 50 * torch.eye(12)  # every position resembles itself only
    same = Correspondence(keys, keys, (3, 4), (40, 60), MemoryRules(top_k=None, similarity="dot"))
    mask = np.zeros((1, 40, 60), np.float32)
    mask[:, 12:28, 6:38] = 1  # edges at multiples of 16 / DETAIL of the padded image, not of 16
    assert DETAIL == 4
    assert ((same.transfer_masks(mask) > 0.5) != (mask > 0.5)).sum() <= 12  # corners get a little round
    with pytest.raises(InputError, match="the masks to transfer have shape"):
        same.transfer_masks(mask[:, 1:])
