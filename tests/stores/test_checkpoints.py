"""Weight files: what training scripts wrap, what is damaged, and what would run code."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from stores.checkpoints import read_checkpoint, sha256
from stores.errors import ModelError


@pytest.fixture
def weights() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {"conv.weight": torch.randn(4, 3, 2, 2, generator=g), "bn.num_batches_tracked": torch.tensor(7)}


def assert_same(read: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert list(read) == list(wanted)
    for key, value in wanted.items():
        assert torch.equal(read[key], value) and read[key].dtype == value.dtype


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_a_bare_state_dict(tmp_path: Path, weights: dict[str, Tensor], zipped: bool) -> None:
    torch.save(weights, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    assert_same(read_checkpoint(tmp_path / "net.pth"), weights)


def test_safetensors_under_any_name(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    save_file(half, tmp_path / "net.pth")
    read = read_checkpoint(tmp_path / "net.pth")
    assert read["conv.weight"].dtype == torch.float32 and torch.equal(read["conv.weight"], half["conv.weight"].float())
    assert read["bn.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("names", [["network"], ["state_dict"], ["model", "model_state_dict"]], ids="/".join)
@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
def test_what_training_wraps_is_taken_off(
    tmp_path: Path, weights: dict[str, Tensor], names: list[str], prefix: str
) -> None:
    content: dict[str, Any] = {prefix + key: value for key, value in weights.items()}
    for name in names:
        content = {"it": 3, "optimizer": {"state": {0: torch.zeros(2)}}, name: content}
    torch.save(content, tmp_path / "net_checkpoint.pth")
    assert_same(read_checkpoint(tmp_path / "net_checkpoint.pth"), weights)


def test_a_prefix_of_some_keys_stays(tmp_path: Path) -> None:
    torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "net.pth")
    assert list(read_checkpoint(tmp_path / "net.pth")) == ["module.a", "b"]


def test_a_compressed_archive_is_read_right(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    weights["big"] = torch.zeros(100, 100)
    torch.save(weights, tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.pth") as old, zipfile.ZipFile(tmp_path / "small.pth", "w", 8) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry), compress_type=zipfile.ZIP_DEFLATED)
    assert_same(read_checkpoint(tmp_path / "small.pth"), weights)


class Malicious:
    """Unpickling it runs a shell command."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.evidence}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["zip", "before 1.6", "plain pickle"])
def test_code_in_a_pickle_is_never_run(tmp_path: Path, form: str) -> None:
    evidence, path = tmp_path / "owned", tmp_path / "net.pth"
    content = {"network": Malicious(evidence)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ModelError, match="refused"):
        read_checkpoint(path)
    assert not evidence.exists()
    torch.load(path, weights_only=False) if form != "plain pickle" else pickle.loads(path.read_bytes())
    assert evidence.exists(), "the file is harmless, so the test shows nothing"


def test_a_whole_module_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(ModelError, match="Linear"):
        read_checkpoint(tmp_path / "net.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("kept", [5, 200, 0.5, 0.99])
def test_a_cut_file(tmp_path: Path, weights: dict[str, Tensor], zipped: bool, kept: float) -> None:
    path = tmp_path / "net.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else int(kept)])
    assert_one_line(path)


def test_a_cut_safetensors_file(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "net.safetensors"
    save_file(weights, path)
    path.write_bytes(path.read_bytes()[:-9])
    assert_one_line(path, "cannot be read as safetensors")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>", "web page"),
        (b"hello world, these are no weights", "neither"),
        (b"\x80" + bytes(range(200)), "refused"),
        (b"PK\x03\x04" + bytes(200), "damaged"),
        (b"\x20" + bytes(7) + b"{ not json", "safetensors"),
    ],
    ids=["empty", "html", "text", "pickle", "zip", "safetensors"],
)
def test_garbage(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    assert_one_line(tmp_path / "net.pth", words)


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 1}, {"network": {}}, torch.zeros(3), {1: torch.zeros(1)}])
def test_no_weights_in_it(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "net.pth")
    assert_one_line(tmp_path / "net.pth", "holds no")


def test_missing_and_a_folder(tmp_path: Path) -> None:
    assert_one_line(tmp_path / "none.pth", "cannot be read")
    assert_one_line(tmp_path, "cannot be read")
    with pytest.raises(ModelError, match="cannot be read"):
        sha256(tmp_path / "none.pth")


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea")


def assert_one_line(path: Path, words: str = "") -> None:
    with pytest.raises(ModelError) as failure:
        read_checkpoint(path)
    message = str(failure.value)
    assert words in message and str(path) in message and "\n" not in message and len(message) < 400
    assert failure.value.hint
