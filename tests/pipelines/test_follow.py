"""Following given masks: the authors' evaluations to the number, and what follows from the rules alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from pipelines.networks.nano import NanoPropagation
from pipelines.networks.protocol import Query
from pipelines.networks.reading import MemoryRules
from pipelines.networks.stcn import STCN
from pipelines.networks.stm import STM
from pipelines.stages.follow import Followed, Follower, follow
from pipelines.stages.tensors import Padding
from stores.errors import MaskError
from tests.pipelines.reference import Propagation, network

CELLS = 63  # memory positions of a frame of the golden clip
STM_RULES = MemoryRules(top_k=50, temporary=True, shared_keys=False, similarity="dot", scale_dim=STM.key_scale_dim)
STCN_RULES = MemoryRules(top_k=20, scale_dim=STCN.key_scale_dim)
REQUIRED = (0, 3, 8, 11)


@pytest.fixture(autouse=True, scope="module")
def kept_for_this_file_only():
    yield
    network.cache_clear()


@dataclass
class Clip:
    """A golden file, and a follower made for it."""

    data: dict[str, np.ndarray]
    network: str
    rules: MemoryRules
    follower: Follower = field(init=False)

    def labels(self, index: int, *objects: int) -> np.ndarray:
        labels = self.data["labels"][index]
        return np.where(np.isin(labels, objects), labels, 0).astype(np.uint8)

    def run(self, given: dict[int, np.ndarray], end: int = 12, wanted=None, **rules) -> list[Followed]:
        frames = self.data["frames"]
        networks = Propagation(network(self.network), replace(self.rules, **rules))
        self.follower = Follower(networks, frames.__getitem__, frames.shape[1:3], end, given, wanted)
        return list(self.follower.run())

    @property
    def memory(self) -> list[int]:
        """Positions that each object reads, the previous frame not counted."""
        self.follower.bank.keep_pass()
        return [CELLS * self.follower.bank.frames_of(k) for k in range(len(self.follower.ids))]

    def check(self, got: list[Followed], name: str) -> None:
        """Compares frames with golden ones; tolerances of the golden vectors."""
        at = [f.index for f in got]
        masks = self.data[f"{name}_masks"][at]
        assert all(f.probs.dtype == np.float32 for f in got)
        assert np.mean(np.stack([f.labels() for f in got]) != masks) < 5e-4
        self.check_probs(got, f"{name}_prob_s4")

    def check_probs(self, got: list[Followed], name: str) -> None:
        for frame in got:
            wanted = self.data[name][:, frame.index].astype(np.float32)
            padding = Padding.of(*frame.probs.shape[1:])
            # every 4th pixel of the padded map: the stored ones that lie inside the frame
            rows, columns = np.arange(wanted.shape[1]) * 4 - padding.top, np.arange(wanted.shape[2]) * 4 - padding.left
            y, x = (
                np.flatnonzero((v >= 0) & (v < n)) for v, n in zip((rows, columns), frame.probs.shape[1:], strict=True)
            )
            shown = frame.probs[:, rows[y]][:, :, columns[x]]
            np.testing.assert_allclose(shown, wanted[: len(shown)][:, y][:, :, x], atol=3e-3, rtol=0)


def read_clip(path: Path, network_name: str, rules: MemoryRules) -> Clip:
    with np.load(path) as arrays:
        return Clip(dict(arrays), network_name, rules)


@pytest.fixture(scope="module")
def stm(golden: Path) -> Clip:
    return read_clip(golden / "semisup_main.npz", "propagation", STM_RULES)


@pytest.fixture(scope="module")
def stcn(golden: Path) -> Clip:
    return read_clip(golden / "semisup_stcn.npz", "propagation_stcn", STCN_RULES)


@pytest.mark.parametrize(("name", "rules"), [("top50", {}), ("notop", {"top_k": None}), ("km", {"kernel_sigma": 5.6})])
def test_stm_with_all_masks_on_the_first_frame(stm: Clip, name: str, rules: dict) -> None:
    stm.check(stm.run({0: stm.data["labels"][0]}, **rules), f"davis_{name}")
    assert stm.memory == [3 * CELLS] * 2


def test_stm_with_a_single_object(stm: Clip) -> None:
    stm.check(stm.run({0: (stm.data["labels"][0] > 0).astype(np.uint8)}), "single")


@pytest.mark.parametrize(
    ("name", "rules"),
    [("default", {}), ("last", {"temporary": True}), ("every3_top50", {"every": 3, "top_k": 50})],
)
def test_stcn_with_all_masks_on_the_first_frame(stcn: Clip, name: str, rules: dict) -> None:
    stcn.check(stcn.run({0: stcn.data["labels"][0]}, **rules), f"davis_{name}")
    assert stcn.memory == [int(stcn.data[f"davis_{name}_mem_shape"][-1])] * 2


@pytest.mark.parametrize(
    ("kind", "suffix", "rules"), [("stm", "", {}), ("stcn", "_default", {}), ("stcn", "_last", {"temporary": True})]
)
def test_an_object_given_later(request: pytest.FixtureRequest, kind: str, suffix: str, rules: dict) -> None:
    clip: Clip = request.getfixturevalue(kind)
    got = clip.run({0: clip.labels(0, 1), 4: clip.labels(4, 2)}, **rules)
    clip.check(got, f"yv{suffix}")
    assert clip.memory == [3 * CELLS, 2 * CELLS]
    if kind == "stcn":
        assert clip.memory == clip.data[f"yv{suffix}_mem_len"].tolist()
    if suffix != "_last":
        assert np.mean(got[10].labels((150, 207)) != clip.data["yv_masks_150x207_frame10"]) < 5e-4
        # up to and including the prediction that the later object is then put on
        clip.check_probs(clip.run({0: clip.labels(0, 1)}, end=5), "yv_mid_prob_s4")


def test_ids_may_have_gaps_and_need_not_appear_in_order(stcn: Clip) -> None:
    """Object 1 comes later than object 2, under ids 3 and 200."""
    ids = np.zeros(256, np.uint8)
    ids[[1, 2]] = 200, 3
    got = stcn.run({0: ids[stcn.labels(0, 1)], 4: ids[stcn.labels(4, 2)]})
    assert got[0].ids == (3, 200)
    swapped = [replace(f, probs=f.probs[[0, 2, 1]], ids=(1, 2)) for f in got]
    stcn.check(swapped, "yv_default")
    assert set(np.unique(got[11].labels())) == {0, 3, 200}
    assert not got[3].probs[1].any() and got[4].probs[1].max() > 0.9


def test_frames_that_nobody_wants_are_skipped(stcn: Clip) -> None:
    wanted = {*REQUIRED, 9}  # 9 is a memory frame, so it is computed anyhow
    got = stcn.run({0: stcn.labels(0, 1), 4: stcn.labels(4, 2)}, wanted=wanted)
    assert [f.index for f in got] == sorted(wanted)
    stcn.check(got, "yv_req")
    assert stcn.memory == stcn.data["yv_req_mem_len"].tolist()


class Copying(nn.Module):
    """A network whose keys are colours and whose values are masks: what it reads is what it says."""

    shared_keys = True

    def encode_key(self, image: Tensor) -> Query:
        return Query(40 * nn.functional.avg_pool2d(image, 16), ())

    def encode_memory(self, image: Tensor, query: Query, masks: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        return query.key, nn.functional.avg_pool2d(masks, 16)

    def decode(self, readout: Tensor, query: Query, previous: Tensor) -> Tensor:
        assert previous.shape[0] == readout.shape[0]
        return 20 * nn.functional.interpolate(readout, scale_factor=16.0) - 10


class Still:
    """A video that does not move; notes which frames are read."""

    def __init__(self) -> None:
        image = np.random.default_rng(0).integers(0, 255, (3, 4, 3), dtype=np.uint8)
        self.image, self.read = image.repeat(16, 0).repeat(16, 1), []

    def __call__(self, index: int) -> np.ndarray:
        self.read.append(index)
        return self.image

    def given(self, **cells: tuple[int, int]) -> np.ndarray:
        """Labels with one cell for each object, named like o7."""
        labels = np.zeros((48, 64), np.uint8)
        for name, (y, x) in cells.items():
            labels[16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = int(name[1:])
        return labels


SIMPLE = MemoryRules(top_k=None, every=2, scale_dim=3)


def run(video: Still, given: dict[int, np.ndarray], rules: MemoryRules = SIMPLE, end: int = 12, wanted=None):
    return list(follow(Propagation(Copying(), rules), video, (48, 64), end, given, wanted=wanted))


def test_a_later_object_does_not_read_earlier_frames() -> None:
    """Earlier frames look the same and say that the object is not there: reading them would lower it."""
    video = Still()
    got = run(video, {0: video.given(o1=(0, 0)), 7: video.given(o2=(2, 3))})
    for frame in got:
        assert frame.probs[1, :16, :16].min() > 0.99
        assert (frame.probs[2, 32:, 48:].min() > 0.99) if frame.index >= 7 else not frame.probs[2].any()
        np.testing.assert_allclose(frame.probs.sum(0), 1, atol=1e-5)
    assert video.read == list(range(12))


def test_a_given_mask_wins_over_what_was_known() -> None:
    video = Still()
    both = video.given(o1=(0, 0))
    both[:, 32:] = 1
    got = run(video, {2: both, 5: video.given(o2=(1, 2))})
    assert np.array_equal(got[0].labels(), np.zeros((48, 64), np.uint8)) and float(got[1].probs[0].min()) == 1
    assert np.array_equal(got[4].labels(), both)
    both[16:32, 32:48] = 2
    assert np.array_equal(got[5].labels(), both)


def test_an_object_given_again_is_no_second_object() -> None:
    video = Still()
    once, again = video.given(o1=(0, 0)), video.given(o1=(2, 2))
    got = run(video, {0: once, 3: again, 4: np.zeros_like(once)}, replace(SIMPLE, temporary=True), end=5)
    assert got[0].ids == (1,)
    assert [np.array_equal(f.labels(), again if f.index == 3 else once) for f in got[:4]] == [True] * 4


def test_memory_stays_bounded_whenever_objects_appear() -> None:
    video = Still()
    given = {4 * i: video.given(**{f"o{i + 1}": (i // 4, i % 4)}) for i in range(10)}
    rules = replace(SIMPLE, every=1, max_permanent=3)
    follower = Follower(Propagation(Copying(), rules), video, (48, 64), 60, given)
    held = deque(maxlen=12)
    for _ in follower.run():
        held.append((follower.bank.frames, follower.bank.nbytes))
    assert len(set(held)) == 1 and held[-1][0] == len(given) + 3
    unbounded = Follower(Propagation(Copying(), replace(rules, max_permanent=None)), video, (48, 64), 60, given)
    deque(unbounded.run(), maxlen=0)
    assert unbounded.bank.frames == 59


def test_only_needed_frames_are_read() -> None:
    video = Still()
    got = run(video, {1: video.given(o1=(0, 0))}, replace(SIMPLE, every=4), end=20, wanted={0, 7, 8})
    assert [f.index for f in got] == [0, 7, 8] and video.read == [1, 5, 7, 8]
    video.read.clear()
    run(video, {1: video.given(o1=(0, 0))}, replace(SIMPLE, every=4, temporary=True), end=20, wanted={0, 7, 8})
    assert video.read == list(range(1, 9))
    assert run(video, {1: video.given(o1=(0, 0))}, wanted=set()) == []


def test_the_embedded_network_follows_too() -> None:
    video = Still()
    rules = MemoryRules(temporary=True, max_permanent=2, every=2, scale_dim=NanoPropagation.key_scale_dim)
    networks = Propagation(NanoPropagation().eval(), rules)
    given = {0: video.given(o5=(0, 0)), 3: video.given(o2=(2, 3))}
    got = list(follow(networks, video, (48, 64), 8, given))
    assert [f.probs.shape for f in got] == [(3, 48, 64)] * 8 and got[0].ids == (2, 5)
    assert all(np.isfinite(f.probs).all() for f in got)


def test_what_does_not_fit_is_refused() -> None:
    video = Still()
    labels = video.given(o1=(0, 0))
    with pytest.raises(MaskError, match=r"given for frame 12, the video has frames 0\.\.11"):
        run(video, {12: labels})
    with pytest.raises(MaskError, match="mask of frame 3 is 32x48, the video 64x48"):
        run(video, {3: labels[:, :32]})
    with pytest.raises(MaskError, match="no given mask shows an object"):
        run(video, {0: np.zeros_like(labels)})
