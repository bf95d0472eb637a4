"""OME-Zarr label images, 0.4 (zarr v2) and 0.5 (zarr v3), to annotations.

The folder may be an image with a `labels` group, that group, or one label image in it. Its array is t, y, x, or has
more axes of length 1; the value of a pixel is the object. Frames of zeros count as annotated only where the attribute
`mivos.frames` lists them: zarr cannot tell "nothing here" from "never looked at".

Only well-known codecs are let through: a pickle codec would run code from the file.
Source: OME-NGFF 0.4 and 0.5, sections "multiscales" and "labels".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from stores.errors import MaskError
from stores.exchange.annotations import Annotations, Place, Region, Timeline
from stores.exchange.documents import parse_json
from stores.files import read_limited
from stores.strokes import show

METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
MAX_METADATA = 16 * 2**20
MAX_CHUNK = 2**28  # bytes; one chunk is in memory as a whole
CODECS = frozenset({"bytes", "zstd", "blosc", "gzip", "zlib", "lz4", "bz2", "crc32c", "transpose", "sharding_indexed"})


def is_ome_zarr(path: Path) -> bool:
    """Whether a folder is a zarr group."""
    return path.is_dir() and any((path / name).is_file() for name in METADATA)


def read_ome_zarr(path: Path, video: Timeline) -> Annotations:
    """Annotations of a label image; of the only one, or the one named `objects`, if there are several.

    Raises:
        MaskError: it is no label image, or not of this video.
    """
    folder, metadata = _label_image(path)
    place = Place(folder)
    scales = metadata.get("multiscales")
    try:
        level = str(scales[0]["datasets"][0]["path"])  # type: ignore[index]
        axes = [str(axis["name"]) for axis in scales[0]["axes"]]  # type: ignore[index]
    except (TypeError, KeyError, IndexError) as error:
        raise place.at("multiscales").error("names no array and its axes", "OME-Zarr 0.4 or 0.5 is known") from error
    array = _open(folder, level, place)
    if len(axes) != array.ndim or not {"t", "y", "x"} <= set(axes) or array.dtype.kind not in "iu":
        raise place.error(f"must be integers with axes t, y, x, not {array.dtype} with {', '.join(axes)}")
    sides = dict(zip(axes, array.shape, strict=True))
    if any(length != 1 for axis, length in sides.items() if axis not in ("t", "y", "x")):
        raise place.error(f"has axes besides t, y, x: {show(sides)}")
    if sides["t"] != video.count:
        raise place.error(f"has {sides['t']} frames, but the video has {video.count}")
    found = Annotations(folder, "OME-Zarr", video.check(sides["y"], sides["x"], place))
    return _collect(found, array, axes, metadata, place)


def _collect(found: Annotations, array: Any, axes: list[str], metadata: dict[str, Any], place: Place) -> Annotations:
    order = [axes.index(axis) for axis in ("y", "x")]

    @lru_cache(maxsize=1)
    def plane(frame: int) -> np.ndarray:
        index = tuple(frame if axis == "t" else slice(None) if axis in ("y", "x") else 0 for axis in axes)
        try:
            values = np.asarray(array[index])
        except Exception as error:  # codecs raise what they like
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise place.error(f"frame {frame} cannot be read: {reason}") from error
        return values.T if order[0] > order[1] else values

    def paint(frame: int, value: int, height: int, width: int) -> np.ndarray:
        return plane(frame) == value

    things: set[int] = set()
    count = array.shape[axes.index("t")]
    listed = _listed(metadata, count)
    for frame in range(count):
        values = [int(value) for value in np.unique(plane(frame)) if value]
        if frame in listed:
            found.frames.setdefault(frame, [])
        for value in values:
            found.add(frame, Region(value, partial(paint, frame, value), place.at(f"frame {frame}")))
        things.update(values)
    names = _names(metadata)
    found.number((value, value, names.get(value, "")) for value in sorted(things))
    return found


def _label_image(path: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of a label image and its OME metadata."""
    metadata = _attributes(path)
    if isinstance(metadata.get("labels"), list):
        labels, group = metadata["labels"], path
    elif "image-label" in metadata or not (path / "labels").is_dir():
        if "multiscales" not in metadata:
            raise MaskError(f"{path}: is zarr, but no OME-Zarr image", hint="give the folder that has `multiscales`")
        return path, metadata
    else:
        group = path / "labels"
        labels = _attributes(group).get("labels")
    names = [name for name in labels if isinstance(name, str)] if isinstance(labels, list) else []
    name = "objects" if "objects" in names else names[0] if len(names) == 1 else None
    if name is None or not _inside(name):
        listed = ", ".join(names[:5]) or "none"
        raise MaskError(
            f"{group}: which label image is meant? It lists {listed}", hint="give the folder of one of them"
        )
    return group / name, _attributes(group / name)


