"""Where the renderer's Python is, and how it is made.

BlenderProc and the `bpy` wheel are GPL and want packages of their own, so they live in an environment of their own
and are started as a separate program. Places, in this order: what the caller names, $MIVOS_BLENDER_ENV,
`.venv-blender` beside the packages of a checkout, the user's data folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from stores.errors import RenderError

VARIABLE = "MIVOS_BLENDER_ENV"
SETUP = "mivos render-bl30k --setup"
PYTHON = (3, 11)  # the only one that the wheel of bpy 4.2 is made for
# What BlenderProc uses without declaring it is listed, too; OpenCV 5 cannot read its label files (OpenEXR).
REQUIREMENTS = (
    "bpy==4.2.23",
    "blenderproc==2.8.0",
    "opencv-python==4.14.0.94",
    "numpy==2.4.6",
    "scipy==1.17.1",
    "pillow==13.0.0",
    "trimesh==5.2.0",
    "imageio==2.38.1",
    "gitpython==3.2.1",
    "scikit-learn==1.9.1",
    "scikit-image==0.26.0",
    "rich==15.0.0",
    "pypng==0.20220715.0",
)
INSIDE = Path(__file__).with_name("inside.py")


@dataclass(frozen=True)
class Renderer:
    """How to start the renderer: the command, to which the job file is added, and what it is."""

    command: tuple[str, ...]
    name: str


def environment_folder(given: Path | None = None) -> Path:
    """The folder where the environment is or would be made."""
    if given is not None:
        return given
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").is_file():
        return checkout / ".venv-blender"
    return platformdirs.user_data_path("mivos") / "blender-env"


def find_renderer(blender: Path | None = None, environment: Path | None = None) -> Renderer:
    """Find what renders.

    Args:
        blender: an installed Blender whose own Python has blenderproc; None for the environment.
        environment: its folder, None for the usual places.

    Raises:
        RenderError: it is not there; the hint names the command that makes it.
    """
    if blender is not None:
        found = shutil.which(str(blender))
        if found is None:
            raise RenderError(f"{blender}: is no program", hint="--blender wants the path of the Blender executable")
        return Renderer((found, "-b", "--factory-startup", "--python", str(INSIDE), "--"), f"Blender {found}")
    folder = environment_folder(environment)
    python = _python(folder)
    if not python.is_file():
        raise RenderError(f"{folder}: there is no renderer", hint=f"make it: {SETUP}")
    lacking = [name for name in ("bpy", "blenderproc") if not _has(folder, name)]
    if lacking:
        raise RenderError(f"{folder}: lacks {' and '.join(lacking)}", hint=f"complete it: {SETUP}")
    return Renderer((str(python), str(INSIDE)), f"bpy in {folder}")


def set_up(environment: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Make the environment, or complete one that was interrupted: about 1.5 GB. Returns its folder.

    Raises:
        RenderError: no Python 3.11, no network, no room; one line, what pip said is in ``<folder>/setup.log``.
    """
    folder = environment_folder(environment)
    python = _python(folder)
    if not python.is_file() or not _has(folder, "pip"):
        say(f"making {folder}")
        _run([_find_python(), "-m", "venv", str(folder)], folder)
    say("installing " + ", ".join(REQUIREMENTS[:2]) + " and what they need (about 500 MB to download)")
    _run([str(python), "-m", "pip", "install", "--disable-pip-version-check", *REQUIREMENTS], folder)
    say("trying it")
    _run([str(python), "-c", "import os, bpy; print(bpy.app.version_string, flush=True); os._exit(0)"], folder)
    return folder


def _run(command: list[str], folder: Path) -> None:
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise RenderError(f"{command[0]}: cannot be started: {error.strerror}") from error
    log = folder / "setup.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(command)}\n{result.stdout}{result.stderr}\n")
    except OSError as error:
        raise RenderError(f"{log}: cannot be written: {error.strerror}") from error
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR") or "Error" in line]
        reason = (errors or lines or [f"exit code {result.returncode}"])[-1]
        raise RenderError(
            f"{folder}: could not be set up: {reason[:200]}",
            hint=f"all that was said is in {log}; the same command continues",
        )


def _find_python() -> str:
    """A Python of the version that the wheel needs."""
    if sys.version_info[:2] == PYTHON:
        return sys.executable
    wanted = "python{}.{}".format(*PYTHON)
    found = shutil.which(wanted)
    if found is None:
        raise RenderError(
            f"the renderer needs Python {PYTHON[0]}.{PYTHON[1]}, and there is no {wanted} here",
            hint="install it (for example: uv python install 3.11), or give an installed Blender with --blender",
        )
    return found


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _has(folder: Path, package: str) -> bool:
    patterns = (f"Lib/site-packages/{package}", f"lib/python*/site-packages/{package}")
    return any(True for pattern in patterns for _ in folder.glob(pattern))
