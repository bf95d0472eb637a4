"""Which format a file of annotations has, and reading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stores.errors import MaskError
from stores.exchange.annotations import Annotations, Timeline
from stores.exchange.coco import read_coco, read_youtube_vis
from stores.exchange.cvat import read_cvat
from stores.exchange.documents import load_document, looks_like_document, parse_json
from stores.exchange.label_studio import is_task, read_label_studio
from stores.exchange.ome_zarr import is_ome_zarr, read_ome_zarr

HINT = "known are COCO, YouTube-VIS, CVAT XML, Label Studio JSON and OME-Zarr labels"


def is_annotations(path: Path) -> bool:
    """Whether this is a file of annotations rather than mask images; its content tells, not its name."""
    return is_ome_zarr(path) or (path.is_file() and looks_like_document(path))


def read_annotations(path: Path, video: Timeline) -> Annotations:
    """Read a file of annotations; how its masks look is seen by `Annotations.labels`.

    Args:
        path: COCO or YouTube-VIS JSON, CVAT XML, Label Studio JSON, any of these alone in a zip archive, or an
            OME-Zarr folder.

    Raises:
        MaskError: it is none of these, damaged, or not of this video; one line that names file, item and field.
    """
    found = _read(path, video)
    if not any(found.frames.values()):
        raise MaskError(f"{found.path}: shows no object on any frame", hint="annotate an object on one frame")
    return found


def _read(path: Path, video: Timeline) -> Annotations:
    if path.is_dir():
        return read_ome_zarr(path, video)
    inner, data = load_document(path)
    if data.lstrip()[:1] == b"<":
        return read_cvat(inner, data, video)
    content = parse_json(inner, data)
    del data
    return _read_json(inner, content, video)


def _read_json(path: Path, content: Any, video: Timeline) -> Annotations:
    if is_task(content):
        content = [content]
    if isinstance(content, list):
        if any(is_task(entry) for entry in content):
            return read_label_studio(path, content, video)
        raise MaskError(f"{path}: is a list, but not of Label Studio's tasks", hint=HINT)
    if isinstance(content, dict) and "annotations" in content and "images" in content:
        return read_coco(path, content, video)
    if isinstance(content, dict) and "annotations" in content and "videos" in content:
        return read_youtube_vis(path, content, video)
    if isinstance(content, dict) and "scribbles" in content:
        raise MaskError(f"{path}: holds scribbles, no masks", hint="use --scribbles instead of --masks")
    raise MaskError(f"{path}: is JSON of an unknown kind", hint=HINT)
