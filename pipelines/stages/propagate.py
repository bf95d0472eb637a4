"""Propagation: from an interacted frame outward, frame by frame, as a stream.

Order of work, bounds and memory rules are those of MiVOS (section 3.2 and its code): first forward, then backward,
each from certain memory (all interacted frames) plus the permanent frames of its own pass, up to the next
interacted frame. What a pass memorises is its own result, never a fused one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pipelines.engine import Networks
from pipelines.networks.aggregate import aggregate_wbg
from pipelines.networks.long_term import BudgetBank, memory_bank
from pipelines.networks.protocol import Query
from pipelines.stages.tensors import Padding, image_tensor, mask_tensor

ReadFrame = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Anchor:
    """An interacted frame: its mask, and how many objects existed when it was marked.

    One frame may be there twice, with the masks of two rounds (the authors keep both in memory).
    """

    index: int
    objects: np.ndarray  # float32 [K', H, W], K' <= K
    known: int


@dataclass(frozen=True)
class Pass:
    """One direction of a round: frames `start + step`, ... up to but not including `end`.

    `bound` is the older interacted frame at which fusion ends, None where there is none on this side; `interacted`
    are all older interacted frames.
    """

    start: int
    step: int
    end: int
    bound: int | None
    interacted: frozenset[int] = frozenset()

    @property
    def indices(self) -> range:
        return range(self.start + self.step, self.end, self.step)


@dataclass(frozen=True)
class PassState:
    """Where an interrupted pass stands: the last finished frame and the exact masks of permanent memory.

    Masks are float32 [K, h, w] at the padded size: what a network says about the border enters its memory.
    `dropped` counts permanent frames that already made room for later ones. `memory` is, with a memory budget, the
    state of the bank instead.
    """

    last: int
    previous: np.ndarray
    last_permanent: int
    permanent: list[tuple[int, np.ndarray]] = field(default_factory=list)
    dropped: int = 0
    memory: dict[str, np.ndarray] | None = None


@dataclass(frozen=True)
class Propagated:
    """One frame of the stream.

    Attributes:
        probs: float32 [K + 1, *size], background first; padded: float32 [K, h, w] the same objects with the border;
        permanent: whether the frame went into permanent memory.
    """

    index: int
    probs: np.ndarray
    padded: np.ndarray
    query: Query
    permanent: bool
    run: Pass


def plan_passes(
    start: int, num_frames: int, interacted: Sequence[int], *, new_objects: bool, span: tuple[int, int] | None = None
) -> list[Pass]:
    """The forward and the backward pass of an interaction on frame `start`.

    A pass ends before the nearest interacted frame; objects that first appear in this interaction are unknown
    there, so with them it goes on to the end of the video.

    Args:
        span: first and last frame that may be reached, None for all.
    """
    after = [i for i in interacted if i > start]
    before = [i for i in interacted if i < start]
    high, low = min(after, default=None), max(before, default=None)
    first, last = span or (0, num_frames - 1)
    end = num_frames if high is None or new_objects else high
    begin = -1 if low is None or new_objects else low
    passes = [
        Pass(start, 1, min(end, last + 1), high, frozenset(interacted)),
        Pass(start, -1, max(begin, first - 1), low, frozenset(interacted)),
    ]
    return [p for p in passes if len(p.indices)]


class Propagator:
    """Runs the passes of one round; certain memory is encoded once and shared by both."""

    def __init__(
        self,
        networks: Networks,
        read_frame: ReadFrame,
        size: tuple[int, int],
        num_objects: int,
        anchors: Sequence[Anchor],
    ) -> None:
        """
        Args:
            read_frame: index -> uint8 [H, W, 3]; size: of masks, that of the frames with or without their border;
            anchors: interacted frames in the order they were made, the one this round starts from last.
        """
        self.networks, self.read_frame, self.num_objects = networks, read_frame, num_objects
        self.padding = Padding.of(*size)  # of masks; none if they come with the border
        self.bank = memory_bank(networks.rules)
        self.start_query: Query | None = None
        for anchor in anchors:
            masks = np.zeros((num_objects, *size), np.float32)
            masks[: len(anchor.objects)] = anchor.objects
            key, value, query = self._encode(anchor.index, mask_tensor(masks, self.padding))
            self.bank.add_certain(key, value, anchor.known)
            self.start_key, self.start_query = key, query
            self.start_masks = mask_tensor(masks, self.padding)

    def _encode(self, index: int, masks: Tensor) -> tuple[Tensor, Tensor, Query]:
        image = image_tensor(self.read_frame(index))
        query = self.networks.encode_key(image)
        key, value = self.networks.encode_memory(image, query, masks.to(query.key.device))
        return key, value, query

    def query_key(self, index: int) -> Tensor:
        """Query key [1, Ck, H, W] of a frame, the one `run` yields for it."""
        return self.networks.encode_key(image_tensor(self.read_frame(index))).key

    def run(self, plan: Pass, state: PassState | None = None) -> Iterator[Propagated]:
        """Segments the frames of a pass in order; `state` continues an interrupted one."""
        rules, bank = self.networks.rules, self.bank
        bank.forget_pass(0 if state is None else state.dropped)
        previous, last_permanent, begin = self.start_masks, plan.start, plan.start
        if state is not None:
            for index, objects in state.permanent:
                key, value, _ = self._encode(index, _as_masks(objects))
                bank.add_permanent(key, value)
            previous, last_permanent, begin = _as_masks(state.previous), state.last_permanent, state.last
            if state.memory is not None:
                assert isinstance(bank, BudgetBank)
                bank.restore_pass(state.memory)
            elif rules.temporary and state.last not in (plan.start, last_permanent):
                key, value, _ = self._encode(state.last, previous)
                bank.set_temporary(key, value)
        for index in range(begin + plan.step, plan.end, plan.step):
            with torch.inference_mode():
                image = image_tensor(self.read_frame(index))
                query = self.networks.encode_key(image)
                readout = bank.read(query.key)
                probs = self.networks.decode(readout, query, previous.to(readout.device))
                joint = aggregate_wbg(probs)
                masks = joint[1:]
                permanent = False
                if index + plan.step != plan.end:  # nothing reads the memory of the last frame
                    permanent = abs(index - last_permanent) >= rules.every
                    if permanent or rules.temporary:
                        key, value = self.networks.encode_memory(image, query, masks)
                        (bank.add_permanent if permanent else bank.set_temporary)(key, value)
                    if permanent:
                        last_permanent = index
                previous = masks
                result = self.padding.remove(joint)[:, 0].cpu().numpy()
            yield Propagated(index, result, masks[:, 0].cpu().numpy(), query, permanent, plan)


def _as_masks(padded: np.ndarray) -> Tensor:
    """float32 [K, h, w] -> [K, 1, h, w]."""
    return torch.from_numpy(padded)[:, None]
