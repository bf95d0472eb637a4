"""Parts of the server by themselves: what a path means, failures as one line, exports on disk."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from mivos_cli.gui.chosen import Chosen
from mivos_cli.gui.errors import ApiError
from mivos_cli.gui.exports import Exports
from mivos_cli.gui.home import Home
from mivos_cli.gui.server import App
from stores.errors import UsageError
from stores.session import Session
from stores.video import probe
from tests.mivos_cli.conftest import HEIGHT, WIDTH, Clip


def test_what_a_path_means(tmp_path: Path, clip: Clip) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(3):
        Image.new("RGB", (64, 48), (index, 0, 0)).save(pictures / f"{index}.png")
    alone = Home(pictures)
    assert alone.only is not None and alone.only.session == tmp_path / "pictures.mivos"
    facts = alone.facts(alone.only)
    assert (facts["kind"], facts["frames"], facts["width"], facts["height"]) == ("video", 3, 64, 48)

    shutil.copy(clip.video, tmp_path / "a.mp4")
    video = Home(tmp_path / "a.mp4", tmp_path / "elsewhere")
    assert video.only is not None and video.only.source == tmp_path / "a.mp4"
    assert video.only.session == tmp_path / "elsewhere"
    session = tmp_path / "out" / "session"
    Session.create(session, probe(clip.video), height=HEIGHT, width=WIDTH).close()
    opened = Home(session)
    assert opened.only is not None and opened.only.source is None and opened.only.kind == "session"

    folder = Home(tmp_path)
    assert folder.only is None
    assert {place.path for place in folder.places()} == {tmp_path / "a.mp4", session}
    assert {place.id for place in folder.places()} >= {opened.only.id}, "an id is the same wherever it is met"
    for wrong in (session, tmp_path):
        with pytest.raises(UsageError):
            Home(wrong, tmp_path / "elsewhere")
    (tmp_path / "empty").mkdir()
    assert Home(tmp_path / "empty").places() == []


# ---- failures, in the process of the test


def ask(tmp_path: Path, path: str, error: Exception | None = None, **options: Any) -> httpx.Response:
    """One request to an application that has one more route, which fails."""

    async def scenario() -> httpx.Response:
        made = App(Home(tmp_path), Chosen(), 480, token="secret", host="127.0.0.1")

        async def fail() -> None:
            assert error is not None
            raise error

        made.fastapi.add_api_route("/fail", fail)
        made.fastapi.router.routes.insert(0, made.fastapi.router.routes.pop())
        transport = httpx.ASGITransport(made.guarded, raise_app_exceptions=False)
        headers = {"Authorization": "Bearer secret"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            return await client.get(path, **options)

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UsageError("no\nway", hint="go\nround"), 400, "no way"),
        (ApiError(409, "not now"), 409, "not now"),
        (OSError(28, "No space left on device", "x.png"), 500, "No space left on device: x.png"),
        (KeyError("k"), 500, "unexpected KeyError: 'k'"),
    ],
)
def test_failures_are_one_line(tmp_path: Path, error: Exception, status: int, line: str) -> None:
    answer = ask(tmp_path, "/fail", error)
    assert answer.status_code == status
    told = answer.json()
    assert told["error"] == line and "\n" not in (told["hint"] or "") and "Traceback" not in answer.text
    assert "content-security-policy" in answer.headers


def test_a_half_made_export_is_swept_away(tmp_path: Path) -> None:
    left = tmp_path / "exports" / ".partial-20260101-000000-000000"
    left.mkdir(parents=True)
    (tmp_path / "exports" / "20260101-000000").mkdir()  # without its card: not ours
    exports = Exports(tmp_path)
    assert not left.exists() and exports.list() == []

    def export(out: Path, formats: Any, progress: Any) -> dict[str, str]:
        (out / "masks").mkdir()
        (out / "masks" / "0.png").write_bytes(b"x")
        return {"png": str(out / "masks")}

    names = [exports.make(export, ["png"], lambda item: None, lambda: None) for _ in range(2)]
    assert len(set(names)) == 2 and {item["id"] for item in exports.list()} == set(names)
