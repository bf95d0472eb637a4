"""What a page shows of a project: everything but pictures and masks, in JSON types."""

from __future__ import annotations

import base64
import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.engine import networks
from pipelines.rounds import Round, RoundState
from stores.drafts import Entry

if TYPE_CHECKING:
    from pipelines.editing.project import Project

COLOURS = tuple(
    f"#{colour}" for colour in "e6194b 3cb44b 4363d8 f58231 911eb4 42d4f4 f032e6 bfef45 fabed4 469990".split()
)
GOLDEN = 0.618034  # of the colour circle: later hues fall between earlier ones
NEAR = 10  # frames: a doubt this close to a frame that was worked on counts less
SURE = 97  # percent: frames above are not suggested


def colour_of(object_id: int) -> str:
    """The colour an object gets at first, "#rrggbb"."""
    if 1 <= object_id <= len(COLOURS):
        return COLOURS[object_id - 1]
    red, green, blue = colorsys.hls_to_rgb((object_id * GOLDEN) % 1, 0.6, 0.7)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def overview(project: Project) -> dict[str, Any]:
    """See the module's text; the caller holds the project's lock."""
    session, drafts = project.session, project.drafts
    source, model = session.source, networks(project.model)
    rate = source.average_rate
    paused = project.propagation.paused()
    computed, confidence = session.computed(), session.confidence()
    known = session.object_ids
    shown = [frame for frame in drafts.frames() if paused is None or frame != paused.frame]
    return {
        "name": Path(source.path).name,
        "path": str(session.path),
        "source": source.path,
        "width": session.width,
        "height": session.height,
        "source_width": source.width,
        "source_height": source.height,
        "frames": session.num_frames if session.decoded else max(session.num_frames, source.header_frames),
        "fps": rate[0] / rate[1] if rate[0] and rate[1] else 24.0,
        "decoded": session.decoded,
        "decoded_frames": session.num_frames,
        "model": {"name": model.choice.name, "device": model.device.type, "engine": model.engine},
        "can_refine": True,
        "objects": [
            {"id": i, "name": look.name, "colour": look.colour, "used": i in known}
            for i in project.canvas.object_ids()
            for look in [project.look(i)]
        ],
        "drafts": [_draft(frame, drafts.of(frame)) for frame in shown],
        "rounds": _rounds(project),
        **({"undo": None, "redo": None} if paused or not session.decoded else project.steps.describe()),
        "computed": _runs(computed),
        "confidence": base64.b64encode(np.where(confidence < 0, 255, confidence).astype(np.uint8).tobytes()).decode(),
        "suggestion": _suggestion(confidence, [*drafts.frames(), *(record.frame for record in session.rounds)]),
        "round": None if paused is None else _round(project, paused),
    }


def _draft(frame: int, entries: Sequence[Entry]) -> dict[str, Any]:
    objects = sorted({int(entry.action["object"]) for entry in entries} - {0})
    return {"frame": frame, "actions": len(entries), "objects": objects}


def _rounds(project: Project) -> list[dict[str, Any]]:
    rounds = [(r.number, r.frame, r.kind, list(r.objects), r.created, False) for r in project.session.rounds]
    for item in project.session.history():
        if item.state == "undone" and item.kind == "round":
            facts = item.facts
            rounds.append((item.round or 0, facts["frame"], facts["input"], facts["objects"], item.written, True))
    names = ("number", "frame", "kind", "objects", "created", "undone")
    return [dict(zip(names, values, strict=True)) for values in rounds]


def _round(project: Project, state: RoundState) -> dict[str, Any]:
    done, total = Round.reach(project.session, state)
    return {"frame": state.frame, "done": done, "total": total, "paused": True}


def _runs(values: np.ndarray) -> list[list[int]]:
    """Frames with a mask as [first, last, round]."""
    edges = np.flatnonzero(np.diff(values)) + 1
    firsts, ends = [0, *edges.tolist()], [*edges.tolist(), len(values)]
    return [[a, b - 1, int(values[a])] for a, b in zip(firsts, ends, strict=True) if a < b and values[a] > 0]


def _suggestion(confidence: np.ndarray, worked_on: list[int]) -> int | None:
    """The frame where a correction would tell most: least sure, and not next to one that was worked on."""
    doubt = np.where(confidence < 0, 0, 100 - confidence).astype(np.float64)
    if not worked_on or not doubt.any():
        return None
    distance = np.abs(np.arange(len(doubt))[:, None] - np.array(worked_on)[None]).min(axis=1)
    doubt *= np.clip(distance / NEAR, 0, 1)
    best = int(doubt.argmax())
    return best if doubt[best] > 100 - SURE else None
