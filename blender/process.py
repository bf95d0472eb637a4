"""One run of the renderer: starts it for one video, passes on its events, and explains how it ended."""

from __future__ import annotations

import json
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from blender.environment import Renderer
from stores.errors import RenderError, StorageFullError

STALL = 1800.0  # seconds without any event; a frame of 768x512 takes one core 22 s at 64 samples
LEAVING = 60.0  # seconds that a process may take to end after its last word
NEARLY_FULL = 2**24  # bytes free on a disk on which Blender failed to write, without saying why
KILLED = -getattr(signal, "SIGKILL", 9)


class DiedLoadingError(Exception):
    """The process died while it read a file.

    Args:
        name: the file's name in the scene.
        why: how it died.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why


def run_job(
    renderer: Renderer,
    job: Path,
    log: Path,
    events: Callable[[Mapping[str, Any]], None],
    stop: threading.Event,
    stall: float = STALL,
) -> bool:
    """Render one job to its end, or until `stop` is set.

    Args:
        renderer: what to start.
        job: the job file, see `blender.inside`.
        log: where everything goes that Blender prints; appended to.
        events: is called for every event, in this thread.
        stop: set it in another thread to end the process.
        stall: seconds without an event after which the process is ended.

    Returns:
        Whether it was finished; False after `stop`.

    Raises:
        RenderError: it failed, was killed, or hung; the line names the log.
        StorageFullError: the disk is full.
        DiedLoadingError: it died while it read a file.
    """
    with open(log, "ab") as errors:
        try:
            process = subprocess.Popen(
                [*renderer.command, str(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        except OSError as error:
            raise RenderError(f"{renderer.command[0]}: cannot be started: {error.strerror}") from error
    lines: queue.Queue[bytes | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    last: Mapping[str, Any] = {}
    quiet = 0.0
    try:
        while (line := _next(lines)) is not None:
            if stop.is_set():
                return False
            quiet = quiet + 0.2 if line == b"" else 0.0
            if last.get("event") == "done" and quiet > LEAVING:
                break  # all is written, it only does not end
            if quiet > stall:
                raise RenderError(
                    f"{job.stem}: the renderer was silent for {stall:.0f} s and was ended", hint=_see(log)
                )
            event = _event(line)
            if event is not None:
                last = event
                events(event)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=LEAVING)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()
        reader.join()
    if last.get("event") == "done":
        return True
    raise _failure(job, log, last, process.returncode)


def _failure(job: Path, log: Path, last: Mapping[str, Any], code: int) -> Exception:
    """The error for a process that ended before it was done."""
    if last.get("event") == "error":
        if last.get("full") or shutil.disk_usage(job.parent).free < NEARLY_FULL:
            return StorageFullError(f"{job.parent}: the disk is full", hint="make room; the same command continues")
        return RenderError(f"{job.stem}: {' '.join(str(last.get('why')).split())[:300]}", hint=_see(log))
    why = _death(code)
    if last.get("event") == "loading" and code != KILLED:
        return DiedLoadingError(str(last["name"]), f"the renderer died of it ({why})")
    hint = _see(log)
    if code == KILLED:
        hint = f"perhaps memory ran out: fewer --workers; the same command continues. {hint}"
    return RenderError(f"{job.stem}: the renderer {why} before it was done", hint=hint)


def _death(code: int) -> str:
    if code >= 0:
        return f"stopped with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _see(log: Path) -> str:
    return f"what it printed is in {log}"


def _read(process: subprocess.Popen[bytes], lines: queue.Queue[bytes | None]) -> None:
    assert process.stdout is not None
    with process.stdout as stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _next(lines: queue.Queue[bytes | None]) -> bytes | None:
    """The next line, b"" after a short while without one, None at the end."""
    try:
        return lines.get(timeout=0.2)
    except queue.Empty:
        return b""


def _event(line: bytes) -> Mapping[str, Any] | None:
    """An event, None for anything else (an installed Blender prints a greeting before it runs us)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
