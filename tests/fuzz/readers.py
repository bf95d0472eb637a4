"""What is fuzzed: every reader of files that others make, and what must hold of a value that it returns."""

from __future__ import annotations

import asyncio
import math
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stores.errors import (
    DatasetError,
    InputError,
    MaskError,
    MivosError,
    ModelError,
    RenderError,
    ScribbleError,
    UsageError,
    VideoError,
)
from tests.fuzz.promises import Reader, may_refuse

SOME_FRAMES = 40


def scribbles(path: Path) -> None:
    from stores.scribbles import rasterise, read_scribbles, write_scribbles

    found = read_scribbles(path)
    assert found.interactions and isinstance(found.sequence, str)
    for item in found.interactions:
        assert 0 <= item.frame < found.num_frames and item.strokes
        for stroke in item.strokes:
            assert stroke.path.dtype == np.float64 and stroke.path.ndim == 2 and stroke.path.shape[1] == 2
            assert len(stroke.path) and ((stroke.path >= 0) & (stroke.path <= 1)).all()
            assert 0 <= stroke.object_id <= 255
        drawn = rasterise(item.strokes, 48, 64)
        assert drawn.shape == (48, 64) and drawn.max() >= 0
    again = path.with_suffix(".again")
    write_scribbles(again, found)
    assert read_scribbles(again).interactions == found.interactions


def masks(path: Path) -> None:
    from stores.masks import read_annotation, read_mask

    refusals = []
    for read in (
        read_mask,
        lambda p: read_mask(p, snap=True),
        read_annotation,
        lambda p: read_annotation(p, binary=True),
    ):
        try:
            image = read(path)
        except MaskError as error:
            refusals.append(MaskError(str(error), hint=error.hint))  # the first one's traceback holds whole pictures
            continue
        assert image.labels.dtype == np.uint8 and image.labels.ndim == 2 and image.labels.size
        assert image.labels.max() < 255 and all(1 <= i <= 254 for i in image.ids)
        assert image.palette is None or (image.palette.shape == (256, 3) and image.palette.dtype == np.uint8)
        if image.labels.size > 2**22:
            return  # four times would be over the time of one case
    if len(refusals) == 4:
        raise refusals[0]


def pictures(path: Path) -> None:
    """A folder of images."""
    from stores.labels import read_labels
    from stores.video import folder_names, probe

    names = folder_names(path)
    info = probe(path)
    assert info.kind == "folder" and info.header_frames == len(names) == len(info.files)
    _frames(path, info.height, info.width)
    with may_refuse(DatasetError, path):
        labels = read_labels(path / info.files[0])
        assert labels.dtype == np.uint8 and labels.ndim == 2


def videos(path: Path) -> None:
    from stores.video import SourceInfo, probe

    info = probe(path)
    assert info.height > 0 and info.width > 0 and info.rotation in (0, 90, 180, 270)
    assert info.time_base[0] > 0 and info.time_base[1] > 0 and info.average_rate[1] > 0
    assert len(info.sha256) == 64 and SourceInfo.from_json(info.to_json()) == info
    _frames(path, info.height, info.width)


def _frames(path: Path, height: int, width: int) -> None:
    from stores.video import read_frames, working_size

    frames = []
    for frame in islice(read_frames(path, size=32), SOME_FRAMES):
        assert frame.image.dtype == np.uint8 and frame.image.shape == (*working_size(height, width, 32), 3)
        frames.append(frame.pts)
    assert frames and all(a < b for a, b in pairwise(frames)) and all(abs(pts) < 2**63 for pts in frames)


def checkpoints(path: Path) -> None:
    import torch

    from pipelines.networks.recognise import recognise
    from stores.checkpoints import MAX_NUMBERS, read_checkpoint

    state = read_checkpoint(path)
    assert state and all(isinstance(key, str) for key in state)
    for value in state.values():
        assert isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.layout == torch.strided
        assert not value.is_floating_point() or value.dtype == torch.float32
        value.double().sum()  # all of it can be touched
    assert sum(value.numel() for value in state.values()) <= MAX_NUMBERS
    with may_refuse(ModelError, path):
        recognise(state, path)


def scenes(path: Path) -> None:
    from blender.scene_file import MAX_SIDE, read_scene, write_scene
    from blender.trajectories import evaluate

    scene = read_scene(path)
    assert scene.frames > 0 and all(0 < side <= MAX_SIDE for side in scene.size)
    assert [item.id for item in scene.objects] == list(range(1, len(scene.objects) + 1))
    for item in scene.objects:
        for curve in (item.location, item.rotation, item.scale):
            assert evaluate(np.array(curve), np.linspace(0, 1, 3)).shape == (3, 3)
    again = path.parent / "again" / "scene.json"
    write_scene(again, scene)
    assert read_scene(again) == scene


