"""Runs `mivos` many times without loading it each time: `python -m tests.fuzz.fork_server`.

Each line on stdin is {"argv": [...], "folder": PATH}; a fork of this process runs the command in that folder, its
memory bounded, and its answer is {"code", "out", "err"}. Code -1: it did not end in time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

SECONDS = 120
MEMORY = 4 * 2**30  # a network maps its weights twice


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import mivos_cli.app  # noqa: F401
    import pipelines.evaluation.comparison
    import pipelines.flow
    import pipelines.models  # noqa: F401
    import stores.dataset_check  # noqa: F401

    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(run(job["argv"], Path(job["folder"]))), file=answers, flush=True)


def run(arguments: list[str], folder: Path) -> dict[str, Any]:
    """Run one command to its end."""
    output, errors = folder / ".out", folder / ".err"
    child = os.fork()
    if child == 0:
        _become(arguments, folder, output, errors)
    end = time.monotonic() + SECONDS
    code = None
    while code is None and time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
        if code is None:
            time.sleep(0.01)
    if code is None:
        os.kill(child, 9)
        os.waitpid(child, 0)
        code = -1
    return {"code": code, "out": _text(output), "err": _text(errors)}


def _text(path: Path) -> str:
    text = path.read_bytes().decode(errors="surrogateescape")
    path.unlink()
    return text


def _become(arguments: list[str], folder: Path, output: Path, errors: Path) -> NoReturn:
    """In the child: run the command and leave."""
    from tests.fuzz.worker import bound_memory

    for number, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False, errors="backslashreplace")
    os.chdir(folder)
    sys.argv = ["mivos", *arguments]
    code = 99
    try:
        bound_memory(MEMORY)
        from mivos_cli.app import main as command

        command()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
