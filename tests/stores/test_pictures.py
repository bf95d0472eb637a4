"""Frames kept as JPEGs: small, checked, and everything else as with exact ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines import flow
from stores.compacting import folder_bytes
from stores.pictures import JPEG, pack, stored_shape, unpack
from stores.session import Session
from stores.video import read_frames


def test_noise_fits_and_comes_back_nearly() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    assert pack(noise, "exact") is noise and unpack(noise, "exact") is noise
    stored = pack(noise, JPEG)
    assert stored.shape == stored_shape(JPEG, 37, 53) and stored.dtype == np.uint8
    smooth = np.repeat(np.linspace(0, 255, 53).astype(np.uint8)[None, :, None], 37, 0).repeat(3, 2)
    back = unpack(pack(smooth, JPEG), JPEG)
    assert back.shape == smooth.shape and np.abs(back.astype(int) - smooth).max() < 6
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert unpack(pack(red, JPEG), JPEG)[8, 8, 0] > 190, "channels keep their order"


def test_what_is_no_jpeg_is_told() -> None:
    for stored in (np.zeros(100, np.uint8), np.full(100, 7, np.uint8)):
        with pytest.raises(ValueError, match="no JPEG"):
            unpack(stored, JPEG)


def test_a_session_of_jpegs_is_smaller_and_goes_on_where_it_was(bikes_video: Path, tmp_path: Path) -> None:
    flow.decode(bikes_video, tmp_path / "exact", size=96)
    store = flow.create_session(bikes_video, tmp_path / "jpeg", size=96, frames=JPEG)
    with store:
        for frame, _ in zip(read_frames(bikes_video, size=96), range(120), strict=False):
            store.write_frame(frame)
    flow.decode(bikes_video, tmp_path / "jpeg", size=96)  # goes on at the last commit, in the coding it was begun with
    with Session.open(tmp_path / "exact") as exact, Session.open(tmp_path / "jpeg") as jpeg:
        assert (exact.frame_coding, jpeg.frame_coding) == ("exact", "jpeg")
        assert jpeg.decoded and jpeg.num_frames == exact.num_frames
        for index in (0, 99, 100, 119, 120, exact.num_frames - 1):
            difference = np.abs(exact.frame(index).astype(int) - jpeg.frame(index))
            assert 0 < difference.mean() < 3
    assert folder_bytes(tmp_path / "jpeg") < folder_bytes(tmp_path / "exact") / 2.5


def test_unknown_ways_of_keeping_frames_are_refused(bikes_video: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exact, jpeg"):
        flow.create_session(bikes_video, tmp_path / "s", frames="png")
    assert not Session.exists(tmp_path / "s")
