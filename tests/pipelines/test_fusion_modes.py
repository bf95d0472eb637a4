"""Fusion as published, without what the round corrected, and none at all."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipelines import flow
from pipelines.engine import Fusion, ModelChoice, Networks, networks
from pipelines.networks.aggregate import aggregate_wbg
from pipelines.rounds import Round, RoundState
from pipelines.stages.tensors import Padding, image_tensor, mask_tensor
from stores.errors import UsageError
from stores.masks import write_mask
from stores.session import Session
from stores.video import read_frames

FRAMES, HEIGHT, WIDTH = 7, 64, 151
LAST = FRAMES - 1
BETWEEN = range(1, LAST)


def choice(fusion: Fusion) -> ModelChoice:
    return ModelChoice(device="cpu", engine="torch", fusion=fusion)


@pytest.fixture(scope="module")
def given(bikes_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames, and masks of the first and the last one that do not agree."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "clip").mkdir()
    for frame, _ in zip(read_frames(bikes_video, size=HEIGHT), range(FRAMES), strict=False):
        cv2.imwrite(str(folder / "clip" / f"{frame.index:05d}.png"), frame.image[..., ::-1])
    for frame, x in ((0, 40), (LAST, 60)):
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.circle(labels, (x, HEIGHT // 2), 16, 1, -1)
        (folder / str(frame)).mkdir()
        write_mask(folder / str(frame) / f"{frame:05d}.png", labels)
    return folder


@pytest.fixture(scope="module")
def first_round(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    session = tmp_path_factory.mktemp("sessions") / "first"
    flow.decode(given / "clip", session, size=HEIGHT)
    for step in (flow.interact, flow.propagate, flow.fuse):
        step(session, **({"masks": given / "0"} if step is flow.interact else {}), model=choice("off"))
    return session


def second_round(first_round: Path, given: Path, folder: Path, fusion: Fusion) -> tuple[Path, np.ndarray]:
    """The session after a second round in stages, and what was propagated in it, before it was fused."""
    session = folder / fusion
    shutil.copytree(first_round, session)
    flow.interact(session, masks=given / str(LAST), model=choice(fusion))
    flow.propagate(session, model=choice(fusion))
    with Session.open(session, write=True) as store:
        Round(store, networks(choice(fusion))).unfinished()
        pending = [store.pending(index) for index in BETWEEN]
    assert not any(item is None for item in pending)
    flow.fuse(session, model=choice(fusion))
    return session, np.stack(pending)  # type: ignore[arg-type]


def probs_of(session: Path, border: bool = True) -> np.ndarray:
    with Session.open(session) as store:
        return np.stack([store.probs(index, border=border) for index in range(FRAMES)])  # type: ignore[misc]


def test_off_leaves_what_was_propagated(first_round: Path, given: Path, tmp_path: Path) -> None:
    session, propagated = second_round(first_round, given, tmp_path, "off")
    before, after = probs_of(first_round), probs_of(session)
    assert np.array_equal(after[1:LAST], propagated)
    assert np.array_equal(after[0], before[0]), "the older interaction stays"
    assert np.abs(after[1:LAST] - before[1:LAST]).max() > 0.5
    with Session.open(session) as store:
        assert store.rounds[1].model["fusion"] == "off" and "fuse" not in store.rounds[1].stages


def test_off_in_one_stream_is_off_in_stages(first_round: Path, given: Path, tmp_path: Path) -> None:
    session, _ = second_round(first_round, given, tmp_path, "off")
    chained = tmp_path / "chained"
    shutil.copytree(first_round, chained)
    flow.segment(
        given / "clip", tmp_path / "out", masks=given / str(LAST), session=chained, size=HEIGHT, model=choice("off")
    )
    assert np.array_equal(probs_of(chained), probs_of(session))


def test_no_difference_is_fusion_with_empty_attention(first_round: Path, given: Path, tmp_path: Path) -> None:
    session, propagated = second_round(first_round, given, tmp_path, "no-difference")
    full, same = second_round(first_round, given, tmp_path, "full")
    assert np.array_equal(same, propagated)
    before, after = probs_of(first_round), probs_of(session)
    assert not np.array_equal(after, probs_of(full)), "how much the maps matter is up to the weights"
    assert np.abs(after[1:LAST] - propagated).max() > 0.02, "something was fused"
    nets, padding = networks(choice("full")), Padding.of(*after.shape[2:])
    with Session.open(session) as store:
        for index in BETWEEN:
            old, new = mask_tensor(before[index][1:], padding), mask_tensor(propagated[index - 1][1:], padding)
            planes = torch.zeros(1, 2, *new.shape[2:])
            time = torch.tensor([[index / LAST, (LAST - index) / LAST]])
            with torch.inference_mode():
                fused = aggregate_wbg(nets.fuse(image_tensor(store.frame(index)), old, new, planes, time))
            np.testing.assert_allclose(after[index], padding.remove(fused)[:, 0].numpy(), atol=1.01 / 255)


@pytest.mark.parametrize(("kept", "meaning"), [({}, "full"), ({"fusion": True}, "full"), ({"fusion": False}, "off")])
def test_rounds_of_earlier_versions(kept: dict[str, bool], meaning: str) -> None:
    state = RoundState("0", "masks", 0, (1,), [], 0, "interacted", settings=kept)
    assert RoundState.from_json(asdict(state)).settings["fusion"] == meaning


def test_unknown_fusion_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown fusion 'on'"):
        Networks(ModelChoice(fusion="on"))  # type: ignore[arg-type]
