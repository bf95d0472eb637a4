"""The memory bank with a budget: bounded, equal where nothing had to go, and taken up exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipelines.networks.long_term import LEAST_FRAMES, BudgetBank, memory_bank
from pipelines.networks.memory import MemoryBank
from pipelines.networks.reading import MemoryBudget, MemoryRules
from stores.errors import StoreError, UsageError

H, W, CK, CV = 6, 8, 8, 5
CELLS = H * W
SHARED = MemoryRules(top_k=7, scale_dim=CK, temporary=True)
OWN = MemoryRules(top_k=7, scale_dim=CK, temporary=True, shared_keys=False, similarity="dot")


def frame(seed: int, objects: int = 2, groups: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(groups, CK, H, W, generator=g), torch.randn(objects, CV, H, W, generator=g)


def query(seed: int) -> torch.Tensor:
    return torch.randn(1, CK, H, W, generator=torch.Generator().manual_seed(1000 + seed))


def groups_of(rules: MemoryRules) -> int:
    return 1 if rules.shared_keys else 2


def run(bank: MemoryBank, rules: MemoryRules, first: int, last: int) -> torch.Tensor:
    """Frames first..last - 1 of a pass, every second one permanent; the last read-out."""
    out = torch.empty(0)
    for index in range(first, last):
        out = bank.read(query(index))
        (bank.add_permanent if index % 2 else bank.set_temporary)(*frame(index, groups=groups_of(rules)))
    return out


@pytest.mark.parametrize("rules", [SHARED, OWN], ids=["shared keys", "own keys"])
@pytest.mark.parametrize("frames", [4, 6, 12])
def test_a_budget_in_frames_holds_however_long_the_video(rules: MemoryRules, frames: int) -> None:
    bank = memory_bank(replace(rules, budget=MemoryBudget(frames=frames)))
    assert isinstance(bank, BudgetBank)
    bank.add_certain(*frame(0, groups=groups_of(rules)))
    sizes = []
    for index in range(1, 200):
        run(bank, rules, index, index + 1)
        sizes.append(bank.nbytes)
        assert (bank.frames + 1) * CELLS + bank.prototypes <= (frames + 1) * CELLS
    assert len(set(sizes[5:])) == 1, "it stops growing"
    full = sum(t[:, :CELLS].numel() * t.element_size() for t in bank._tables())
    assert max(sizes) <= frames * full
    assert (bank.prototypes > 0) == (frames > 4)


@pytest.mark.parametrize("rules", [SHARED, OWN], ids=["shared keys", "own keys"])
def test_a_budget_in_bytes_is_kept(rules: MemoryRules) -> None:
    plain = memory_bank(rules)
    plain.add_certain(*frame(0, groups=groups_of(rules)))
    budget = 14 * plain.nbytes
    bank = memory_bank(replace(rules, budget=MemoryBudget(nbytes=budget)))
    bank.add_certain(*frame(0, groups=groups_of(rules)))
    run(bank, rules, 1, 120)
    assert bank.nbytes <= budget
    assert bank.nbytes > budget / 2, "and used"


@pytest.mark.parametrize("rules", [SHARED, OWN], ids=["shared keys", "own keys"])
def test_until_something_must_go_it_reads_as_without_a_budget(rules: MemoryRules) -> None:
    plain, bounded = memory_bank(rules), memory_bank(replace(rules, budget=MemoryBudget(frames=40)))
    for bank in (plain, bounded):
        bank.add_certain(*frame(0, groups=groups_of(rules)))
    for index in range(1, 10):
        assert torch.equal(run(plain, rules, index, index + 1), run(bounded, rules, index, index + 1))


def test_what_was_read_a_lot_stays() -> None:
    """Old frames are remembered: a position read again and again survives hundreds of other frames."""
    rules = MemoryRules(top_k=1, scale_dim=CK, budget=MemoryBudget(frames=8))
    bank = memory_bank(rules)
    bank.add_certain(*frame(0, objects=1))
    key, value = frame(1, objects=1)
    key[0, :, 0, 0], value[0, :, 0, 0] = 30.0, 77.0  # nothing else is as similar to a query of 30s
    bank.add_permanent(key, value)
    asked = query(0)
    asked[0, :, :3] = 30.0
    for index in range(2, 300):
        read = bank.read(asked)
        assert read[0, 0, 2, 2] == 77.0, f"forgotten at frame {index}"
        bank.add_permanent(*frame(index, objects=1))
    forgetful = memory_bank(replace(rules, budget=None, max_permanent=8))
    forgetful.add_certain(*frame(0, objects=1))
    forgetful.add_permanent(key, value)
    for index in range(2, 300):
        forgetful.add_permanent(*frame(index, objects=1))
    assert forgetful.read(asked)[0, 0, 2, 2] != 77.0, "eviction alone does not do that"


@pytest.mark.parametrize("rules", [SHARED, OWN], ids=["shared keys", "own keys"])
@pytest.mark.parametrize("stop", [3, 8, 30, 31, 90])
def test_a_pass_taken_up_is_the_same_to_the_bit(rules: MemoryRules, stop: int) -> None:
    rules = replace(rules, budget=MemoryBudget(frames=9))
    whole, first, second = (memory_bank(rules) for _ in range(3))
    for bank in (whole, first, second):
        bank.add_certain(*frame(0, groups=groups_of(rules)))
    wanted = run(whole, rules, 1, 120)
    run(first, rules, 1, stop)
    assert isinstance(first, BudgetBank) and isinstance(second, BudgetBank)
    second.restore_pass({name: array.copy() for name, array in first.pass_state().items()})
    assert torch.equal(run(second, rules, stop, 120), wanted)


def test_a_state_of_another_budget_is_refused() -> None:
    first = memory_bank(replace(SHARED, budget=MemoryBudget(frames=9)))
    second = memory_bank(replace(SHARED, budget=MemoryBudget(frames=30)))
    for bank in (first, second):
        bank.add_certain(*frame(0))
    run(first, SHARED, 1, 40)
    assert isinstance(first, BudgetBank) and isinstance(second, BudgetBank)
    with pytest.raises(StoreError, match="does not fit"):
        second.restore_pass(first.pass_state())
    with pytest.raises(StoreError, match="does not fit"):
        second.restore_pass({})


def test_certain_frames_are_never_dropped(caplog: pytest.LogCaptureFixture) -> None:
    rules = replace(SHARED, top_k=1, budget=MemoryBudget(frames=6))
    bank = memory_bank(rules)
    for index in range(20):
        bank.add_certain(*frame(index))
    assert caplog.text.count("no room") == 1
    run(bank, rules, 20, 80)
    assert bank.frames <= 20 + LEAST_FRAMES + 1
    for index in (0, 19):  # the frame's own keys find it again
        key, value = frame(index)
        torch.testing.assert_close(bank.read(key), value)


@pytest.mark.parametrize("rules", [SHARED, OWN], ids=["shared keys", "own keys"])
def test_marking_later_frames_shrinks_what_a_kept_pass_left(rules: MemoryRules) -> None:
    rules = replace(rules, budget=MemoryBudget(frames=10))
    bank = memory_bank(rules)
    assert isinstance(bank, BudgetBank)
    bank.add_certain(*frame(0, groups=groups_of(rules)))
    begin = 1
    for _ in range(8):
        run(bank, rules, begin, begin + 37)
        begin += 37
        bank.keep_pass()
        bank.add_certain(*frame(5000 + begin, groups=groups_of(rules)))
        assert bank.frames * CELLS + bank.prototypes <= max(10, bank._certain + LEAST_FRAMES + 1) * CELLS
        assert torch.isfinite(bank.read(query(begin))).all()
    bank.forget_pass()
    assert bank.frames == 9 and bank.prototypes == 0


def test_later_objects_do_not_read_prototypes_of_before() -> None:
    rules = replace(SHARED, top_k=None, budget=MemoryBudget(frames=8))
    bank = memory_bank(rules)
    assert isinstance(bank, BudgetBank)
    bank.add_certain(*frame(0, objects=1))
    for index in range(1, 40):
        bank.add_permanent(*frame(index, objects=1))
    assert bank.prototypes
    bank.keep_pass()
    key, value = frame(50, objects=3)
    bank.add_certain(key, value)
    alone = MemoryBank(replace(rules, budget=None))
    alone.add_certain(key, value)
    torch.testing.assert_close(bank.read(query(1))[1:], alone.read(query(1))[1:])


def test_budgets_in_words() -> None:
    assert MemoryBudget.parse("12") == MemoryBudget(frames=12)
    assert MemoryBudget.parse(" 500 mb") == MemoryBudget(nbytes=500_000_000)
    assert MemoryBudget.parse("2GB") == MemoryBudget(nbytes=2_000_000_000)
    assert [str(MemoryBudget.parse(t)) for t in ("12", "500MB")] == ["12 frames", "500 MB"]
    for text in ("", "0", "-3", "1.5GB", "12 frames", "0MB", "9" * 13):
        with pytest.raises(UsageError, match="makes no sense"):
            MemoryBudget.parse(text)
