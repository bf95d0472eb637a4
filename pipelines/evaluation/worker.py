"""Measurements in processes of their own: what one has taken or compiled does not show in another."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from stores.errors import ModelError


@contextmanager
def fresh_process(target: Callable[..., None], *args: Any) -> Iterator[Connection]:
    """Runs `target(pipe, *args)` in a new process for as long as the block lasts; yields our end of the pipe.

    What it raises arrives as the next answer, see `receive`.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, target, *args), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.terminate()
        process.join()


def receive(pipe: Connection, what: str, hint: str) -> Any:
    """The next answer.

    Raises:
        ModelError: the process died (too little memory, most likely); `what` was being done. Or what it raised.
    """
    try:
        answer = pipe.recv()
    except EOFError as error:
        raise ModelError(f"{what} ended early", hint=f"is there memory enough? {hint}") from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def _serve(pipe: Connection, target: Callable[..., None], *args: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to tell about
    try:
        target(pipe, *args)
    except EOFError:
        pass  # the parent wants no more
    except Exception as error:
        pipe.send(error)
