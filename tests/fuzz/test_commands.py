"""Damaged files through whole commands: an exit code, one error line, no traceback, nothing left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.fuzz import documents
from tests.fuzz.clips import video_files
from tests.fuzz.conftest import CASES
from tests.fuzz.damage import json_files
from tests.fuzz.pictures import mask_files
from tests.fuzz.sandbox import TALLIES, Tally
from tests.fuzz.weights import weight_files
from tests.stores.media import write_video

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.filterwarnings("ignore:Duplicate name")]
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    errors = tmp_path_factory.mktemp("server") / "errors"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.fork_server"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors.open("wb"), text=True, cwd=ROOT,
    ) as server:  # fmt: skip
        assert server.stdin and server.stdout
        assert server.stdout.readline() == '"ready"\n', errors.read_text()

        def run(folder: Path, *arguments: str) -> dict[str, Any]:
            server.stdin.write(json.dumps({"argv": arguments, "folder": str(folder)}) + "\n")
            server.stdin.flush()
            return dict(json.loads(server.stdout.readline()))

        yield run
        server.stdin.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", pts=range(3))


@pytest.fixture(scope="module")
def session(run: Run, video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoded")
    assert run(folder, "decode", str(video), "session")["code"] == 0
    return folder / "session"


def judged(answer: dict[str, Any], folder: Path, *, kept: tuple[str, ...]) -> None:
    """Assert what every command promises; `kept`: what may be in the folder afterwards."""
    tally = TALLIES.setdefault("whole commands", Tally())
    tally.counts["value" if answer["code"] == 0 else "refused"] += 1
    code, said = answer["code"], answer["err"]
    assert code in (0, 1, 2, 3), answer
    lines = said.splitlines()
    assert "Traceback" not in said and "error: unexpected" not in said, said
    assert all(line.isprintable() for line in lines), said
    if code:
        assert sum(line.startswith("error: ") for line in lines) == 1, said
        left = {path.name for path in folder.iterdir()}
        # a video is decoded before its scribbles can be compared with it; the session waits for better ones
        assert left - set(kept) <= {"out"} and {path.name for path in folder.glob("out/*")} <= {"session"}, left


COMMANDS: dict[str, tuple[st.SearchStrategy[Any], str, tuple[str, ...]]] = {
    "segment": (json_files(documents.scribbles), "s.json", ("segment", "VIDEO", "--scribbles", "s.json", "-o", "out")),
    "decode": (video_files(), "clip.SUFFIX", ("decode", "clip.SUFFIX", "out")),
    "interact": (mask_files, "00000.png", ("interact", "session", "--masks", "00000.png")),
    "models": (weight_files, "net.pth", ("models", "import", "net.pth")),
    "compare": (json_files(documents.record), "a.json", ("bench", "compare", "a.json", "a.json")),
    "batch": (json_files(documents.row), "m.jsonl", ("batch", "m.jsonl", "-o", "out")),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_one_line_and_nothing_left(
    command: str, run: Run, video: Path, session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, name, arguments = COMMANDS[command]
    monkeypatch.setenv("MIVOS_MODELS", str(tmp_path / "models"))

    @settings(
        max_examples=max(3, CASES // 200),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def case(data: Any) -> None:
        folder = tmp_path / "work"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        suffix, content = data if isinstance(data, tuple) else ("", data)
        file = folder / name.replace("SUFFIX", suffix)
        file.write_bytes(content)
        kept = [file.name]
        if "session" in arguments:
            shutil.copytree(session, folder / "session")
            kept.append("session")
        words = [word.replace("SUFFIX", suffix).replace("VIDEO", str(video)) for word in arguments]
        judged(run(folder, *words), folder, kept=tuple(kept))

    case()
