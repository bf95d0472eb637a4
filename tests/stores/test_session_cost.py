"""What an open session costs in memory. Bounds are generous; usual values stand beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stores import sessions

# In a process of its own, since other tests move the baseline. Prints megabytes.
MEASURE = """
import sys
from pathlib import Path
import numpy as np
import psutil
from stores.session import Session
from stores.source import Frame
from tests.stores import sessions

path, height, width = Path(sys.argv[1]), 480, 854
image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
probs = np.zeros((2, height, width), np.float32)
probs[1, 100:300, 200:500] = np.random.default_rng(1).random((200, 300))
probs[0] = 1 - probs[1]
rss = lambda: psutil.Process().memory_info().rss / 1e6
last = rss()
def report():
    global last
    now, before = rss(), last
    last = now
    print(round(now - before, 1))

session = Session.create(path, sessions.source(), height=height, width=width)
session.write_frame(Frame(0, 0, image))
report()
for index in range(1, 300):
    session.write_frame(Frame(index, index, image))
session.finish_frames()
report()
session.begin_round()
session.add_objects(1)
session.write_probs(0, probs)
report()
for index in range(1, 300):
    session.write_probs(index, probs)
    if index % 100 == 0:
        session.checkpoint({"next": index})
session.commit_round(sessions.record(1))
report()
def opened():
    reader = Session.open(path)
    reader.frame(5), reader.probs(7), reader.mask(9), reader.rounds, reader.history()
    return reader
readers = [opened()]
report()
readers += [opened() for _ in range(19)]
report()
"""


@pytest.mark.slow
def test_memory_of_open_sessions_is_small_and_does_not_grow_with_frames(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(sessions.ROOT)}
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "s")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    first, frames, begun, results, reader, more = (float(line) for line in result.stdout.split())
    assert first < 50  # the storage engine's threads and one frame's buffers, once per process: 25
    assert frames < 20  # 299 more frames, 368 MB of pixels: 2 to 10
    assert begun < 25  # one frame's float32 buffers: 5
    assert results < 20  # 299 more results: 2 to 5
    assert reader < 10  # 2
    assert more < 19 * 5  # 0.2 per session
