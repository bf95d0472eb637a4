"""One round on a session: interact -> propagate -> fuse, as one stream or stage by stage, resumable in between.

What is written goes to the round's own branch of the session and becomes visible when the round is committed. Every
`CHECKPOINT_SECONDS` the position and the exact masks of memory frames are kept, so that a killed round continues
where it was and ends with the masks of an uninterrupted one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np

from pipelines.engine import Networks
from pipelines.pass_memory import PassMemory
from pipelines.requests import Request
from pipelines.stages.fuse import Difference, fuse_frame, fuse_stream
from pipelines.stages.interact import interact_mask, interact_strokes
from pipelines.stages.propagate import Anchor, Pass, Propagated, Propagator, plan_passes
from pipelines.stages.tensors import Padding
from stores.errors import StoreError, UsageError
from stores.scratch import clear_scratch
from stores.session import RoundRecord, Session

CHECKPOINT_SECONDS = 5.0  # what a killed process loses at most; a checkpoint takes some 20 ms
CHECKPOINT_SHARE = 0.1  # of the time, where checkpoints take longer: a large memory budget is written each time
INTERACTED, PROPAGATING, PROPAGATED = "interacted", "propagating", "propagated"


@dataclass(frozen=True)
class Progress:
    """How far a stage is; `total` is None while it is unknown, `frame` is the one just finished, where that matters."""

    stage: str
    done: int
    total: int | None
    frame: int | None = None


Report = Callable[[Progress], None]
log = logging.getLogger("mivos")


@dataclass(frozen=True)
class RoundState:
    """A round in progress, as kept in its checkpoints.

    Attributes:
        digest: of the request; kind, frame, drawn, strokes: for the log; known: objects before the round.
        stage: what was finished or is under way; chained: propagation and fusion run as one stream.
        run: index of the pass under way; last: its last finished frame; permanent: its permanent frames so far.
        settings: networks and options that the result depends on.
        span: first and last frame that may change, None for all; objects: how many there are in the round.
    """

    digest: str
    kind: str
    frame: int
    drawn: tuple[int, ...]
    strokes: list[Any]
    known: int
    stage: str
    chained: bool = False
    run: int = 0
    last: int | None = None
    permanent: tuple[int, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    span: tuple[int, int] | None = None
    objects: int = 0

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RoundState:
        settings = dict(data.get("settings", {}))
        fusion = settings.get("fusion", True)  # earlier versions only knew on and off, the first ones no choice
        settings["fusion"] = {True: "full", False: "off"}.get(fusion, fusion)
        lists = {"drawn": tuple(data["drawn"]), "permanent": tuple(data["permanent"])}
        span = data.get("span")
        return cls(**{**data, **lists, "settings": settings, "span": None if span is None else (span[0], span[1])})


class Round:
    """The round in progress of a session opened for writing."""

    def __init__(self, session: Session, networks: Networks, *, report: Report | None = None) -> None:
        self.session, self.networks = session, networks
        self.report = report or (lambda progress: None)
        self.settings = networks.facts()
        self.size = session.result_size
        if session.prob_bits < networks.spec.prob_bits:
            log.warning(
                "%s keeps %d bits of a probability, model %s is made for %d: see `mivos decode --model`",
                session.path, session.prob_bits, networks.spec.name, networks.spec.prob_bits,
            )  # fmt: skip
        self._read_frame = lru_cache(maxsize=4)(session.frame)  # propagation and fusion read the same frame

    # ---- interact

    def interact(self, request: Request) -> RoundState:
        """Begins a round with the mask of the interacted frame and keeps it in a checkpoint."""
        started = time.monotonic()
        session = self.session
        session.begin_round()
        known = session.num_objects
        session.add_object_ids(request.ids)
        if not session.num_objects:
            session.rollback()
            raise UsageError("no object is marked yet, only background", hint="mark an object with an id from 1 on")
        number = {object_id: k for k, object_id in enumerate(session.object_ids, start=1)}
        number[0] = 0
        if request.kind == "scribbles":
            strokes = [replace(stroke, object_id=number[stroke.object_id]) for stroke in request.strokes]
            image, before = self._read_frame(request.frame), session.mask(request.frame, border=True)
            mask = interact_strokes(self.networks, image, strokes, before, session.num_objects)
            if mask.shape[1:] != self.size:  # a session without a border
                mask = Padding.of(*self.size).remove(mask)
        elif request.soft is not None:
            mask = request.soft
        else:
            assert request.labels is not None
            table = np.zeros(256, np.uint8)
            for object_id in request.ids:
                table[object_id] = number[object_id]
            size = (session.width, session.height)
            labels = cv2.resize(table[request.labels], size, interpolation=cv2.INTER_NEAREST)
            mask = interact_mask(labels, session.probs(request.frame), known, session.num_objects)
        session.write_interaction(len(session.rounds) + 1, mask)
        state = RoundState(
            request.digest, request.kind, request.frame, request.ids, request.strokes_json, known, INTERACTED,
            settings=self.settings, seconds={"interact": time.monotonic() - started}, span=request.span,
            objects=session.num_objects,
        )  # fmt: skip
        session.checkpoint(asdict(state))
        self.report(Progress("interact", 1, 1))
        return state

    def unfinished(self, *, restart: bool = False) -> RoundState | None:
        """The session's unfinished round, if there is one; this object goes on with it.

        Args:
            restart: drop, with a warning, a round that was begun with other networks or options.

        Raises:
            UsageError: there is such a round, and it is not to be dropped.
        """
        progress = self.session.resume_round()
        if progress is None:
            return None
        state = RoundState.from_json(progress)
        settings = dict(self.settings)
        if state.stage != PROPAGATING:  # how much is remembered concerns propagation alone
            settings.pop("memory", None)
            if "memory" in state.settings:
                settings["memory"] = state.settings["memory"]
        difference = _first_difference(state.settings, settings)
        if difference is not None and restart:
            log.warning("the unfinished round was begun with other settings (%s); it starts again", difference)
            self.session.rollback()
            return None
        if difference is not None:
            raise UsageError(
                f"{self.session.path}: the unfinished round was begun with other settings ({difference})",
                hint="finish it with the options it was begun with; `mivos segment` begins it again",
            )
        lost = self._lost(state)
        if lost is not None and restart:
            log.warning("%s; the unfinished round starts again", lost)
            self.session.rollback()
            return None
        if lost is not None:
            raise lost
        # a stage may know of weights that the stage before had no use for
        settings = settings if state.stage == PROPAGATED else self.settings
        weights = {**state.settings["weights"], **settings["weights"]}
        return replace(state, settings={**settings, "weights": weights})

    def _lost(self, state: RoundState) -> StoreError | None:
        """What the round can not go on without, if it is not there. Its masks are then useless, too: fused ones have
        taken the place of those they were fused from."""
        if state.stage != PROPAGATING:
            return None
        try:
            PassMemory(self.session, self.networks.rules, state.digest).load(
                state.run, self._passes(state)[state.run], state.last, state.permanent
            )
        except StoreError as error:
            return error
        return None

    # ---- propagate

    def propagate(self, state: RoundState, *, chained: bool, stop: Callable[[], bool] = lambda: False) -> RoundState:
        """Runs the round's passes; with `chained` fusion follows frame by frame, else the result stays pending.

        Where `stop` says so after a frame, the state is kept in a checkpoint and returned, at stage PROPAGATING.
        """
        if state.stage == PROPAGATED:
            return state
        if state.stage == PROPAGATING and state.chained != chained:
            raise UsageError(
                "the unfinished round was begun " + ("by `mivos segment`" if state.chained else "stage by stage"),
                hint="finish it the same way",
            )
        started = time.monotonic()
        mask, anchors = self._mask(state), self._anchors(state)
        runs = self._passes(state)
        memory = PassMemory(self.session, self.networks.rules, state.digest)
        resumed = memory.load(state.run, runs[state.run], state.last, state.permanent) if runs else None
        done, total = self.reach(self.session, state)
        if total:
            propagator = Propagator(self.networks, self._read_frame, self.size, self.session.num_objects, anchors)
            before = self.session.probs(state.frame, border=True)
            difference = Difference.between(propagator.start_key, before, mask, Padding.of(*self.size))
        state = replace(state, stage=PROPAGATING, chained=chained)
        saved, interval = time.monotonic(), CHECKPOINT_SECONDS
        for position in range(state.run, len(runs)):
            run = runs[position]
            if position != state.run:
                state, resumed = replace(state, run=position, last=None, permanent=()), None
            stream = self._rounded(propagator.run(run, resumed))
            pairs: Iterable[tuple[Propagated, np.ndarray]] = ((item, item.probs) for item in stream)
            if chained:
                old = partial(self.session.probs, border=True)
                pairs = fuse_stream(self.networks, stream, self._read_frame, old, difference, state.known)
            for item, final in pairs:
                (self.session.write_probs if chained else self.session.write_pending)(item.index, final)
                state = replace(state, last=item.index, permanent=memory.add(item, state.permanent))
                done += 1
                self.report(Progress("propagate", done, total, item.index))
                stopped = done < total and stop()
                if stopped or time.monotonic() - saved > interval:
                    began = time.monotonic()
                    memory.save(item, position, propagator.bank)
                    now = replace(state, seconds=self._spent(state, "propagate", started))
                    self.session.checkpoint(asdict(now))
                    memory.saved(item, position)
                    saved = time.monotonic()
                    interval = max(CHECKPOINT_SECONDS, (saved - began) / CHECKPOINT_SHARE if CHECKPOINT_SECONDS else 0)
                    if stopped:
                        return now
        state = replace(state, stage=PROPAGATED, seconds=self._spent(state, "propagate", started))
        if not chained:
            self.session.clear_memory()
            self.session.checkpoint(asdict(state))
            memory.done()
        return state

    def _rounded(self, stream: Iterator[Propagated]) -> Iterator[Propagated]:
        """What the store would give back, so that fusing in one stream and fusing later see the same numbers.

        Where nothing is fused, storing alone does the same.
        """
        for item in stream:
            yield item if item.run.bound is None else replace(item, probs=self.session.roundtrip(item.probs))

    # ---- fuse

    def fuse(self, state: RoundState) -> RoundState:
        """Fuses a pending propagated result with the previous round's (stage by stage use)."""
        started = time.monotonic()
        session, padding = self.session, Padding.of(*self.size)
        mask = self._mask(state)
        runs = self._passes(state)
        propagator = Propagator(
            self.networks, self._read_frame, self.size, session.num_objects, self._anchors(state)[-1:]
        )
        difference = Difference.between(propagator.start_key, session.probs(state.frame, border=True), mask, padding)
        total, done = sum(len(run.indices) for run in runs), 0
        for run in runs:
            for index in run.indices:
                new = session.pending(index)
                if new is None:
                    raise StoreError(f"frame {index} was not propagated", hint="run `mivos propagate` first")
                old = session.probs(index, border=True) if run.bound is not None else None
                if old is not None:
                    image = self._read_frame(index)
                    key = propagator.query_key(index)
                    new = fuse_frame(self.networks, image, key, new, old, difference, index, run, state.known)
                session.write_probs(index, new)
                done += 1
                self.report(Progress("fuse", done, total))
        return replace(state, seconds=self._spent(state, "fuse", started))

    # ---- commit

    def commit(self, state: RoundState) -> RoundRecord:
        """Publishes the round as one commit."""
        session = self.session
        session.write_probs(state.frame, self._mask(state))
        session.clear_pending()
        session.clear_memory()
        record = RoundRecord(
            number=len(session.rounds) + 1,
            kind=state.kind,
            frame=state.frame,
            objects=state.drawn,
            strokes=state.strokes,
            model={**state.settings, "digest": state.digest, "known": session.num_objects},
            stages=("interact", "propagate", *(["fuse"] if self.networks.choice.fusion != "off" else [])),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds={stage: round(seconds, 3) for stage, seconds in state.seconds.items()},
        )
        session.commit_round(record)
        clear_scratch(session.path)
        return record

    # ---- shared

    def _mask(self, state: RoundState) -> np.ndarray:
        mask = self.session.interaction(len(self.session.rounds) + 1)
        if mask is None:
            raise StoreError("the unfinished round lacks its mask", hint="start the round again")
        return mask

    def _passes(self, state: RoundState) -> list[Pass]:
        return self._plan(self.session, state)

    @staticmethod
    def _plan(session: Session, state: RoundState) -> list[Pass]:
        new = (state.objects or session.num_objects) > state.known
        interacted = [record.frame for record in session.rounds]
        return plan_passes(state.frame, session.num_frames, interacted, new_objects=new, span=state.span)

    @classmethod
    def reach(cls, session: Session, state: RoundState) -> tuple[int, int]:
        """Frames done and frames in all of a round's passes."""
        lengths = [len(run.indices) for run in cls._plan(session, state)]
        if state.stage == PROPAGATED:
            return sum(lengths), sum(lengths)
        return sum(lengths[: state.run]) + (0 if state.last is None else abs(state.last - state.frame)), sum(lengths)

    def _anchors(self, state: RoundState) -> list[Anchor]:
        """Interacted frames in the order of their rounds, this round's last.

        The authors keep every interaction in memory, two of the same frame, too (`keep_repeated`).
        """
        anchors = []
        repeated = self.networks.rules.keep_repeated
        for number, record in enumerate(self.session.rounds, start=1):
            probs = self.session.interaction(number)
            if probs is None:  # a session of version 1 keeps it as the frame's result only
                probs = self.session.probs(record.frame, border=True)
            if probs is not None and (repeated or record.frame != state.frame):
                anchors.append(Anchor(record.frame, probs[1:], int(record.model["known"])))
        if not repeated:
            anchors = list({anchor.index: anchor for anchor in anchors}.values())
        return [*anchors, Anchor(state.frame, self._mask(state)[1:], self.session.num_objects)]

    @staticmethod
    def _spent(state: RoundState, stage: str, started: float) -> dict[str, float]:
        return {**state.seconds, stage: state.seconds.get(stage, 0.0) + time.monotonic() - started}


def _first_difference(begun: dict[str, Any], now: dict[str, Any]) -> str | None:
    """What differs between two settings, in words. Weights count where both sides know them."""
    for key in begun.keys() | now.keys():
        if key != "weights" and begun.get(key) != now.get(key):
            return f"{key}: {begun.get(key)}, now {now.get(key)}"
    old, new = begun.get("weights", {}), now.get("weights", {})
    part = next((part for part in old.keys() & new.keys() if old[part] != new[part]), None)
    return None if part is None else f"other weights of the {part} network"
