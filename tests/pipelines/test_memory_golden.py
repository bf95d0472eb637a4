"""Memory reading against outputs of the authors' readers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.networks.memory import MemoryBank
from pipelines.networks.reading import MemoryRules
from tests.pipelines.reference import SMALL, load

close = torch.testing.assert_close


def frames(data: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """[G, C, T, H, W] -> (key [G, Ck, H, W], value [K, Cv, H, W]) of each frame."""
    return list(zip(data["mk"].unbind(2), data["mv"].unbind(2), strict=True))


@pytest.mark.parametrize("top_k", [50, 20, None])
@pytest.mark.parametrize("sigma", [None, 5.6])
@pytest.mark.parametrize("block_bytes", [2**20, 4 * 126 * 10])
def test_reader_of_the_stm_form(
    golden: Path, monkeypatch: pytest.MonkeyPatch, top_k: int | None, sigma: float | None, block_bytes: int
) -> None:
    monkeypatch.setattr("pipelines.networks.memory.BLOCK_BYTES", block_bytes)  # all at once, and 10 of 63 positions
    data = load(golden / "memory_reader.npz")
    rules = MemoryRules(top_k=top_k, shared_keys=False, similarity="dot", scale_dim=16, kernel_sigma=sigma)
    bank = MemoryBank(rules)
    for frame in frames(data):
        bank.add_certain(*frame)
    close(bank.read(data["qk"]), data[f"out_top{top_k}_km{sigma}"], **SMALL)


@pytest.mark.parametrize("top_k", [20, 50])
def test_bank_of_the_stcn_form(golden: Path, top_k: int) -> None:
    data = load(golden / "memory_bank_stcn.npz")
    bank = MemoryBank(MemoryRules(top_k=top_k, scale_dim=16))
    first, second = frames(data)
    bank.add_permanent(*first)
    bank.set_temporary(*second)
    close(bank.read(data["qk"]), data[f"out_top{top_k}"], **SMALL)
    bank.add_permanent(0.5 * second[0], 0.5 * second[1])
    close(bank.read(data["qk"]), data[f"out_top{top_k}_after_perm"], **SMALL)


def test_a_kernel_that_reaches_nowhere_reads_the_peaks_alone() -> None:
    """Every memory position is a copy of one query position, so a narrow kernel leaves only that one."""
    g = torch.Generator().manual_seed(0)
    query = torch.randn(1, 8, 5, 6, generator=g)
    value = torch.randn(2, 3, 5, 6, generator=g)
    for similarity in ("l2", "dot"):
        key = query / query.square().sum(1, keepdim=True).sqrt() if similarity == "dot" else query
        rules = MemoryRules(top_k=None, similarity=similarity, scale_dim=8, kernel_sigma=1e-2)
        bank = MemoryBank(rules)
        bank.add_certain(key, value)
        close(bank.read(key), value, atol=1e-5, rtol=0)


def test_a_kernel_that_reaches_everywhere_changes_nothing() -> None:
    g = torch.Generator().manual_seed(0)
    plain, wide = (MemoryBank(MemoryRules(top_k=7, scale_dim=8, kernel_sigma=sigma)) for sigma in (None, 1e4))
    for bank in (plain, wide):
        bank.add_certain(
            torch.randn(1, 8, 5, 6, generator=g.manual_seed(1)), torch.randn(2, 3, 5, 6, generator=g.manual_seed(2))
        )
    query = torch.randn(1, 8, 5, 6, generator=g)
    close(plain.read(query), wide.read(query), atol=1e-5, rtol=0)
