"""The authors' procedure in the DAVIS interactive evaluation (inference.md, section 8).

Eight interactions, three on one frame, three on the next, then two: each refines the frame's mask, and the third,
sixth and eighth also propagate. In between the robot is asked to stay on the frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.engine import Networks
from pipelines.requests import Request
from pipelines.rounds import Report, Round
from pipelines.stages.interact import interact_strokes
from pipelines.stages.tensors import Padding
from stores.errors import UsageError
from stores.scribbles import Stroke
from stores.session import Session

SCHEDULE = (2, 5, 7)  # interactions, counted from 0, that propagate


class DavisProcessor:
    """One evaluated sequence: strokes in, masks of all frames out."""

    def __init__(
        self, session: Session, networks: Networks, num_objects: int, *, padded_raster: bool = True,
        schedule: Sequence[int] = SCHEDULE, report: Report | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            session: decoded, without rounds, open for writing; num_objects: K, objects are 1..K;
            padded_raster: draw strokes on the padded canvas as the authors' evaluation does (see `interact_strokes`).
        """
        if session.border != Padding.of(session.height, session.width).sides:
            raise UsageError(f"{session.path}: results have no border", hint="decode the sequence again")
        self.session, self.num_objects, self.padded_raster = session, num_objects, padded_raster
        self.schedule = tuple(schedule)
        self.count = 0
        self._round = Round(session, networks, report=report)
        self._padding = Padding.of(session.height, session.width)
        self._edits: dict[int, np.ndarray] = {}  # labels [h, w] of frames whose mask was refined, not yet propagated

    def interact(self, frame: int, strokes: Sequence[Stroke]) -> tuple[np.ndarray, list[int] | None]:
        """One interaction.

        Returns:
            uint8 [T, H, W] labels, and the frames the robot may annotate next: this one, or None for any.

        Raises:
            UsageError: the schedule is over.
        """
        if self.count > self.schedule[-1]:
            raise UsageError(
                f"the procedure ends after {self.schedule[-1] + 1} interactions", hint="begin a new sequence"
            )
        image, before = self.session.frame(frame), self.labels(frame)
        mask = interact_strokes(
            self._round.networks, image, strokes, before, self.num_objects, padded_raster=self.padded_raster
        )
        propagates = self.count in self.schedule
        self.count += 1
        if propagates:
            self._propagate(frame, mask)
        else:
            self._edits[frame] = mask.argmax(0).astype(np.uint8)
        return self.masks(), None if propagates else [frame]

    def _propagate(self, frame: int, mask: np.ndarray) -> None:
        """One round from float32 [K + 1, h, w]; what was refined since the last is forgotten, as in the original."""
        self._edits.clear()
        request = Request("masks", frame, tuple(range(1, self.num_objects + 1)), soft=mask)
        self._round.commit(self._round.propagate(self._round.interact(request), chained=True))

    def labels(self, frame: int) -> np.ndarray:
        """The present label map of a frame with its border, uint8 [h, w]."""
        edited = self._edits.get(frame)
        if edited is not None:
            return edited
        stored = self.session.mask(frame, border=True)
        return np.zeros(self.session.result_size, np.uint8) if stored is None else stored

    def masks(self) -> np.ndarray:
        """The present label maps, uint8 [T, H, W]."""
        return np.stack([self._padding.remove(self.labels(index)) for index in range(self.session.num_frames)])
