"""Real `mivos` processes that start at once: a server that has loaded everything forks one for each command.

Run as a module it is that server: JSON lines on stdin ask, JSON lines on stdout answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# What a command loads; nothing here may start a thread, since threads do not survive a fork.
HEAVY = (
    "torch", "cv2", "av", "zarr", "icechunk", "numba", "mivos_cli.app", "pipelines.flow", "pipelines.models",
    "pipelines.evaluation.semi_supervised", "pipelines.synthesis.fusion_data", "pipelines.training.loop",
    "stores.checking", "stores.repairing", "stores.frame_repair", "blender.run",
)  # fmt: skip


class Forks:
    """Starts commands; a context manager.

    Args:
        preload: path of a library to put before all others in all commands (`LD_PRELOAD`).
    """

    def __init__(self, preload: Path | None = None) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MIVOS_DEBUG": ""}
        if preload is not None:
            environment["LD_PRELOAD"] = str(preload)
        command = ["nice", "-n", "19", sys.executable, "-m", "tests.chaos.forking"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )
        self._ask({})  # until everything is loaded

    def start(self, arguments: list[str], log: Path, environment: dict[str, str] | None = None) -> int:
        """The process id of `mivos ARGUMENTS`, which writes to `log`.out and `log`.err."""
        return self._ask({"start": arguments, "log": str(log), "environment": environment or {}})["pid"]

    def wait(self, pid: int) -> int:
        """Its exit code; the negative number of the signal that ended it."""
        return self._ask({"wait": pid})["code"]

    def run(self, arguments: list[str], log: Path, environment: dict[str, str] | None = None) -> int:
        """Start and wait."""
        return self.wait(self.start(arguments, log, environment))

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()


def _serve() -> None:
    import importlib

    for name in HEAVY:
        importlib.import_module(name)
    for line in sys.stdin:
        question = json.loads(line)
        answer: dict[str, Any] = {}
        if "start" in question:
            answer["pid"] = _fork(question)
        elif "wait" in question:
            answer["code"] = os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])
        print(json.dumps(answer), flush=True)


def _fork(question: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    for number, suffix in ((1, ".out"), (2, ".err")):
        file = os.open(question["log"] + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(question["environment"])
    sys.argv = ["mivos", *question["start"]]
    code = 1
    try:
        from tests.chaos import hooks

        hooks.install()
        from mivos_cli.app import main

        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
