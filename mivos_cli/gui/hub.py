"""What the tabs of a project are told. A slow tab skips what is out of date, never what holds now.

Each tab has one slot per subject: the state, the frames whose masks changed, each job, each job's progress. A newer
message replaces the one that still waits (frames are joined), so that no tab needs more room than that.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
from collections.abc import Callable, Hashable, Iterable
from contextvars import ContextVar
from typing import Any

INTERVAL = 0.05  # seconds between messages that nobody waits for
KEPT_MESSAGES = 50  # warnings that wait for one tab
Message = dict[str, Any]
Slots = dict[Hashable, Message]


class Tab:
    """The messages that wait for one tab. All methods belong to the event loop."""

    def __init__(self) -> None:
        self._slots: Slots = {}
        self._hurry = self._closed = False
        self._last = -INTERVAL
        self._news = asyncio.Event()

    def put(self, slots: Slots, *, hurry: bool) -> None:
        """Adds messages; they go within `INTERVAL`, with `hurry` at once."""
        _join(self._slots, slots)
        self._hurry |= hurry
        self._news.set()

    def close(self) -> None:
        """`take` returns what waits, and then None."""
        self._closed = True
        self._news.set()

    async def take(self) -> list[str] | None:
        """Waits for messages and returns all of them, as JSON; None: the project was closed."""
        clock = asyncio.get_running_loop().time
        while not (self._slots and (self._hurry or self._closed or clock() >= self._last + INTERVAL)):
            if self._closed:
                return None
            self._news.clear()
            if self._slots:
                try:
                    await asyncio.wait_for(self._news.wait(), self._last + INTERVAL - clock())
                except TimeoutError:
                    continue
            else:
                await self._news.wait()
        slots, self._slots, self._hurry, self._last = self._slots, {}, False, clock()
        return [json.dumps(message, separators=(",", ":")) for message in slots.values()]


class Hub:
    """The tabs of one project."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tabs: set[Tab] = set()
        self._lock = threading.Lock()
        self._waiting: Slots = {}
        self._hurry = self._scheduled = False
        self._numbers = itertools.count()

    def join(self, first: Message) -> Tab:
        """A new tab, which gets `first` before everything else. For the event loop."""
        tab = Tab()
        tab.put({"state": first}, hurry=True)
        self._tabs.add(tab)
        return tab

    def leave(self, tab: Tab) -> None:
        """The tab has gone. For the event loop."""
        self._tabs.discard(tab)

    def close(self) -> None:
        """All tabs get what waits and then the end. For the event loop."""
        self._deliver()
        for tab in self._tabs:
            tab.close()

    # ---- from any thread

    def state(self, state: Message, *, hurry: bool = True) -> None:
        """The state of the project."""
        self._push("state", {"type": "state", **state}, hurry)

    def masks(self, frames: Iterable[int] | None, *, hurry: bool = True) -> None:
        """Masks of these frames changed; None: of all."""
        told = None if frames is None else sorted(set(frames))
        if told is None or told:
            self._push("masks", {"type": "masks", "frames": told}, hurry)

    def progress(self, job: str, stage: str, done: int, total: int | None, frame: int | None = None) -> None:
        """How far a job is."""
        message = {"type": "progress", "job": job, "stage": stage, "done": done, "total": total, "frame": frame}
        self._push(("progress", job), message, False)

    def job(self, job: Message) -> None:
        """A job has another state now."""
        self._push(("job", job["id"]), {"type": "job", "job": job}, True)

    def message(self, level: str, text: str, hint: str | None = None) -> None:
        """Words for the person: level is "info", "warning" or "error"."""
        message = {"type": "message", "level": level, "text": text, "hint": hint}
        self._push(("message", next(self._numbers)), message, True)

    def _push(self, slot: Hashable, message: Message, hurry: bool) -> None:
        with self._lock:
            _join(self._waiting, {slot: message})
            self._hurry |= hurry
            if self._scheduled:
                return
            self._scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop has ended, and the tabs with it
            pass

    def _deliver(self) -> None:
        with self._lock:
            slots, hurry = self._waiting, self._hurry
            self._waiting, self._hurry, self._scheduled = {}, False, False
        for tab in self._tabs:
            tab.put(slots, hurry=hurry)


def _join(slots: Slots, newer: Slots) -> None:
    """Puts newer messages in the place of older ones; what the last of a subject says is told last."""
    for slot, message in newer.items():
        older = slots.pop(slot, None)
        if slot == "masks" and older is not None:
            known, more = older["frames"], message["frames"]
            message = {**message, "frames": None if known is None or more is None else sorted({*known, *more})}
        slots[slot] = message
    told = [slot for slot in slots if isinstance(slot, tuple) and slot[0] == "message"]
    for slot in told[:-KEPT_MESSAGES]:
        del slots[slot]


speaking: ContextVar[Hub | None] = ContextVar("speaking", default=None)  # whose work this thread is doing


class LogToTabs(logging.Handler):
    """Warnings of the log go to the tabs of the project that is worked on, else to all open ones."""

    def __init__(self, hubs: Callable[[], Iterable[Hub]]) -> None:
        """
        Args:
            hubs: gives those of the open projects.
        """
        super().__init__(logging.WARNING)
        self._hubs = hubs

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "answered", False):  # who asked knows it from the answer
            return
        hub = speaking.get()
        level = "error" if record.levelno >= logging.ERROR else "warning"
        for one in (hub,) if hub is not None else self._hubs():
            one.message(level, " ".join(record.getMessage().split()))
