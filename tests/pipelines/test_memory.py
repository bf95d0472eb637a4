"""Memory reading against a dense reference, and what the bank keeps."""

from __future__ import annotations

import pytest
import torch

from pipelines.networks.memory import MemoryBank
from pipelines.networks.reading import MemoryRules, affinity, difference_attention, read_top_k

H, W, CK, CV = 5, 6, 8, 7


def frames(count: int, objects: int, groups: int = 1, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(groups, CK, H, W, generator=g), torch.randn(objects, CV, H, W, generator=g)) for _ in range(count)
    ]


def dense_read(memory: list, query: torch.Tensor, k: int | None, dot: bool = False) -> torch.Tensor:
    """Literal form: full affinity, everything but the top k set to zero, dense product."""
    out = []
    for obj in range(memory[0][1].shape[0]):
        group = min(obj, memory[0][0].shape[0] - 1)
        keys = torch.cat([key[group].flatten(1) for key, _ in memory], 1)
        values = torch.cat([value[obj].flatten(1) for _, value in memory], 1)
        q = query[0].flatten(1)
        if dot:
            a = keys.T @ q / CK**0.5
        else:
            a = (-keys.square().sum(0)[:, None] + 2 * keys.T @ q - q.square().sum(0)[None]) / CK**0.5
        if k is not None:
            keep = torch.zeros_like(a).scatter_(0, a.topk(k, dim=0).indices, 1)
            a = a.masked_fill(keep == 0, float("-inf"))
        out.append((values @ torch.softmax(a, 0)).unflatten(1, (H, W)))
    return torch.stack(out)


@pytest.mark.parametrize("k", [None, 1, 5, 10_000])
@pytest.mark.parametrize("dot", [False, True])
def test_read_equals_dense_form(k: int | None, dot: bool) -> None:
    rules = MemoryRules(top_k=k, scale_dim=CK, shared_keys=not dot, similarity="dot" if dot else "l2")
    bank, memory = MemoryBank(rules), frames(4, objects=2, groups=2 if dot else 1)
    bank.add_certain(*memory[0])
    bank.add_certain(*memory[1])
    bank.add_permanent(*memory[2])
    bank.set_temporary(*memory[3])
    query = torch.randn(1, CK, H, W, generator=torch.Generator().manual_seed(9))
    wanted = dense_read(memory, query, k if k is None or k < 4 * H * W else None, dot)
    torch.testing.assert_close(bank.read(query), wanted, atol=2e-5, rtol=1e-4)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, memory = MemoryBank(MemoryRules(top_k=4, scale_dim=CK)), frames(3, 2)
    for frame in memory:
        bank.add_certain(*frame)
    query = torch.randn(1, CK, H, W)
    whole = bank.read(query)
    monkeypatch.setattr("pipelines.networks.memory.BLOCK_BYTES", 4 * 90 * 7)
    torch.testing.assert_close(bank.read(query), whole)


def test_temporary_is_replaced_and_ended_by_permanent() -> None:
    bank, memory = MemoryBank(MemoryRules(top_k=None, scale_dim=CK)), frames(4, 1)
    bank.add_certain(*memory[0])
    bank.set_temporary(*memory[1])
    bank.set_temporary(*memory[2])
    query = torch.randn(1, CK, H, W)
    torch.testing.assert_close(bank.read(query), dense_read([memory[0], memory[2]], query, None), atol=1e-5, rtol=1e-4)
    bank.add_permanent(*memory[3])
    assert bank.frames == 2
    torch.testing.assert_close(bank.read(query), dense_read([memory[0], memory[3]], query, None), atol=1e-5, rtol=1e-4)


def test_bounded_bank_keeps_the_latest_and_stops_growing() -> None:
    bank, memory = MemoryBank(MemoryRules(top_k=None, max_permanent=2, scale_dim=CK)), frames(9, 1)
    bank.add_certain(*memory[0])
    sizes = []
    for frame in memory[1:]:
        bank.add_permanent(*frame)
        sizes.append(bank.nbytes)
    assert bank.frames == 3 and sizes[-1] == sizes[2]
    query = torch.randn(1, CK, H, W)
    wanted = dense_read([memory[0], memory[7], memory[8]], query, None)
    torch.testing.assert_close(bank.read(query), wanted, atol=1e-5, rtol=1e-4)
    bank.forget_pass()
    torch.testing.assert_close(bank.read(query), dense_read(memory[:1], query, None), atol=1e-5, rtol=1e-4)


