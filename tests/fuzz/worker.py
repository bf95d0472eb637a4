"""The process that reads the cases of one target: `python -m tests.fuzz.worker TARGET`.

It takes one path per line on stdin and answers each with a line of JSON on stdout. Its memory is bounded by the system,
and whatever a reader does beside reading (writing elsewhere, starting programs, connecting) is told as a bug.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

MEMORY = 3 * 2**29  # bytes over what is in use at the start: 1.5 GB
CPU_SECONDS = 5.0  # of the processor, for one case
OPENED_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ACTS = frozenset(
    "os.system os.exec os.posix_spawn os.fork subprocess.Popen socket.connect socket.getaddrinfo os.startfile "
    "os.remove os.rename os.rmdir os.mkdir os.link os.symlink os.chmod os.truncate shutil.rmtree".split()
)
QUIET = ("/dev/null", "/proc/", "/sys/")


class Watch:
    """Notes what a reader does beside reading, by Python's audit events."""

    def __init__(self) -> None:
        self.folder: str | None = None  # where a case may write; None: nobody is watching
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & OPENED_FOR_WRITING
            if writes and isinstance(path, str | bytes) and not self._own(os.fsdecode(path)):
                self.seen.append(f"opened {os.fsdecode(path)!r} for writing")
        elif event in ACTS and not (arguments and isinstance(arguments[0], str) and self._own(arguments[0])):
            self.seen.append(f"{event}{arguments!r:.200}")

    def _own(self, path: str) -> bool:
        assert self.folder is not None
        full = os.path.abspath(path)
        return full.startswith(QUIET) or full.startswith(self.folder + os.sep)


def bound_memory(more: int = MEMORY) -> None:
    """Allow so many bytes more than this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def judge(reader: Any, path: Path, watch: Watch) -> dict[str, Any]:
    """Run one case: {"kind": "value" | "refused" | "bug", "text": message or trace}."""
    from stores.errors import MivosError

    watch.seen.clear()
    watch.folder = str(path.parent)
    began = time.process_time()
    try:
        reader.check(path)
        kind, text = "value", ""
    except MivosError as error:
        kind, text = "refused", str(error)
        problem = reader.problem_of(error, path)
        if problem:
            kind, text = "bug", f"{problem}: {text!r:.600}"
    except Exception:
        kind, text = "bug", traceback.format_exc()[-3000:]
    finally:
        watch.folder = None
    seconds = time.process_time() - began
    if watch.seen:
        kind, text = "bug", f"it {'; '.join(watch.seen)[:2000]}"
    if seconds > CPU_SECONDS:
        kind, text = "bug", f"took {seconds:.1f} s of the processor, {CPU_SECONDS} are the limit; {text}"
    return {"kind": kind, "text": text, "seconds": seconds}


def main(target: str) -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print; answers must stay readable
    warnings.simplefilter("ignore")
    from tests.fuzz.readers import READERS

    reader = READERS[target]
    reader.warm_up()
    watch = Watch()
    bound_memory()
    print(json.dumps({"kind": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(judge(reader, Path(json.loads(line)), watch)), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
