"""Scenes as JSON files: versioned, checked field by field when they are read."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from blender.scene import Camera, Light, Path3, Scene, SceneObject, Sky, Triple, listed, triple
from stores.errors import RenderError
from stores.files import atomic_file, make_folder

SCHEMA = "mivos-bl30k-scene"
VERSION = 1


def write_scene(path: Path, scene: Scene) -> None:
    """Write a scene; it appears under its name only when complete.

    Raises:
        StorageFullError: nothing can be written there.
    """
    make_folder(path.parent)
    data = {"schema": SCHEMA, "version": VERSION, **asdict(scene)}
    with atomic_file(path) as file:
        file.write((json.dumps(data, indent=1) + "\n").encode())


def read_scene(path: Path) -> Scene:
    """Read and check a scene.

    Raises:
        RenderError: it cannot be read, is no scene, or has a wrong field; one line that names file and field.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise RenderError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _bad(path, f"is no JSON ({error})") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise _bad(path, f"is not a scene: its schema is not {SCHEMA}")
    if data.get("version") != VERSION:
        raise _bad(path, f"has version {data.get('version')!r} of the schema, not {VERSION}")
    try:
        return _scene(data)
    except _FieldError as error:
        raise _bad(path, str(error)) from error


def _bad(path: Path, reason: str) -> RenderError:
    return RenderError(f"{path}: {reason}", hint="delete the file: it is sampled again from its seed")


class _FieldError(Exception):
    pass


def _scene(data: dict[str, Any]) -> Scene:
    camera, sky = _get(data, "camera", dict), _get(data, "sky", dict)
    objects, lights, size = _get(data, "objects", list), _get(data, "lights", list), _get(data, "size", list)
    spares = _get(data, "spares", dict)
    if set(spares) != {"meshes", "textures", "skies"}:
        raise _FieldError("spares has not the keys meshes, textures, skies")
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise _FieldError("size is not [width, height]")
    if not 1 <= len(objects) <= 254:
        raise _FieldError(f"objects: {len(objects)} of them, not 1..254")
    return Scene(
        id=_get(data, "id", str),
        seed=_get(data, "seed", int),
        index=_get(data, "index", int),
        frames=_positive(data, "frames"),
        size=(size[0], size[1]),
        camera=Camera(
            _number(camera, "fov", "camera."),
            _path(camera, "location", "camera."),
            _path(camera, "look_at", "camera."),
        ),
        objects=tuple(_read_object(item, i + 1) for i, item in enumerate(objects)),
        lights=tuple(_read_light(item, f"lights[{i}].") for i, item in enumerate(lights)),
        sky=Sky(
            _get(sky, "image", str, "sky."),
            _number(sky, "strength", "sky."),
            _point(sky, "location", "sky."),
            _point(sky, "rotation", "sky."),
            _number(sky, "size", "sky."),
        ),
        spares={kind: [str(name) for name in _get(spares, kind, list, "spares.")] for kind in spares},
    )


def _read_object(data: Any, number: int) -> SceneObject:
    where = f"objects[{number - 1}]."
    if _get(data, "id", int, where) != number:
        raise _FieldError(f"{where}id is not {number}")
    separation = data.get("separation")
    return SceneObject(
        id=number,
        model=_get(data, "model", str, where),
        texture=_get(data, "texture", str, where),
        keep_own=_get(data, "keep_own", bool, where),
        location=_path(data, "location", where),
        rotation=_path(data, "rotation", where),
        scale=_path(data, "scale", where),
        tries=_get(data, "tries", int, where),
        separation=None if separation is None else _number(data, "separation", where),
    )


def _read_light(data: Any, where: str) -> Light:
    return Light(_get(data, "energy", int, where), _point(data, "color", where), _point(data, "location", where))


def _get(data: Any, key: str, kind: type, where: str = "") -> Any:
    if not isinstance(data, dict) or key not in data:
        raise _FieldError(f"{where}{key} is missing")
    value = data[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _FieldError(f"{where}{key} is not {kind.__name__}")
    return value


def _positive(data: Any, key: str) -> int:
    value: int = _get(data, key, int)
    if value < 1:
        raise _FieldError(f"{key} is {value}, not positive")
    return value


def _number(data: Any, key: str, where: str) -> float:
    value = data.get(key) if isinstance(data, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _FieldError(f"{where}{key} is no finite number")
    return float(value)


def _array(data: Any, key: str, where: str) -> np.ndarray:
    try:
        array = np.array(_get(data, key, list, where), dtype=np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if not np.isfinite(array).all():
        raise _FieldError(f"{where}{key} holds something else than finite numbers")
    return array


def _point(data: Any, key: str, where: str) -> Triple:
    array = _array(data, key, where)
    if array.shape != (3,):
        raise _FieldError(f"{where}{key} is not [x, y, z]")
    return triple(array)


def _path(data: Any, key: str, where: str) -> Path3:
    array = _array(data, key, where)
    if array.ndim != 2 or array.shape[1] != 3 or len(array) < 1:
        raise _FieldError(f"{where}{key} is not a list of coefficients [x, y, z]")
    return listed(array)