def test_resumed_bank_is_the_same_to_the_bit() -> None:
    rules, memory = MemoryRules(top_k=6, max_permanent=3, scale_dim=CK), frames(9, 2)
    whole, resumed = MemoryBank(rules), MemoryBank(rules)
    for bank in (whole, resumed):
        bank.add_certain(*memory[0])
    for frame in memory[1:]:
        whole.add_permanent(*frame)
    resumed.forget_pass(dropped=5)
    for frame in memory[-3:]:
        resumed.add_permanent(*frame)
    query = torch.randn(1, CK, H, W)
    assert torch.equal(whole.read(query), resumed.read(query))


def test_an_object_reads_only_frames_that_knew_it() -> None:
    bank, memory = MemoryBank(MemoryRules(top_k=None, scale_dim=CK)), frames(2, 2)
    bank.add_certain(*memory[0], known=1)
    bank.add_certain(*memory[1])
    query = torch.randn(1, CK, H, W)
    read = bank.read(query)
    torch.testing.assert_close(read[:1], dense_read(memory, query, None)[:1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(read[1:], dense_read(memory[1:], query, None)[1:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("per_object", [False, True])
def test_objects_that_come_later_read_from_then_on(per_object: bool) -> None:
    rules = MemoryRules(top_k=None, scale_dim=CK, similarity="dot" if per_object else "l2", shared_keys=not per_object)
    bank, memory = MemoryBank(rules), frames(5, 3, groups=3 if per_object else 1)

    def first(count: int, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        key, value = memory[index]
        return key[:count], value[:count]

    bank.add_certain(*first(1, 0))
    bank.add_permanent(*first(1, 1))
    bank.set_temporary(*first(1, 2))
    bank.keep_pass()
    bank.add_certain(*first(3, 3))
    bank.set_temporary(*first(3, 4))
    assert bank.frames == bank.frames_of(0) == 4 and bank.frames_of(1) == bank.frames_of(2) == 2
    query = torch.randn(1, CK, H, W, generator=torch.Generator().manual_seed(9))
    read = bank.read(query)
    wanted = dense_read([memory[i] for i in (0, 1, 3, 4)], query, None, per_object)[:1]
    torch.testing.assert_close(read[:1], wanted, atol=2e-5, rtol=1e-4)
    wanted = dense_read([memory[3], memory[4]], query, None, per_object)[1:]
    torch.testing.assert_close(read[1:], wanted, atol=2e-5, rtol=1e-4)


def test_a_kept_pass_counts_towards_the_bound() -> None:
    bank, memory = MemoryBank(MemoryRules(top_k=None, max_permanent=2, scale_dim=CK)), frames(9, 1)
    query = torch.randn(1, CK, H, W)

    def reads(*indices: int) -> None:
        wanted = dense_read([memory[i] for i in indices], query, None)
        torch.testing.assert_close(bank.read(query), wanted, atol=1e-5, rtol=1e-4)

    bank.add_certain(*memory[0])
    for index in (1, 2, 3):
        bank.add_permanent(*memory[index])
    with pytest.raises(RuntimeError, match="between passes"):
        bank.add_certain(*memory[4])
    bank.keep_pass()
    bank.add_certain(*memory[4])
    reads(0, 2, 3, 4)
    bank.add_permanent(*memory[5])
    reads(0, 3, 4, 5)
    bank.keep_pass()
    bank.add_certain(*memory[6])
    bank.add_permanent(*memory[7])
    bank.set_temporary(*memory[8])
    reads(0, 4, 5, 6, 7, 8)
    bank.forget_pass()
    reads(0, 4, 6)


def test_attention_of_identical_frames_stays_in_place() -> None:
    key = torch.zeros(1, 40, 5, 8)
    key.flatten(2)[0, torch.arange(40), torch.arange(40)] = 40.0  # every position unlike all others
    positive = torch.zeros(1, 1, 80, 128)
    positive[..., 16:32, 32:48] = 1
    maps = difference_attention(key, key, positive, torch.zeros_like(positive), MemoryRules(scale_dim=64))
    assert maps.shape == (1, 2, 80, 128)
    assert maps[0, 0, 24, 40] > 0.9 and maps[0, 0, 64, 100] < 0.01 and float(maps[0, 1].max()) == 0


def test_top_k_weights_sum_to_one() -> None:
    similarity = torch.randn(11, 50)
    assert torch.allclose(read_top_k(similarity, torch.ones(50, 3), 4), torch.ones(11, 3))
    assert affinity(torch.randn(50, 4), torch.randn(11, 4), MemoryRules()).shape == (11, 50)