def _attributes(folder: Path) -> dict[str, Any]:
    """The OME metadata of a group, and `mivos` of ours."""
    for name in ("zarr.json", ".zattrs"):
        if (folder / name).is_file():
            data = _json(folder / name)
            attributes = data.get("attributes", {}) if name == "zarr.json" else data
            if not isinstance(attributes, dict):
                break
            ome = attributes.get("ome", attributes)
            return {**ome, "mivos": attributes.get("mivos")} if isinstance(ome, dict) else {}
    return {}


def _open(folder: Path, level: str, place: Place) -> Any:
    if not _inside(level):
        raise place.error(f"names an array {show(level)} outside of itself")
    path = folder / level
    for name in ("zarr.json", ".zarray"):
        if (path / name).is_file():
            metadata = _json(path / name)
            break
    else:
        raise place.error(f"there is no array {show(level)}")
    if foreign := {str(codec) for codec in _codecs(metadata)} - CODECS:
        raise Place(path).error(f"is stored with {show(min(foreign))}, which is not known to be safe")
    import zarr  # slow to import, and only this format needs it

    try:
        array = zarr.open_array(path, mode="r")
        chunk = math.prod(array.shards or array.chunks)
    except Exception as error:  # zarr raises what it likes for damaged metadata
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Place(path).error(f"is no zarr array: {reason}") from error
    if chunk * array.dtype.itemsize > MAX_CHUNK:
        raise Place(path).error(f"has chunks of {chunk} pixels, more than {MAX_CHUNK} bytes")
    return array


def _codecs(metadata: dict[str, Any]) -> Iterator[Any]:
    """Names of all codecs of an array, of those inside shards, too."""
    entries = [*_list(metadata.get("codecs")), *_list(metadata.get("filters")), metadata.get("compressor")]
    for entry in entries:
        if entry is None:
            continue
        if not isinstance(entry, dict):
            yield entry
            continue
        yield entry.get("name", entry.get("id"))
        inner = entry.get("configuration")
        if isinstance(inner, dict):
            for key in ("codecs", "index_codecs"):
                yield from _codecs({"codecs": inner.get(key)})


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _inside(name: str) -> bool:
    parts = name.split("/")
    return bool(name) and not name.startswith("/") and ".." not in parts and "\\" not in name and "\0" not in name


def _json(path: Path) -> dict[str, Any]:
    data = parse_json(path, read_limited(path, MAX_METADATA, MaskError))
    if not isinstance(data, dict):
        raise MaskError(f"{path}: must be an object, not {show(data)}")
    return data


def _listed(metadata: dict[str, Any], count: int) -> set[int]:
    """Frames that were computed, from [[first, last], ...]."""
    ours = metadata.get("mivos")
    spans = ours.get("frames") if isinstance(ours, dict) else None
    frames: set[int] = set()
    for span in _list(spans):
        if isinstance(span, list) and len(span) == 2 and all(type(end) is int for end in span):
            frames.update(range(max(span[0], 0), min(span[1], count - 1) + 1))
    return frames


def _names(metadata: dict[str, Any]) -> dict[int, str]:
    label = metadata.get("image-label")
    entries = _list(label.get("properties")) if isinstance(label, dict) else []
    named = (e for e in entries if isinstance(e, dict) and type(e.get("label-value")) is int and "name" in e)
    return {entry["label-value"]: str(entry["name"]) for entry in named}
