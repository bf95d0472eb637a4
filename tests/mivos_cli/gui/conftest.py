"""Servers that the tests of one module share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mivos_cli.conftest import Clip, make_video
from tests.mivos_cli.gui.running import Server, Work

LENGTH = 40  # frames: a propagation of one to two seconds


@pytest.fixture(scope="session")
def long_clip(bikes_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 real frames, 320 x 136."""
    return make_video(bikes_video, tmp_path_factory.mktemp("video") / "traffic.mp4", frames=LENGTH)


@pytest.fixture(scope="session")
def library(long_clip: Path, clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two videos, one file that is none, and a file that is nobody's business."""
    folder = tmp_path_factory.mktemp("library")
    shutil.copy(long_clip, folder / "traffic.mp4")
    shutil.copy(clip.video, folder / "short.mp4")
    (folder / "broken.mp4").write_bytes(b"\0" * 5000)
    (folder / "secret.txt").write_text("nobody's business")
    return folder


@pytest.fixture(scope="session")
def server(library: Path) -> Iterator[Server]:
    """A server of a folder, for all tests that do not end it."""
    with Server(library) as running:
        yield running


@pytest.fixture(scope="session")
def projects(server: Server) -> dict[str, str]:
    """Name -> id of what is in the library."""
    return {project["name"]: project["id"] for project in server.http.get("/api/home").json()["projects"]}


@pytest.fixture(scope="session")
def opened(server: Server, projects: dict[str, str]) -> Work:
    """The longer video, decoded."""
    work = server.open(projects["traffic.mp4"])
    work.ready()
    return work


@pytest.fixture
def work(opened: Work) -> Iterator[Work]:
    """The longer video without rounds and drafts."""
    opened.fresh()
    yield opened
    opened.fresh()
