"""The Python API: whole stages on sessions, and all of them in one pass. Each command is a thin call of these.

>>> from pathlib import Path
>>> from pipelines.flow import segment
>>> report = segment(Path("video.mp4"), Path("out"), scribbles=Path("s.json"))  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.editing.overview import colour_of
from pipelines.engine import Model, ModelChoice, Networks, networks
from pipelines.inputs import check_inputs, session_requests
from pipelines.networks.registry import model_spec
from pipelines.requests import Request
from pipelines.rounds import INTERACTED, PROPAGATED, Progress, Report, Round, RoundState
from pipelines.stages import encode as encode_stage
from pipelines.stages.tensors import Padding
from stores.errors import UsageError
from stores.exchange.names import keep_names
from stores.exchange.selection import DEFAULT, check_rule
from stores.pictures import EXACT
from stores.session import Session
from stores.video import probe, read_frames, working_size

__all__ = [
    "ModelChoice",
    "Progress",
    "SegmentReport",
    "StageReport",
    "decode",
    "encode",
    "fuse",
    "interact",
    "propagate",
    "run_rounds",
    "segment",
]


@dataclass(frozen=True)
class StageReport:
    """What a stage did. `skipped`: it had been done before."""

    stage: str
    frames: int
    seconds: float
    skipped: bool = False


@dataclass(frozen=True)
class SegmentReport:
    """What `segment` left behind: session path, format -> output path, counts and stage times."""

    session: str
    outputs: dict[str, str]
    frames: int
    objects: int
    rounds: int
    stages: tuple[StageReport, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def decode(
    source: Path, session: Path, *, size: int | None = 480, prob_bits: int | None = None, frames: str = EXACT,
    model: Model = "nano", progress: Report | None = None,
) -> StageReport:  # fmt: skip
    """Reads a video or image folder into a session, or goes on with an interrupted decode.

    Args:
        size: shorter side of the working size in pixels, never enlarged; None keeps the source's.
        prob_bits: 8 or 16 bits for each stored probability; None: what `model` needs.
        frames: how a new session keeps them, "exact" or "jpeg" (several times smaller), see `stores.pictures`.

    Raises:
        VideoError: the source cannot be used. UsageError: the session is of another source or size.
    """
    started = time.monotonic()
    store = Session.open(session, write=True) if Session.exists(session) else None
    store = store or create_session(source, session, size=size, prob_bits=prob_bits, frames=frames, model=model)
    with store:
        skipped = decode_into(store, source, size=size, progress=progress)
        return StageReport("decode", store.num_frames, time.monotonic() - started, skipped)


def create_session(
    source: Path, session: Path, *, size: int | None = 480, prob_bits: int | None = None, frames: str = EXACT,
    model: Model = "nano",
) -> Session:  # fmt: skip
    """A new session for a source, without frames yet, open for writing; see `decode`."""
    info = probe(source)
    height, width = working_size(info.height, info.width, size)
    bits = prob_bits or model_spec(ModelChoice.of(model).name).prob_bits
    border = Padding.of(height, width).sides  # what networks say about it enters later frames
    return Session.create(session, info, height=height, width=width, prob_bits=bits, border=border, frames=frames)


def decode_into(store: Session, source: Path, *, size: int | None, progress: Report | None = None) -> bool:
    """Reads the frames that a session still lacks; True if it lacked none.

    Raises:
        VideoError: the source cannot be used. UsageError: the session is of another source or size.
    """
    info = probe(source)
    height, width = working_size(info.height, info.width, size)
    if store.source.sha256 != info.sha256 or (store.height, store.width) != (height, width):
        was = f"{store.source.path} at {store.width} x {store.height}"
        raise UsageError(
            f"session {store.path} holds {was}, not {source} at {width} x {height}", hint="use another --session"
        )
    if store.decoded:
        return True
    report = progress or (lambda progress: None)
    total = info.header_frames or None
    with closing(read_frames(source, size=size, start=store.num_frames)) as frames:
        for frame in frames:
            store.write_frame(frame)
            report(Progress("decode", frame.index + 1, total, frame.index))
    store.finish_frames()
    return False


def interact(
    session: Path, *, scribbles: Path | None = None, masks: Path | None = None, snap: bool = False,
    import_frames: str = DEFAULT, model: Model = "nano", progress: Report | None = None,
) -> StageReport:  # fmt: skip
    """Turns the next interaction of a scribble file, mask folder or annotation file into a mask and begins its round.

    An interaction that the session already has is skipped, so the same command again takes the next one. Finish the
    round with `propagate` and `fuse`.

    Args:
        import_frames: which frames of an annotation file are interactions: "all", "keyframes" or at most a number.

    Raises:
        UsageError: neither or both inputs, or an unfinished round of another interaction is being propagated.
        ScribbleError, MaskError: the input cannot be used.
    """
    started = time.monotonic()
    with Session.open(session, write=True) as store:
        work = Round(store, networks(model), report=progress)
        for request in session_requests(store, scribbles, masks, snap, import_frames)():
            if request.digest in _done(store):
                continue
            begun = store.unfinished()
            # only its mask would be lost, which this command makes anew
            state = work.unfinished(restart=begun is not None and begun["stage"] == INTERACTED)
            if state is not None and state.digest == request.digest:
                return StageReport("interact", 1, time.monotonic() - started, skipped=True)
            if state is not None:
                if state.stage != INTERACTED:
                    raise UsageError(
                        "the session has an unfinished round", hint="finish it with `mivos propagate` and `mivos fuse`"
                    )
                store.rollback()
            work.interact(request)
            keep_names(session, request.names, colour_of)
            return StageReport("interact", 1, time.monotonic() - started)
    return StageReport("interact", 0, time.monotonic() - started, skipped=True)


def propagate(session: Path, *, model: Model = "nano", progress: Report | None = None) -> StageReport:
    """Propagates the interaction begun by `interact`; the result waits for `fuse`."""
    return _step(session, Round.propagate, "propagate", networks(model), progress, chained=False)


def fuse(session: Path, *, model: Model = "nano", progress: Report | None = None) -> StageReport:
    """Fuses what `propagate` left with the previous round and commits the round."""
    return _step(session, _fuse_and_commit, "fuse", networks(model), progress)


def _fuse_and_commit(work: Round, state: RoundState) -> RoundState:
    if state.stage != PROPAGATED:
        raise UsageError("the unfinished round is not propagated yet", hint="run `mivos propagate` first")
    state = work.fuse(state)
    work.commit(state)
    return state


def _step(
    session: Path, step: Callable[..., RoundState], stage: str, nets: Networks, progress: Report | None,
    **options: bool,
) -> StageReport:  # fmt: skip
    started, counted = time.monotonic(), [0]

    def count(item: Progress) -> None:
        counted[0] = item.done
        if progress:
            progress(item)

    with Session.open(session, write=True) as store:
        work = Round(store, nets, report=count)
        state = work.unfinished()
        if state is None:
            if store.rounds:
                return StageReport(stage, 0, time.monotonic() - started, skipped=True)
            raise UsageError(f"session {session} has no interaction to {stage}", hint="run `mivos interact` first")
        skipped = stage == "propagate" and state.stage == PROPAGATED
        step(work, state, **options)
    return StageReport(stage, counted[0], time.monotonic() - started, skipped)


def encode(
    session: Path, out: Path, *, formats: Sequence[str] = ("png", "overlay"), force: bool = False,
    progress: Report | None = None,
) -> tuple[StageReport, dict[str, str]]:  # fmt: skip
    """Writes the committed masks of a session; see `pipelines.stages.encode.encode`."""
    started = time.monotonic()
    step = None if progress is None else lambda done, total: progress(Progress("encode", done, total))
    with Session.open(session) as store:
        outputs = encode_stage.encode(store, out, formats=formats, force=force, progress=step)
        return StageReport("encode", store.num_frames, time.monotonic() - started), outputs


def segment(
    source: Path, out: Path, *, scribbles: Path | None = None, masks: Path | None = None, snap: bool = False,
    import_frames: str = DEFAULT, session: Path | None = None, size: int | None = 480, frames: str = EXACT,
    model: Model = "nano", formats: Sequence[str] = ("png", "overlay"), force: bool = False,
    progress: Report | None = None,
) -> SegmentReport:  # fmt: skip
    """Segments a video from scribbles or masks: every stage, one pass per interaction, frames never all in memory.

    Run again after a break it continues; run with further interactions it adds rounds. See the stages for errors.
    """
    encode_stage.check_outputs(out, formats, force=force)
    check_rule(import_frames)
    check_inputs(networks(model), scribbles, masks)  # broken files and missing weights are reported before any work
    path = session or out / "session"
    stages = [decode(source, path, size=size, frames=frames, model=model, progress=progress)]
    stages += run_rounds(
        path, scribbles=scribbles, masks=masks, snap=snap, import_frames=import_frames, model=model, progress=progress
    )
    with Session.open(path) as store:
        length, objects, rounds = store.num_frames, store.num_objects, len(store.rounds)
    report, outputs = encode(path, out, formats=formats, force=force, progress=progress)
    return SegmentReport(str(path), outputs, length, objects, rounds, (*stages, report))


def run_rounds(
    session: Path, *, scribbles: Path | None = None, masks: Path | None = None, snap: bool = False,
    import_frames: str = DEFAULT, model: Model = "nano", progress: Report | None = None,
) -> list[StageReport]:  # fmt: skip
    """Every interaction that a decoded session lacks: `segment` without reading the video and writing the results.

    Raises:
        ScribbleError, MaskError: an input cannot be used; nothing was done. ModelError: weights are missing.
    """
    nets = networks(model)
    check_inputs(nets, scribbles, masks)
    with Session.open(session, write=True) as store:
        requests = session_requests(store, scribbles, masks, snap, import_frames)
        for _ in requests():  # all must be readable before the first is done
            pass
        return _rounds(store, requests(), nets, progress)


def _rounds(store: Session, requests: Iterable[Request], nets: Networks, progress: Report | None) -> list[StageReport]:
    seconds, counted = {"interact": 0.0, "propagate": 0.0}, {"interact": 0, "propagate": 0}

    def count(item: Progress) -> None:
        if item.stage == "propagate":
            counted["propagate"] += 1
        if progress:
            progress(item)

    work: Round | None = None
    for request in requests:
        if request.digest in _done(store):
            continue
        if store.rounds and nets.choice.fusion != "off":
            nets.check("fusion")
        work = work or Round(store, nets, report=count)
        state = work.unfinished(restart=True)
        if state is not None and (state.digest != request.digest or not (state.chained or state.stage == INTERACTED)):
            store.rollback()
            state = None
        if state is None:
            state = work.interact(request)
            keep_names(store.path, request.names, colour_of)
        state = work.propagate(state, chained=True)
        work.commit(state)
        counted["interact"] += 1
        for stage in seconds:
            seconds[stage] += state.seconds.get(stage, 0.0)
    skipped = work is None
    return [StageReport(stage, counted[stage], seconds[stage], skipped) for stage in seconds]


def _done(store: Session) -> set[str]:
    return {str(record.model.get("digest")) for record in store.rounds}
