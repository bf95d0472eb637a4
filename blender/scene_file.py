"""Scenes as JSON files: versioned, checked field by field when they are read."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from blender.scene import Camera, Light, Path3, Scene, SceneObject, Sky, Triple, listed, triple
from stores.errors import RenderError
from stores.files import atomic_file, make_folder
from stores.json_files import read_json
from stores.strokes import show

SCHEMA = "mivos-bl30k-scene"
VERSION = 1
AGAIN = "delete the file: it is sampled again from its seed"
MAX_SCENE_BYTES = 16 * 2**20
MAX_FRAMES = 100_000
MAX_SIDE = 16_384  # pixels
MAX_TERMS = 1_000  # coefficients of a path
MAX_LIGHTS = 1_000


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
    data = read_json(path, RenderError, limit=MAX_SCENE_BYTES, hint=AGAIN)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise _bad(path, f"is not a scene: its schema is not {SCHEMA}")
    if data.get("version") != VERSION:
        raise _bad(path, f"has version {show(data.get('version'))} of the schema, not {VERSION}")
    try:
        return _scene(data)
    except _FieldError as error:
        raise _bad(path, str(error)) from error


def _bad(path: Path, reason: str) -> RenderError:
    return RenderError(f"{path}: {reason}", hint=AGAIN)


class _FieldError(Exception):
    pass


def _scene(data: dict[str, Any]) -> Scene:
    camera, sky = _get(data, "camera", dict), _get(data, "sky", dict)
    objects, lights, size = _get(data, "objects", list), _get(data, "lights", list), _get(data, "size", list)
    spares = _get(data, "spares", dict)
    if set(spares) != {"meshes", "textures", "skies"}:
        raise _FieldError("spares has not the keys meshes, textures, skies")
    if len(size) != 2 or not all(type(side) is int and 0 < side <= MAX_SIDE for side in size):
        raise _FieldError(f"size is not [width, height] of at most {MAX_SIDE} pixels each")
    if not 1 <= len(objects) <= 254:
        raise _FieldError(f"objects: {len(objects)} of them, not 1..254")
    if len(lights) > MAX_LIGHTS:
        raise _FieldError(f"lights: {len(lights)} of them, {MAX_LIGHTS} are the most")
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
    if not 1 <= value <= MAX_FRAMES:
        raise _FieldError(f"{key} is {show(value)}, not in 1..{MAX_FRAMES}")
    return value


def _number(data: Any, key: str, where: str) -> float:
    value: Any = data.get(key) if isinstance(data, dict) else None
    try:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise _FieldError(f"{where}{key} is no finite number")


def _array(data: Any, key: str, where: str) -> np.ndarray:
    value = _get(data, key, list, where)
    rows = value if value and isinstance(value[0], list) else [value]
    if len(rows) > MAX_TERMS:
        raise _FieldError(f"{where}{key} holds {len(rows)} entries, {MAX_TERMS} are the most")
    array = np.array(np.nan)
    # numpy would also take true, and "1" for 1
    if all(isinstance(row, list) and all(type(number) in (int, float) for number in row) for row in rows):
        with suppress(ValueError, OverflowError):  # rows of different lengths, a number of hundreds of digits
            array = np.array(value, dtype=np.float64)
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