def youtube(path: Path) -> None:
    """A data set folder with a meta.json."""
    from stores.youtube import YouTubeDataset

    data = YouTubeDataset(path, "valid")
    for video in data.videos():
        _plain(video)
        for item in data.objects(video):
            assert 1 <= item.object_id <= 254
        for stem in data.required_stems(video):
            _plain(stem)
    data.frames(data.videos()[0])


def davis(path: Path) -> None:
    """A data set folder with lists."""
    from stores.davis import DavisDataset

    data = DavisDataset(path)
    for name in data.sequences():
        _plain(name)
    data.object_ids(data.sequences()[0])


def _plain(name: str) -> None:
    assert Path("a", name).parent == Path("a") and name not in (".", "..") and "\0" not in name


def records(path: Path) -> None:
    from pipelines.evaluation.records import read_record, write_record

    run = read_record(path)
    numbers = [value for row in run.scores.values() for value in row.values()] + list(run.means.values())
    assert all(value is None or math.isfinite(value) for value in numbers)
    write_record(path.with_suffix(".again"), run)
    assert read_record(path.with_suffix(".again")) == run


def manifests(path: Path) -> None:
    from stores.manifest import COLUMNS, read_manifest

    items = read_manifest(path)
    assert items and len({item.name for item in items}) == len(items)
    for item in items:
        _plain(item.name)
        assert item.video.is_absolute() and (item.scribbles is None) != (item.masks is None)
        assert set(item.options) <= set(COLUMNS)


def annotations(path: Path) -> None:
    """Masks of other tools: COCO, YouTube-VIS, CVAT, Label Studio, archives of them."""
    from stores.exchange import Timeline, is_annotations, read_annotations

    timeline = Timeline(5, None, "clip", ((12, 16),))
    is_annotations(path)
    found = read_annotations(path, timeline)
    assert found.size == (12, 16) and all(0 <= frame < 5 for frame in found.frames)
    assert all(1 <= number <= 254 for number in found.ids.values())
    for frame in found.frames:
        labels = found.labels(frame)
        assert (
            labels.shape == (12, 16) and labels.dtype == np.uint8 and set(np.unique(labels)) <= {0, *found.ids.values()}
        )


def zarrs(path: Path) -> None:
    """A folder that should be OME-Zarr labels."""
    annotations(path)


def actions(path: Path) -> None:
    """What the page sends: the body of a request, through the checks of the server and of the session."""
    from fastapi import Request

    from mivos_cli.gui import bodies
    from mivos_cli.gui.errors import explain
    from pipelines.editing.actions import Action

    raw = path.read_bytes()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    for body in (bodies.ObjectBody, bodies.PasteBody, bodies.PropagateBody, bodies.ExportBody):
        try:
            body.model_validate_json(raw)
        except ValueError as error:  # FastAPI answers these with 422
            assert type(error).__name__ == "ValidationError"
    try:
        data = asyncio.run(bodies.read_action(Request({"type": "http", "method": "POST", "headers": []}, receive)))
        action = Action.from_json(data, num_frames=100)
    except MivosError as error:
        assert len(explain(error)["error"].splitlines()) <= 1
        raise
    assert 0 <= action.frame < 100 and 0 <= action.object_id <= 255 and 0 <= action.radius <= 1
    assert action.path is None or (action.path.ndim == 2 and ((action.path >= 0) & (action.path <= 1)).all())
    back = Action.from_json(action.to_json(), num_frames=100)
    assert (back.id, back.frame, back.object_id) == (action.id, action.frame, action.object_id)


def _torch() -> object:
    import torch

    from pipelines.networks.recognise import NETWORKS, expected_shapes

    return torch, [expected_shapes(name) for name in NETWORKS]


def _media() -> object:
    import stores.labels
    import stores.video

    return stores


def _server() -> object:
    import mivos_cli.gui.bodies
    import pipelines.editing.actions

    return mivos_cli, pipelines


def _records() -> object:
    import pipelines.evaluation.records

    return pipelines


def _exchange() -> object:
    import pycocotools.mask
    import zarr

    import stores.exchange

    return pycocotools, zarr, stores


READERS: dict[str, Reader] = {
    "scribbles": Reader(scribbles, (ScribbleError,)),
    "masks": Reader(masks, (MaskError,), start=_media),
    "pictures": Reader(pictures, (VideoError, DatasetError), start=_media),
    "videos": Reader(videos, (VideoError,), start=_media),
    "checkpoints": Reader(checkpoints, (ModelError,), start=_torch),
    "scenes": Reader(scenes, (RenderError,)),
    "youtube": Reader(youtube, (DatasetError,)),
    "davis": Reader(davis, (InputError,)),
    "records": Reader(records, (InputError,), start=_records),
    "actions": Reader(actions, (MivosError,), named=False, start=_server),
    "manifests": Reader(manifests, (UsageError,)),
    "annotations": Reader(annotations, (MaskError,), start=_exchange),
    "zarrs": Reader(zarrs, (MaskError,), start=_exchange),
}
