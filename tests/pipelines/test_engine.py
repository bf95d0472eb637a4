"""Devices and engines: the compiled CPU engine gives what PyTorch gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines import compiled
from pipelines.engine import ModelChoice, Networks, pick_device
from pipelines.networks import registry
from stores.errors import ModelError, UsageError

H, W = 64, 96


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(compiled, "cache_dir", lambda: tmp_path)
    return tmp_path


def nano(engine: str) -> Networks:
    return Networks(ModelChoice("nano", "cpu", engine))


def run(nets: Networks) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    image, masks = torch.randn(1, 3, H, W, generator=g), torch.rand(2, 1, H, W, generator=g)
    query = nets.encode_key(image)
    key, value = nets.encode_memory(image, query, masks)
    probs = nets.decode(value, query, masks)
    strokes = nets.segment_strokes(torch.cat([image, masks.new_zeros(1, 3, H, W)], 1))
    time = torch.tensor([[0.2, 0.8], [0.2, 0.8]])
    fused = nets.fuse(image, masks, probs, torch.rand(2, 2, H, W, generator=g), time)
    assert key.shape == query.key.shape == (1, 66, H // 16, W // 16)
    assert value.shape == (2, 112, H // 16, W // 16)
    assert probs.shape == fused.shape == (2, 1, H, W) and strokes.shape == (1, 1, H, W)
    return [query.key, value, probs, strokes, fused]


def test_openvino_equals_torch_and_is_cached(cache: Path) -> None:
    pytest.importorskip("openvino")
    eager, fast = nano("torch"), nano("auto")
    assert fast.engine == "openvino"
    for a, b in zip(run(eager), run(fast), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-3)
    verdicts = sorted(cache.glob("*.json"))
    assert len(verdicts) == 2 and len(list(cache.glob("*.xml"))) == 2
    before = [v.stat().st_mtime_ns for v in verdicts]
    for a, b in zip(run(eager), run(nano("openvino")), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-3)
    assert before == [v.stat().st_mtime_ns for v in verdicts]  # loaded, not converted again


def test_an_engine_that_differs_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(compiled, "TOLERANCE", {"float32": -1.0})
    image = torch.randn(1, 3, H, W)
    with pytest.raises(ModelError, match="differs"):
        nano("openvino").encode_key(image)
    torch.testing.assert_close(nano("auto").encode_key(image).key, nano("torch").encode_key(image).key)


def test_devices() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto") == pick_device(None)
    with pytest.raises(UsageError):
        pick_device("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="not available"):
            pick_device("cuda")


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(UsageError) as error:
        Networks("giant")
    assert "nano" in str(error.value.hint)
    with pytest.raises(UsageError):
        nano("abacus").runner("s2m")


def test_damaged_weights_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.load_network.cache_clear()
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match="missing"):
        registry.load_network("nano", "s2m")
    (tmp_path / "nano_s2m.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="neither a PyTorch"):
        registry.load_network("nano", "s2m")
    registry.load_network.cache_clear()


def test_shipped_weights_fit_the_package() -> None:
    total = sum(path.stat().st_size for path in registry.WEIGHTS.glob("*.safetensors"))
    assert total <= 25_000_000
