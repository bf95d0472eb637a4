"""Limits against weight files and downloads that were made to harm; see `test_limits`."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stores import checkpoints
from stores.downloads import Patience, download
from stores.errors import MivosError
from tests.stores.refusals import refusal


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_tensors_that_stand_for_more_than_the_file_holds(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", {"a": torch.zeros(1).half().expand(2**40)})
    assert refusal(lambda: checkpoints.read_checkpoint(path), "numbers", "are the most").hint


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(3, 3).to_sparse(),
        lambda: torch.zeros(2, device="meta"),
        lambda: torch.zeros(2, dtype=torch.complex64),
        lambda: torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "complex", "quantised"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_no_network_takes(tmp_path: Path, make: Callable[[], torch.Tensor]) -> None:
    path = saved(tmp_path / "net.pth", {"a": make()})
    refusal(lambda: checkpoints.read_checkpoint(path), "net.pth")


def test_archives_that_unpack_to_very_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(2**24))
    monkeypatch.setattr(checkpoints, "MAX_PACKED_BYTES", 2**23)
    assert path.stat().st_size < 2**16
    assert refusal(lambda: checkpoints.read_checkpoint(path), "16777216 bytes unpacked, 8388608 are the most").hint


def test_members_that_lie_on_each_other(tmp_path: Path) -> None:
    """One stored member that the list of the archive names a hundred times."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", bytes(10_000))
        archive.filelist *= 100
    path = tmp_path / "net.pth"
    path.write_bytes(file.getvalue())
    refusal(lambda: checkpoints.read_checkpoint(path), "bytes unpacked")


def test_counts_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "net.pth", {f"k{i}": torch.zeros(4) for i in range(9)})
    monkeypatch.setattr(checkpoints, "MAX_NUMBERS", 30)
    refusal(lambda: checkpoints.read_checkpoint(path), "36 numbers, 30 are the most")
    monkeypatch.setattr(checkpoints, "MAX_ENTRIES", 5)
    refusal(lambda: checkpoints.read_checkpoint(path), "5 are the most")
    monkeypatch.setattr(checkpoints, "MAX_FILE_BYTES", 99)
    refusal(lambda: checkpoints.read_checkpoint(path), "99 are the most")


def test_a_download_that_never_ends(
    tmp_path: Path, visits: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stores.downloads.MAX_BYTES", 2**20)
    for name in ("endless", "odd"):
        target = tmp_path / name / "net.pth"
        with pytest.raises(MivosError):
            download(f"{visits[0]}/{name}", target, patience=Patience(attempts=1, read=5))
        left = [path for path in target.parent.iterdir() if not path.name.startswith(".")]
        assert sum(path.stat().st_size for path in left) < 2**21 and not target.exists()


def test_a_card_of_a_download_that_is_damaged(tmp_path: Path, visits: tuple[str, list[str]]) -> None:
    target = tmp_path / "net.pth"
    for card in ("[]", '{"url": 1}', '{"url": "URL", "etag": 5}', '{"url": "URL", "total": "x"}', "[" * 10**5):
        (tmp_path / "net.pth.part").write_bytes(b"abc")
        (tmp_path / "net.pth.part.json").write_text(card.replace("URL", f"{visits[0]}/x"))
        download(f"{visits[0]}/x", target, patience=Patience(attempts=1, read=5))
        assert target.stat().st_size == 40 * 2**16
        target.unlink()
