"""Drafts into rounds: one at a time, paused and continued, kept or discarded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from pipelines.editing.canvas import Canvas
from pipelines.engine import networks
from pipelines.requests import Request
from pipelines.rounds import PROPAGATING, Report, Round, RoundState
from stores.errors import UsageError

DIRECTIONS = ("both", "forward", "backward", "to", "none")
Stop = Callable[[], bool]


class Cancelled(Exception):
    """Raised by a progress callback to end what is going on; nothing of it stays."""


class Propagation:
    """The rounds of a session opened for writing. `lock` is held while what readers see changes as a whole."""

    def __init__(self, canvas: Canvas, lock: threading.RLock) -> None:  # type: ignore[valid-type]
        self.canvas, self.session, self.drafts, self.lock = canvas, canvas.session, canvas.drafts, lock

    def run(
        self, direction: str, to: int | None, frames: Sequence[int] | None, progress: Report | None, stop: Stop
    ) -> bool:
        """Turns drafts into rounds, one after the other; False if `stop` paused it.

        Args:
            direction: one of `DIRECTIONS`; "to" goes as far as frame `to`, "none" keeps the mask on its frame only.
            frames: whose drafts; None: all. A frame without a draft starts from the mask that it has.

        Raises:
            UsageError: nothing was drawn, or there is no such direction or frame.
        """
        chosen = list(self.drafts.frames() if frames is None else frames)
        if not chosen:
            raise UsageError("nothing was drawn that could be propagated", hint="mark an object on a frame first")
        requests = [(frame, self._span(direction, frame, to)) for frame in chosen]  # all are checked first
        for frame, span in requests:
            request = self._request(frame, span)
            work = Round(self.session, networks(self.canvas.model), report=progress)
            with self.lock:
                self.drafts.begin(frame)  # first: `settle` sees whether the round came to be
                try:
                    state = work.interact(request)
                except BaseException:
                    self.discard()
                    raise
            if not self._finish(work, state, stop):
                return False
        return True

    def resume(self, progress: Report | None, stop: Stop) -> bool:
        """Goes on with a paused or interrupted round; False if it was paused again."""
        return self._finish(*self._unfinished(progress), stop)

    def keep(self) -> None:
        """Ends a paused round with the frames that it reached."""
        self._commit(*self._unfinished(None))

    def discard(self) -> None:
        """Drops a paused round; its actions are a draft again."""
        with self.lock:
            self.session.suspend()
            if self.session.resume_round() is not None:
                self.session.rollback()
            self.drafts.abandon()

    def paused(self) -> RoundState | None:
        """The round that is not finished."""
        data = self.session.unfinished() if self.session.decoded else None
        return None if data is None else RoundState.from_json(data)

    def show(self) -> None:
        """Lets readers see an unfinished round as its last checkpoint has it."""
        with self.lock:
            self.session.suspend()
            self.session.resume_round()

    def settle(self) -> None:
        """After a crash: a round that was committed owns its actions, one that is gone does not."""
        if not self.drafts.begun or self.paused() is not None:
            return
        rounds = self.session.rounds
        begun = [entry.action["id"] for entry in self.drafts.entries if entry.serial in self.drafts.begun]
        if rounds and begun and [action.get("id") for action in rounds[-1].strokes] == begun:
            self.drafts.commit(len(rounds))
        else:
            self.drafts.abandon()

    def _span(self, direction: str, frame: int, to: int | None) -> tuple[int, int] | None:
        last = self.session.num_frames - 1
        if direction not in DIRECTIONS:
            raise UsageError(f"unknown direction {direction!r}", hint=f"choose one of: {', '.join(DIRECTIONS)}")
        for index in (frame, *((to if to is not None else -1,) if direction == "to" else ())):
            if not 0 <= index <= last:
                raise UsageError(f"frame {index} is outside 0..{last}")
        if not self.drafts.of(frame) and self.session.mask(frame) is None:
            raise UsageError(f"frame {frame} has no mask yet", hint="mark an object on it first")
        target = frame if to is None else to
        spans = {"both": None, "forward": (frame, last), "backward": (0, frame), "none": (frame, frame)}
        return {**spans, "to": (min(frame, target), max(frame, target))}[direction]

    def _request(self, frame: int, span: tuple[int, int] | None) -> Request:
        entries, layers, known = self.drafts.of(frame), self.canvas.current(frame), self.session.object_ids
        # an object that is unknown elsewhere and empty here has nothing to start from
        new = [i for i in layers.ids if i not in known and layers.among([i]).planes.any()]
        drawn = {int(entry.action["object"]) for entry in entries} & {*known, *new}
        soft = layers.among([*known, *sorted(new)]).soft()
        if self.session.result_size == self.canvas.size:
            soft = self.canvas.padding.remove(soft)
        actions = tuple(entry.action for entry in entries)
        return Request("edits", frame, tuple(sorted(drawn | set(new))), soft=soft, span=span, actions=actions)

    def _finish(self, work: Round, state: RoundState, stop: Stop) -> bool:
        try:
            state = work.propagate(state, chained=True, stop=stop)
        except Cancelled:
            self.discard()
            raise
        except BaseException:
            self.show()
            raise
        if state.stage == PROPAGATING:
            return False
        self._commit(work, state)
        return True

    def _commit(self, work: Round, state: RoundState) -> None:
        with self.lock:
            record = work.commit(state)
            self.drafts.commit(record.number)

    def _unfinished(self, progress: Report | None) -> tuple[Round, RoundState]:
        work = Round(self.session, networks(self.canvas.model), report=progress)
        with self.lock:
            self.session.suspend()
            state = work.unfinished()
        if state is None:
            raise UsageError("there is no paused round")
        return work, state
