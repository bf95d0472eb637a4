"""Finding the renderer's Python, and what happens when it cannot be made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from blender import environment
from blender.environment import INSIDE, SETUP, find_renderer, set_up
from stores.errors import RenderError


def make(folder: Path, *packages: str) -> Path:
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    for name in packages:
        (folder / "lib" / "python3.11" / "site-packages" / name).mkdir(parents=True)
    return python


def test_order_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, variable = make(tmp_path / "given", "bpy", "blenderproc"), make(tmp_path / "var", "bpy", "blenderproc")
    monkeypatch.setenv("MIVOS_BLENDER_ENV", str(tmp_path / "var"))
    assert find_renderer(environment=tmp_path / "given").command == (str(given), str(INSIDE))
    assert find_renderer().command == (str(variable), str(INSIDE))
    monkeypatch.delenv("MIVOS_BLENDER_ENV")
    assert environment.environment_folder() == Path(environment.__file__).parents[1] / ".venv-blender"


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="there is no renderer") as caught:
        find_renderer(environment=tmp_path / "none")
    assert SETUP in str(caught.value.hint)
    make(tmp_path / "half", "bpy")
    with pytest.raises(RenderError, match="lacks blenderproc") as caught:
        find_renderer(environment=tmp_path / "half")
    assert SETUP in str(caught.value.hint)


def test_an_installed_blender(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="is no program"):
        find_renderer(blender=tmp_path / "blender")
    command = find_renderer(blender=Path(sys.executable)).command
    assert command[0] == sys.executable and command[1] == "-b" and command[-2:] == (str(INSIDE), "--")


@pytest.mark.slow
def test_a_setup_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info[:2] != environment.PYTHON:
        pytest.skip("makes an environment with this Python, which must be 3.11")
    for key, value in {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(key, value)
    said: list[str] = []
    with pytest.raises(RenderError, match="could not be set up: ERROR: .*bpy") as caught:
        set_up(tmp_path / "env", said.append)
    assert "setup.log" in str(caught.value.hint) and "bpy" in (tmp_path / "env" / "setup.log").read_text()
    assert said and (tmp_path / "env" / "bin" / "python").exists()  # the next try begins here


def test_no_python_of_that_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PYTHON", (3, 99))
    with pytest.raises(RenderError, match="there is no python3.99 here") as caught:
        set_up(tmp_path / "env", lambda line: None)
    assert "--blender" in str(caught.value.hint)
