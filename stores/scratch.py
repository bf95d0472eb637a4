"""Arrays of a round in progress that are large, change with every checkpoint and are worthless afterwards.

They lie beside the session's repository, which would keep every version. A file is written before the checkpoint that
needs it, under a name of its own, and older ones go after that checkpoint, so a killed process leaves the one that its
last checkpoint speaks of.

::

    SESSION/memory/<name>.safetensors
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from stores.errors import StoreError
from stores.files import atomic_file, make_folder

FOLDER = "memory"


def write_scratch(session: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Keep arrays under a name of letters, digits and dashes.

    Raises:
        StorageFullError: there is no room, or no permission.
    """
    make_folder(session / FOLDER)
    with atomic_file(_path(session, name)) as file:
        file.write(save({key: np.ascontiguousarray(array) for key, array in arrays.items()}))


def read_scratch(session: Path, name: str) -> dict[str, np.ndarray]:
    """What was kept under a name.

    Raises:
        StoreError: it is not there, or damaged.
    """
    path = _path(session, name)
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise StoreError(
            f"{path}: what the unfinished round remembers cannot be read: {error}", hint="begin the round again"
        ) from error


def clear_scratch(session: Path, *, but: str | None = None) -> None:
    """Remove everything kept, except one name. What cannot be removed does no harm."""
    folder = session / FOLDER
    with suppress(OSError):
        for path in folder.iterdir():
            if but is None or path != _path(session, but):
                path.unlink()
        folder.rmdir()


def _path(session: Path, name: str) -> Path:
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"{name!r} is not a name for scratch arrays")
    return session / FOLDER / f"{name}.safetensors"
