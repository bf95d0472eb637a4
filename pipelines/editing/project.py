"""One session being worked on: actions, rounds, undo over both, and what a page shows of it. No HTTP, no threads.

Everything that changes something is for one thread, the one that owns the model. `labels`, `jpeg`, `draft` and
`export` only read and may be called from any.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines import flow
from pipelines.editing.actions import Action
from pipelines.editing.canvas import Canvas
from pipelines.editing.finding import Finder
from pipelines.editing.listing import Found, find_projects, session_for
from pipelines.editing.overview import colour_of, overview
from pipelines.editing.propagation import Cancelled, Propagation, Stop
from pipelines.editing.steps import Step, Steps
from pipelines.engine import ModelChoice, networks
from pipelines.rounds import Progress, Report
from pipelines.stages.propagate import Anchor, Pass, Propagator
from stores import arrays
from stores.drafts import Drafts, Look
from stores.errors import MaskError, UsageError
from stores.session import Session

__all__ = ["Action", "Cancelled", "Found", "Project", "Step", "find_projects", "session_for"]

JPEG_CACHE = 512  # pictures; at 480p they take about 40 MB
JPEG_QUALITY, THUMBNAIL_QUALITY = 92, 80
MAX_NAME = 80


class Project:
    """See the module's text. Made by `open`."""

    def __init__(self, session: Session, source: Path | None, model: ModelChoice) -> None:
        self.session, self.source, self.model, self.path = session, source, model, session.path
        self.lock = threading.RLock()  # held while what readers see changes
        self.drafts = Drafts(session.path)
        self.canvas = Canvas(session, self.drafts, model)
        self.steps = Steps(session, self.drafts)
        self.propagation = Propagation(self.canvas, self.lock)
        self._jpeg = lru_cache(maxsize=JPEG_CACHE)(self._encode_jpeg)
        self._before = lru_cache(maxsize=1)(self._open_before)
        if session.decoded:
            self.propagation.show()
            self.propagation.settle()

    # ---- opening and closing

    @classmethod
    def open(
        cls, session: Path, *, source: Path | None = None, size: int | None = 480, model: str | ModelChoice = "nano"
    ) -> Project:
        """Opens a session for work, or makes one for `source`; its video may still have to be decoded.

        Raises:
            SessionLockedError: somebody else is writing to it. SessionNotFoundError: there is none and no source.
            VideoError: the source cannot be used.
        """
        choice = ModelChoice.of(model)
        if Session.exists(session) or source is None:
            opened = Session.open(session, write=True)
        else:
            opened = flow.create_session(source, session, size=size, model=choice)
        try:
            return cls(opened, source, choice)
        except BaseException:
            opened.close()  # its lock must not outlive the attempt
            raise

    def decode(self, progress: Report | None = None) -> None:
        """Reads the video's frames into the session, from where an earlier attempt ended."""
        if not self.session.decoded:
            source = self.source or Path(self.session.source.path)
            side = min(self.canvas.size)  # what `size` made of it when the session was created
            flow.decode_into(self.session, source, size=side, progress=progress)

    def warm_up(self) -> None:
        """Loads the networks and runs them once, so that the first stroke and the first propagation are quick."""
        nets, size = networks(self.model), self.session.result_size
        blank = np.zeros((*self.canvas.size, 3), np.uint8)
        spot = Action("warm-up", 0, "click", 1, path=np.array([[0.5, 0.5]]))
        Finder(nets, blank).find([spot], self.canvas.empty(), self.canvas.empty())
        anchor = Anchor(0, np.zeros((1, *size), np.float32), 1)
        propagator = Propagator(nets, lambda index: blank, size, 1, [anchor])
        next(propagator.run(Pass(0, 1, 3, None)))

    def close(self) -> None:
        """Gives the session back. What was drawn and what was checkpointed stays."""
        with self.lock:
            self.session.close()

    # ---- actions

    def act(self, action: Action) -> None:
        """Does an action and keeps it. One that was done already is not done again.

        Raises:
            UsageError: it makes no sense here. MaskError: a pasted picture cannot be used.
        """
        session = self._ready()
        if self._was_done(action.id):
            return
        after = self.canvas.apply(action)
        if not after.ids:
            raise UsageError("there is no object yet", hint="add an object and mark it first")
        planes = arrays.quantise(after.soft(), session.prob_bits)
        with self.lock:
            entry = self.drafts.add(action.frame, session.commit_id, action.to_json(), after.ids, planes)
            for object_id in after.ids:
                self.look(object_id)
        self.canvas.remember(entry, planes)

    def _was_done(self, name: str) -> bool:
        rounds = (entry for n in range(1, len(self.session.rounds) + 1) for entry in self.drafts.of_round(n))
        return any(e.action["id"] == name for e in (*self.drafts.entries, *self.drafts.undone, *rounds))

    def paste(self, id: str, frame: int, from_frame: int, objects: Sequence[int] | None = None) -> None:
        """Copies objects (None: all) of another frame, as they are shown there."""
        self._at(frame), self._at(from_frame)
        labels = self.labels(from_frame)
        if labels is None:
            raise UsageError(f"frame {from_frame} has no mask to copy")
        chosen = None if objects is None else tuple(objects)
        if chosen is not None and not set(chosen) <= set(self.canvas.object_ids()):
            raise UsageError(f"there is no object {min(set(chosen) - set(self.canvas.object_ids()))}")
        self.act(Action(id, frame, "paste", png=self.canvas.png(labels), objects=chosen))

    def import_mask(self, id: str, frame: int | None, name: str | None, png: bytes, snap: bool = False) -> int:
        """Takes over a label PNG at the source's or the working size; returns the frame it belongs to.

        Args:
            frame: where it goes; None: told by `name`, a frame's file name such as 00012.png.
        """
        session = self._ready()
        if frame is None:
            names = [session.source.frame_name(i) for i in range(session.num_frames)]
            if (stem := Path(name or "").stem) not in names:
                raise MaskError(f"{name}: is not named after a frame", hint=f"as in {names[0]}.png")
            frame = names.index(stem)
        labels = self.canvas.read_png(png, name or "the mask", snap)
        self.act(Action(id, self._at(frame), "paste", png=self.canvas.png(labels)))
        return frame

    # ---- objects

    def look(self, object_id: int) -> Look:
        """Name and colour of an object; it gets them when it is first asked for."""
        look = self.drafts.looks.get(object_id)
        if look is None or look.deleted:
            look = Look(f"Object {object_id}", colour_of(object_id)) if look is None else replace(look, deleted=False)
            self.drafts.set_look(object_id, look)
        return look

    def add_object(self, name: str | None = None, colour: str | None = None) -> int:
        """A new object; returns its id, one that was never used here."""
        self._ready()
        object_id = max((0, *self.session.object_ids, *self.drafts.looks)) + 1
        if object_id > 255:
            raise UsageError("a session holds at most 255 objects")
        with self.lock:
            self.look(object_id)
            self.change_object(object_id, name=name, colour=colour)
        return object_id

    def change_object(self, object_id: int, *, name: str | None = None, colour: str | None = None) -> None:
        """Names or colours ("#rrggbb") an object."""
        look = self._known(object_id)
        if colour is not None and not re.fullmatch("#[0-9a-fA-F]{6}", colour):
            raise UsageError(f"a colour is #rrggbb, not {colour[:20]!r}")
        named = " ".join((name or "").split())[:MAX_NAME]
        with self.lock:
            self.drafts.set_look(object_id, Look(named or look.name, (colour or look.colour).lower()))

    def delete_object(self, object_id: int, progress: Report | None = None) -> None:
        """Takes an object out of all frames; `undo` brings it back if it was in a round."""
        self._ready()
        self._idle()
        look, report = self._known(object_id), progress or (lambda item: None)
        with self.lock:
            if object_id in self.session.object_ids:
                self.session.drop_object(object_id, lambda done, total: report(Progress("delete", done, total)))
            self.drafts.set_look(object_id, replace(look, deleted=True))
        self.canvas.forget()

    def _known(self, object_id: int) -> Look:
        if object_id not in self.canvas.object_ids():
            raise UsageError(f"there is no object {object_id}")
        return self.look(object_id)

    # ---- undo, redo, rounds: see `Steps` and `Propagation`

    def undo(self) -> Step | None:
        """Takes the last action back, else the last round; None: nothing to undo."""
        return self._step("undo")

    def redo(self) -> Step | None:
        """Brings back what `undo` took; None: nothing to redo."""
        return self._step("redo")

    def _step(self, direction: str) -> Step | None:
        self._ready()
        self._idle()
        with self.lock:
            step = self.steps.undo() if direction == "undo" else self.steps.redo()
        self.canvas.forget()
        return step

    def propagate(
        self, direction: str = "both", to: int | None = None, frames: Sequence[int] | None = None,
        progress: Report | None = None, *, stop: Stop = lambda: False,
    ) -> bool:  # fmt: skip
        """Turns drafts into rounds; False if `stop` paused it. See `Propagation.run`."""
        self._ready()
        self._idle()
        return self.propagation.run(direction, to, frames, progress, stop)

    def resume(self, progress: Report | None = None, *, stop: Stop = lambda: False) -> bool:
        """Goes on with a paused or interrupted round; False if it was paused again."""
        self._ready()
        return self.propagation.resume(progress, stop)

    def keep(self) -> None:
        """Ends a paused round with the frames that it reached."""
        self._ready()
        self.propagation.keep()

    def discard(self) -> None:
        """Drops a paused round; its actions are a draft again."""
        self._ready()
        self.propagation.discard()

    # ---- reading, from any thread

    def labels(self, frame: int, which: str = "shown") -> np.ndarray | None:
        """Object ids uint8 [H, W] at working size, None where there is no mask.

        Args:
            which: "shown": the draft, else what was computed; "committed": without drafts; "before": what "shown"
                was before the draft, or before the last round.
        """
        with self.lock:
            entries = self.drafts.of(self._at(frame))
            if which == "before" and not entries:
                return _labels(self._before(self.session.commit_id), frame)
            if which != "shown" or not entries:
                return _labels(self.session, frame)
            last, live = entries[-1], self.canvas.object_ids()
            labels = arrays.label(self.drafts.result(last))
        table = np.array([0, *(i if i in live else 0 for i in last.ids)], np.uint8)
        return np.ascontiguousarray(self.canvas.padding.remove(table[labels]))

    def _open_before(self, commit: str) -> Session | None:
        """The session before its last round; `commit` is the present state, for which that holds."""
        last = self.steps.last_commit()
        if last is None or last.parent is None:
            return None
        reader = Session.open(self.path)
        reader.refresh(last.parent)
        return reader

    def jpeg(self, frame: int, width: int | None = None) -> bytes:
        """A frame as JPEG, at working size or `width` pixels wide."""
        return self._jpeg(frame, width)

    def _encode_jpeg(self, frame: int, width: int | None) -> bytes:
        image, quality = self.session.frame(self._at(frame)), JPEG_QUALITY
        if width is not None and width < image.shape[1]:
            size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
            image, quality = cv2.resize(image, size, interpolation=cv2.INTER_AREA), THUMBNAIL_QUALITY
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
        return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()

    def draft(self, frame: int) -> list[dict[str, Any]]:
        """The actions of a frame's draft in JSON form, without pictures."""
        with self.lock:
            return [{k: v for k, v in entry.action.items() if k != "png"} for entry in self.drafts.of(frame)]

    def export(self, out: Path, formats: Sequence[str], progress: Report | None = None) -> dict[str, str]:
        """Writes the committed masks; see `pipelines.flow.encode`."""
        return flow.encode(self.path, out, formats=formats, force=True, progress=progress)[1]

    def state(self) -> dict[str, Any]:
        """What a page shows, in JSON types."""
        with self.lock:
            return overview(self)

    # ---- shared

    def _ready(self) -> Session:
        if not self.session.decoded:
            raise UsageError("the video is still being read", hint="wait until all frames are there")
        return self.session

    def _idle(self) -> None:
        if self.propagation.paused() is not None:
            raise UsageError("a propagation is paused", hint="continue it, keep what it has done, or discard it first")

    def _at(self, frame: int) -> int:
        if not 0 <= frame < self.session.num_frames:
            raise UsageError(f"frame {frame} is outside 0..{self.session.num_frames - 1}")
        return frame


def _labels(session: Session | None, frame: int) -> np.ndarray | None:
    labels = None if session is None or not session.decoded else session.mask(frame)
    if session is None or labels is None:
        return None
    return np.array([0, *session.object_ids], np.uint8)[labels]
