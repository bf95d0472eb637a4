"""OME-Zarr 0.5: the frames as an image, the objects as its labels.

::

    ome.zarr/0, 1, 2                      uint8 [t, c, y, x], each level half the size of the one before
    ome.zarr/labels/objects/0, 1, 2       uint8 [t, y, x], pixel value = object id

Both have the same scales. Frames are averaged, labels take the pixel in the middle. One chunk is one frame. Frames
that were never computed have no chunk, which reads as 0; the attribute `mivos.frames` of the labels lists those that
were computed, as [first, last] pairs, and an empty mask has its chunk.
Source: OME-NGFF 0.5, sections "multiscales", "omero" and "labels".
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from pipelines.stages.exports.base import Item, Sink, spans
from stores.masks import davis_palette
from stores.video_writer import storage_errors

VERSION = "0.5"
LEVELS = 3
SMALLEST = 16  # pixels; no level has a shorter side below
LABELS = "objects"


class OmeZarr(Sink):
    """ome.zarr/: opens in napari (with napari-ome-zarr), Fiji and other viewers of OME-Zarr."""

    target = "ome.zarr"
    wants_images = True

    def start(self) -> None:
        import zarr  # slow to import, and only this format needs it

        job, source = self.job, self.job.source
        sizes = level_sizes(source.height, source.width)
        count = len(job.computed)
        image_axes, label_axes = self._axes("t", "c", "y", "x"), self._axes("t", "y", "x")
        about = {"omero": _omero(), "multiscales": [self._multiscale(job.title, image_axes, sizes, "area average")]}
        root = zarr.create_group(self.path, zarr_format=3, attributes={"ome": {"version": VERSION, **about}})
        labels = root.create_group("labels", attributes={"ome": {"version": VERSION, "labels": [LABELS]}})
        about = {"multiscales": [self._multiscale(LABELS, label_axes, sizes, "pixel in the middle")]}
        about |= {"image-label": self._image_label()}
        attributes = {"ome": {"version": VERSION, **about}, "mivos": {"frames": spans(job.computed)}}
        group = labels.create_group(LABELS, attributes=attributes)
        self.images = [_create(root, level, (count, 3, *size), "tcyx") for level, size in enumerate(sizes)]
        self.labels = [_create(group, level, (count, *size), "tyx") for level, size in enumerate(sizes)]
        self.sizes = sizes

    def write(self, item: Item) -> None:
        assert item.image is not None
        with storage_errors(self.path):
            for level, (height, width) in enumerate(self.sizes):
                image = item.image
                if level:
                    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
                self.images[level][item.index] = image.transpose(2, 0, 1)
                if item.labels is not None:
                    self.labels[level][item.index] = middle_pixels(item.labels, height, width)

    def _axes(self, *names: str) -> list[dict[str, str]]:
        known = {"t": {"type": "time"}, "c": {"type": "channel"}, "y": {"type": "space"}, "x": {"type": "space"}}
        if self.job.seconds_per_frame():
            known["t"]["unit"] = "second"
        return [{"name": name, **known[name]} for name in names]

    def _multiscale(
        self, name: str, axes: list[dict[str, str]], sizes: list[tuple[int, int]], method: str
    ) -> dict[str, Any]:
        step = self.job.seconds_per_frame() or 1.0
        datasets = []
        for level, (height, width) in enumerate(sizes):
            y, x = sizes[0][0] / height, sizes[0][1] / width
            scale = {"t": step, "c": 1.0, "y": y, "x": x}
            # the first pixel's middle lies so far from that of the full image's first pixel
            shift = {"t": 0.0, "c": 0.0, "y": (y - 1) / 2, "x": (x - 1) / 2}
            transformations = [
                {"type": "scale", "scale": [scale[axis["name"]] for axis in axes]},
                {"type": "translation", "translation": [shift[axis["name"]] for axis in axes]},
            ]
            datasets.append({"path": str(level), "coordinateTransformations": transformations})
        return {"name": name, "axes": axes, "datasets": datasets, "type": method, "metadata": {"method": method}}

    def _image_label(self) -> dict[str, Any]:
        palette = davis_palette()
        colours: list[dict[str, Any]] = [{"label-value": 0, "rgba": [0, 0, 0, 0]}]
        colours += [{"label-value": k, "rgba": [*palette[k].tolist(), 255]} for k in self.job.object_ids]
        # readers want the same values in both lists
        properties: list[dict[str, Any]] = [{"label-value": 0, "id": 0, "name": "background"}]
        properties += [{"label-value": k, "id": k, "name": self.job.name(k)} for k in self.job.object_ids]
        return {"version": VERSION, "colors": colours, "properties": properties, "source": {"image": "../../"}}


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """(height, width) of each level, the full size first."""
    sizes = [(height, width)]
    while len(sizes) < LEVELS and min(sizes[-1]) >= 2 * SMALLEST:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def middle_pixels(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Nearest neighbour: uint8 [H, W] -> [height, width], each pixel the one in the middle of its area."""
    rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(int)
    return labels[rows[:, None], columns[None]]


def _create(group: Any, level: int, shape: tuple[int, ...], names: str) -> Any:
    return group.create_array(
        str(level),
        shape=shape,
        chunks=(1, *shape[1:]),
        dtype=np.uint8,
        dimension_names=tuple(names),
        fill_value=0,
        config={"write_empty_chunks": True},
    )


def _omero() -> dict[str, Any]:
    window = {"start": 0, "end": 255, "min": 0, "max": 255}
    colours = {"red": "FF0000", "green": "00FF00", "blue": "0000FF"}
    channels = [{"label": k, "color": v, "active": True, "window": window} for k, v in colours.items()]
    return {"channels": channels, "rdefs": {"model": "color"}}
