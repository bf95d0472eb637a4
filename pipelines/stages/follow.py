"""Following objects whose first masks are given, in one pass over the video.

The semi-supervised procedures of Mask-Propagation and STCN. In DAVIS all masks are given on the first frame; in
YouTube-VOS objects may be given later. The first is the second with a single frame of masks: their rules for memory
agree, because a distance of n frames from frame 0 is reached just where the frame number is a multiple of n.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.engine import Networks
from pipelines.networks.aggregate import aggregate_wbg
from pipelines.networks.long_term import memory_bank
from pipelines.stages.propagate import ReadFrame
from pipelines.stages.tensors import Padding, image_tensor, mask_tensor
from stores.errors import MaskError


@dataclass(frozen=True, eq=False)
class Followed:
    """One frame of the result.

    Attributes:
        probs: float32 [K + 1, H, W], background first, then objects by ascending id; exactly 0 where an object has not
            been given yet; ids: the K objects' ids.
    """

    index: int
    probs: np.ndarray
    ids: tuple[int, ...]

    def labels(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """Object ids, uint8 [H, W], of the most probable object at every pixel.

        Args:
            size: (height, width) to which probabilities are first resized, bilinearly.
        """
        probs = torch.from_numpy(self.probs)
        if size is not None and size != probs.shape[-2:]:
            probs = F.interpolate(probs[None], size=size, mode="bilinear", align_corners=False)[0]
        return np.array((0, *self.ids), np.uint8)[probs.argmax(0).numpy()]


class Follower:
    """Follows objects through a video once. Holds the memory bank and the frame at hand, nothing else that is large."""

    def __init__(
        self,
        networks: Networks,
        read_frame: ReadFrame,
        size: tuple[int, int],
        num_frames: int,
        given: Mapping[int, np.ndarray],
        wanted: Collection[int] | None = None,
    ) -> None:
        """Arguments and errors as in `follow`."""
        self.networks, self.read_frame, self.size = networks, read_frame, size
        self.padding, self.bank = Padding.of(*size), memory_bank(networks.rules)
        self.wanted = None if wanted is None else frozenset(wanted)
        self.end = num_frames if self.wanted is None else min(num_frames, max(self.wanted, default=-1) + 1)
        self._given: dict[int, np.ndarray] = {}
        order: dict[int, None] = {}  # ids in the order they appear, the one that the memory bank needs
        for index in sorted(given):
            labels = given[index]
            if not 0 <= index < num_frames:
                raise MaskError(
                    f"a mask is given for frame {index}, the video has frames 0..{num_frames - 1}",
                    hint="frames are counted from 0",
                )
            if labels.shape != size:
                raise MaskError(
                    f"the mask of frame {index} is {labels.shape[1]}x{labels.shape[0]}, the video {size[1]}x{size[0]}",
                    hint="resize the mask, by nearest neighbour, to the size of the frames",
                )
            ids = [int(i) for i in np.unique(labels) if i]
            if ids:
                self._given[index] = labels
                order.update(dict.fromkeys(ids))
        if not order:
            raise MaskError("no given mask shows an object", hint="paint objects with ids 1, 2, ...")
        self._order = tuple(order)
        self.ids = tuple(sorted(order))
        self._known = 0
        self._last_permanent = -1
        self._previous = torch.empty(0)  # [known, 1, h, w], what the latest frame that was computed ended with

    def run(self) -> Iterator[Followed]:
        """The wanted frames in order."""
        first = min(self._given)
        for index in range(self.end):
            joint = self._step(index) if index >= first else None
            if self.wanted is None or index in self.wanted:
                yield Followed(index, self._result(joint), self.ids)

    @torch.inference_mode()
    def _step(self, index: int) -> Tensor | None:
        """Computes a frame and memorises it: background and known objects [1 + known, 1, h, w], None if not needed."""
        rules, labels = self.networks.rules, self._given.get(index)
        permanent = index - self._last_permanent >= rules.every
        wanted = self.wanted is None or index in self.wanted
        # Even with new objects on it, a frame that is neither wanted nor memorised by itself is not predicted, so what
        # enters memory then says that the objects known before are not there. The authors' results depend on this.
        predicted = self._known > 0 and (wanted or permanent or rules.temporary)
        if not predicted and labels is None:
            return None
        image = image_tensor(self.read_frame(index))
        query = self.networks.encode_key(image)
        joint = None
        if predicted:
            readout = self.bank.read(query.key)
            joint = aggregate_wbg(self.networks.decode(readout, query, self._previous.to(readout.device)))
        if labels is not None:
            joint = self._add_given(labels, None if joint is None else joint[1:], query.key.device)
        assert joint is not None
        self._previous = masks = joint[1:]
        if index + 1 == self.end:  # nothing reads the memory of the last frame
            return joint
        if labels is not None or permanent or rules.temporary:
            key, value = self.networks.encode_memory(image, query, masks)
            if labels is not None:
                self.bank.keep_pass()
                self.bank.add_certain(key, value)
            else:
                (self.bank.add_permanent if permanent else self.bank.set_temporary)(key, value)
            if labels is not None or permanent:
                self._last_permanent = index
        return joint

    def _add_given(self, labels: np.ndarray, predicted: Tensor | None, device: torch.device) -> Tensor:
        """Joins given masks with the prediction of objects known before; [1 + known, 1, h, w] with the new `known`."""
        planes = mask_tensor(np.stack([labels == i for i in self._order]), self.padding).to(device)
        shown = planes.flatten(1).any(1)
        joined = torch.zeros_like(planes)
        if predicted is not None:
            joined[: self._known] = predicted.masked_fill(planes.amax(0) > 0.5, 0)
        joined[shown] = planes[shown]
        self._known = max(self._known, int(shown.nonzero().max()) + 1)
        return aggregate_wbg(joined)[: self._known + 1]

    def _result(self, joint: Tensor | None) -> np.ndarray:
        probs = np.zeros((len(self.ids) + 1, *self.size), np.float32)
        if joint is None:
            probs[0] = 1
            return probs
        rows = [0, *(1 + self.ids.index(i) for i in self._order[: self._known])]
        probs[rows] = self.padding.remove(joint)[:, 0].cpu().numpy()
        return probs


def follow(
    networks: Networks,
    read_frame: ReadFrame,
    size: tuple[int, int],
    num_frames: int,
    given: Mapping[int, np.ndarray],
    *,
    wanted: Collection[int] | None = None,
) -> Iterator[Followed]:
    """Follows objects from the frames on which their masks are given to the end of the video.

    A frame on which new objects are given is first predicted for those known before. There the given masks win, and
    all objects together are normalised and memorised. An object that is given again gets the new mask; it is no second
    object. Before the first given mask everything is background. How memory is kept and read is in `networks.rules`.

    Args:
        read_frame: index -> uint8 [H, W, 3] RGB, or float of the same scale for a frame that was resized without
            rounding; each is asked for at most once, in order.
        size: (H, W); num_frames: length of the video.
        given: frame -> labels uint8 [H, W], 0 = background, otherwise an object's id; ids may have gaps.
        wanted: the frames whose result is needed. Others are not computed unless they go into memory, which is what
            STCN's evaluation does. A frame with new objects should be wanted: otherwise the objects known before count
            as absent there, as in the original. None: all.

    Returns:
        The wanted frames in order, computed as they are asked for.

    Raises:
        MaskError: a mask has another size than the video or belongs to no frame, or none of them shows an object.
    """
    return Follower(networks, read_frame, size, num_frames, given, wanted).run()
