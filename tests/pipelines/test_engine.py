"""Devices and engines: the compiled CPU engine gives what PyTorch gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines import compiled
from pipelines.engine import ModelChoice, Networks, choose_engine, pick_device
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


def test_a_graph_that_gives_nothing_sensible_differs() -> None:
    good, bad = torch.rand(4), torch.tensor([0.1, float("nan"), 0.2, 0.3])
    assert compiled._largest_difference([good], [good]) == 0
    assert compiled._largest_difference([good, bad], [good, good]) == float("inf")


def test_a_refused_graph_is_not_compiled_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(compiled, "TOLERANCE", {"float32": -1.0})
    for _ in range(2):
        with pytest.raises(ModelError, match="differs"):
            nano("openvino").encode_key(torch.randn(1, 3, H, W))
        monkeypatch.setattr(compiled, "_convert", None)  # a second conversion would fail otherwise


def test_bfloat16_is_close_and_memory_stays_float32() -> None:
    exact, half = (Networks(ModelChoice("nano", "cpu", "torch", p)) for p in ("float32", "bfloat16"))
    for a, b in zip(run(exact), run(half), strict=True):
        assert b.dtype == torch.float32 and not torch.equal(a, b)
        assert float((a - b).abs().mean() / a.std()) < 0.3


@pytest.mark.parametrize(("model", "name"), [("mivos", "propagation"), ("mivos-stcn", "propagation_stcn")])
def test_openvino_runs_the_authors_networks(
    model: str, name: str, checkpoint_files: dict[str, Path], cache: Path
) -> None:
    """STM has keys of its own and ignores most of what it could see; STCN hands on the query's."""
    pytest.importorskip("openvino")
    g, files = torch.Generator().manual_seed(1), (checkpoint_files[name],)
    image, masks = torch.randn(1, 3, H, W, generator=g), torch.rand(2, 1, H, W, generator=g)
    results = []
    for engine in ("torch", "openvino"):
        nets = Networks(ModelChoice(model, "cpu", engine, checkpoints=files))
        query = nets.encode_key(image)
        key, value = nets.encode_memory(image, query, masks)
        assert (key is query.key) == (model == "mivos-stcn")
        results.append([query.key, key, value, nets.decode(value, query, masks)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3 * float(a.std()) + 1e-5, rtol=0)


def test_engines_are_chosen_by_precision_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert choose_engine("auto", cpu, "float32", "winograd") == "winograd"
    assert choose_engine("auto", gpu, "float16", "winograd") == "torch"
    monkeypatch.setattr(compiled, "has_bfloat16", lambda: True)
    assert choose_engine("auto", cpu, "bfloat16", "winograd") == "openvino"
    monkeypatch.setattr(compiled, "has_bfloat16", lambda: False)
    assert choose_engine("auto", cpu, "bfloat16", "winograd") == "torch"
    monkeypatch.setattr("pipelines.networks.winograd.available", lambda: False)
    assert choose_engine("auto", cpu, "float32", "winograd") == "torch"
    with pytest.raises(ModelError, match="numba"):
        choose_engine("winograd", cpu, "float32", "winograd")
    for engine, device, precision in (("openvino", gpu, "float32"), ("auto", cpu, "float16"), ("auto", cpu, "int8")):
        with pytest.raises(UsageError):
            choose_engine(engine, device, precision, "winograd")


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
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match="missing"):
        registry.load_network("nano", "s2m")
    (tmp_path / "nano_s2m.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="neither a PyTorch"):
        registry.load_network("nano", "s2m")


def test_shipped_weights_fit_the_package() -> None:
    total = sum(path.stat().st_size for path in registry.WEIGHTS.glob("*.safetensors"))
    assert total <= 25_000_000
