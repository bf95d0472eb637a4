"""What scenes are made of: meshes, textures for them, and pictures for the sky.

A mesh folder may be a ShapeNetCore.v2 tree (``<synset>/<id>/models/model_normalized.obj``) or hold .glb, .gltf and
.obj files at any depth. With nothing given there is an embedded set: Blender's primitives and a few lumps that the
renderer makes, textures and skies that `blender.procedural` paints.

Files are used evenly, as published: a walk through a random permutation, then through the next one. Unlike there,
video k has fixed places of the walk, so what it shows does not depend on which videos were made before it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blender.procedural import SKIES, TEXTURES, paint
from stores.errors import DatasetError, InputError
from stores.files import natural_key

MESH_SUFFIXES = frozenset({".glb", ".gltf", ".obj"})
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
BUILTIN = "builtin:"
PRIMITIVES = tuple("cube sphere icosphere cone cylinder torus monkey pyramid prism tetrahedron ring capsule".split())
LUMPS = tuple(f"lump{i}" for i in range(12))


@dataclass(frozen=True)
class Shelf:
    """Files of one kind.

    Attributes:
        kind: "meshes", "textures" or "skies"; part of the seed of the walk.
        files: name -> path, or "builtin:..." for a mesh that the renderer makes; ordered.
    """

    kind: str
    files: dict[str, str]

    def walk(self, seed: int, block: int) -> Callable[[int, int], list[str]]:
        """An endless even walk over the names: (video, spares) -> the `block` names of it and those after."""
        names = list(self.files)

        def at(video: int, spares: int) -> list[str]:
            places = range(video * block, (video + 1) * block + spares)
            orders = {
                turn: np.random.default_rng([seed, turn, *self.kind.encode()]).permutation(len(names))
                for turn in {place // len(names) for place in places}
            }
            return [names[orders[place // len(names)][place % len(names)]] for place in places]

        return at


@dataclass(frozen=True)
class Assets:
    """The three shelves, and the seed of embedded pictures."""

    meshes: Shelf
    textures: Shelf
    skies: Shelf
    seed: int = 0

    def file(self, kind: str, name: str) -> str:
        """The path behind a name of the shelf `kind`; an embedded picture is painted when it is asked for.

        Raises:
            DatasetError: the shelf does not have it.
            StorageFullError: the picture cannot be written.
        """
        shelf: Shelf = getattr(self, kind)
        if name not in shelf.files:
            raise DatasetError(f"{name}: a scene wants this file, but no folder of {kind} given holds it")
        path = shelf.files[name]
        if kind != "meshes" and name.startswith(BUILTIN):
            paint(name.removeprefix(BUILTIN), Path(path), self.seed)
        return path


def find_assets(meshes: Sequence[Path], textures: Path | None, skies: Path | None, work: Path, seed: int = 0) -> Assets:
    """Look through the folders given; what is not given is embedded, its pictures are painted into `work`.

    Raises:
        DatasetError: a folder is missing or holds nothing of its kind.
    """
    if meshes:
        shelf = Shelf("meshes", _collect(meshes, MESH_SUFFIXES, "meshes (.glb, .gltf, .obj)"))
    else:
        shelf = Shelf("meshes", {BUILTIN + name: BUILTIN + name for name in (*PRIMITIVES, *LUMPS)})
    images = []
    for kind, folder, painted in (("textures", textures, TEXTURES), ("skies", skies, SKIES)):
        if folder is None:
            files = {f"{BUILTIN}{name}": str(work.resolve() / kind / f"{name}.png") for name in painted}
            images.append(Shelf(kind, files))
        else:
            images.append(Shelf(kind, _collect([folder], IMAGE_SUFFIXES, "images (.jpg, .png)")))
    return Assets(shelf, images[0], images[1], seed)


def _collect(folders: Sequence[Path], suffixes: Collection[str], what: str) -> dict[str, str]:
    """name -> absolute path; names begin with the folder's own name, made unique."""
    files: dict[str, str] = {}
    used: set[str] = set()
    for folder in folders:
        label = base = folder.resolve().name or "root"
        for number in range(2, len(folders) + 2):
            if label not in used:
                break
            label = f"{base}~{number}"
        used.add(label)
        found = sorted(_files(folder, suffixes), key=natural_key)
        if not found:
            raise DatasetError(f"{folder}: holds no {what}")
        files.update({f"{label}/{name}": str((folder / name).resolve()) for name in found})
    return files


def _files(folder: Path, suffixes: Collection[str]) -> Iterator[str]:
    """Visible files at any depth as relative names with forward slashes."""

    def fail(error: OSError) -> None:
        raise _unreadable(folder, error)

    seen: set[tuple[int, int]] = set()  # links may lead in circles
    for top, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        folders[:] = [
            name for name in sorted(folders) if not name.startswith(".") and _is_new(os.path.join(top, name), seen)
        ]
        for name in names:
            if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                yield (Path(top) / name).relative_to(folder).as_posix()


def _is_new(folder: str, seen: set[tuple[int, int]]) -> bool:
    """Whether a folder, which links may lead to several times, comes for the first time."""
    try:
        found = os.stat(folder)
    except OSError:
        return True  # the walk will say what is wrong with it
    key = found.st_dev, found.st_ino
    fresh = key not in seen
    seen.add(key)
    return fresh


def _unreadable(folder: Path, error: OSError) -> InputError:
    return DatasetError(f"{error.filename or folder}: cannot be read: {error.strerror or error}")
