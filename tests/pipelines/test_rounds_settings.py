"""A round that was begun is never lost to other options, and sessions of earlier versions go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines import flow, models
from pipelines.engine import ModelChoice
from pipelines.networks.registry import WEIGHTS
from stores.errors import ModelError, UsageError
from stores.masks import write_mask
from stores.session import Session
from stores.video import read_frames

FRAMES, SIZE = 7, 64
TORCH = ModelChoice(engine="torch")


@pytest.fixture
def clip(bikes_video: Path, tmp_path: Path) -> Path:
    (tmp_path / "clip").mkdir()
    for frame, _ in zip(read_frames(bikes_video, size=SIZE), range(FRAMES), strict=False):
        cv2.imwrite(str(tmp_path / "clip" / f"{frame.index:05d}.png"), frame.image[..., ::-1])
    return tmp_path / "clip"


def mask(folder: Path, frame: int, x: int) -> Path:
    labels = np.zeros((SIZE, 151), np.uint8)
    cv2.circle(labels, (x, SIZE // 2), 16, 1, -1)
    folder.mkdir()
    write_mask(folder / f"{frame:05d}.png", labels)
    return folder


@pytest.fixture
def begun(clip: Path, tmp_path: Path) -> Path:
    """A session with one round, and a second one propagated but not fused."""
    session = tmp_path / "session"
    flow.decode(clip, session, size=SIZE)
    for frame, x in ((0, 40), (6, 60)):
        flow.interact(session, masks=mask(tmp_path / str(frame), frame, x), model=TORCH)
        flow.propagate(session, model=TORCH)
        if not frame:
            flow.fuse(session, model=TORCH)
    return session


def finished(session: Path) -> int:
    with Session.open(session) as opened:
        return len(opened.rounds)


def test_other_options_do_not_cost_a_propagated_round(begun: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    state = load_file(WEIGHTS / "nano_propagation.safetensors")
    save_file({key: value * torch.tensor(1.01, dtype=value.dtype) for key, value in state.items()}, other)
    with pytest.raises(UsageError, match="fusion: full, now off"):
        flow.fuse(begun, model=ModelChoice(engine="torch", fusion="off"))
    with pytest.raises(UsageError, match="other weights of the propagation network"):
        flow.fuse(begun, model=ModelChoice(engine="torch", checkpoints=(other,)))
    with pytest.raises(UsageError, match="precision: float32, now bfloat16"):
        flow.fuse(begun, model=ModelChoice(engine="torch", precision="bfloat16"))
    with pytest.raises(UsageError, match="other settings"):
        flow.interact(begun, masks=mask(tmp_path / "third", 3, 50), model=ModelChoice(engine="torch", fusion="off"))
    assert not flow.fuse(begun, model=TORCH).skipped and finished(begun) == 2


def test_weights_that_arrive_in_between_are_no_other_settings(
    clip: Path, tmp_path: Path, checkpoint_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIVOS_MODELS", str(tmp_path / "models"))
    models.import_file(checkpoint_files["propagation_stcn"])
    session, model = tmp_path / "session", ModelChoice("mivos-stcn", engine="torch")
    flow.decode(clip, session, size=SIZE, model=model)
    for frame, x in ((0, 40), (4, 60)):
        flow.interact(session, masks=mask(tmp_path / str(frame), frame, x), model=model)
        flow.propagate(session, model=model)
        if not frame:
            flow.fuse(session, model=model)  # nothing to blend with yet
    with pytest.raises(ModelError, match="no weights for its fusion network"):
        flow.fuse(session, model=model)
    models.import_file(checkpoint_files["fusion"], "fusion-stcn")
    assert not flow.fuse(session, model=model).skipped
    with Session.open(session) as opened:
        assert opened.prob_bits == 16
        assert set(opened.rounds[1].model["weights"]) == {"propagation", "fusion"}


def test_a_session_without_kept_interactions_goes_on(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 1 kept the mask of an interaction as its frame's result only; both are the same here."""
    copy = tmp_path / "copy"
    flow.fuse(begun, model=TORCH)
    kept = Session.interaction
    results = []
    for hidden in (0, 2):
        folder = mask(tmp_path / f"again{hidden}", 3, 50)
        session = begun if not hidden else copy
        if hidden:
            monkeypatch.setattr(Session, "interaction", lambda self, n: None if n <= 2 else kept(self, n))
        else:
            shutil.copytree(begun, copy)
        flow.interact(session, masks=folder, model=TORCH)
        flow.propagate(session, model=TORCH)
        flow.fuse(session, model=TORCH)
        with Session.open(session) as opened:
            results.append(np.stack([opened.probs(i) for i in range(FRAMES)]))
    assert np.array_equal(*results)


def test_background_alone_is_no_round(clip: Path, tmp_path: Path) -> None:
    strokes = [{"path": [[0.2, 0.2], [0.4, 0.4]], "object_id": 0}]
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"sequence": "clip", "scribbles": [strokes, *([[]] * (FRAMES - 1))]}))
    with pytest.raises(UsageError, match="no object is marked yet"):
        flow.segment(clip, tmp_path / "out", scribbles=file, size=SIZE, model=TORCH)
