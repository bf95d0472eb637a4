"""What `encode` can write: one sink per format, fed one frame at a time.

Labels are at the source's own resolution. A sink is a context manager that makes exactly one file or folder.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import cv2
import numpy as np

from stores.files import make_folder
from stores.masks import davis_palette, write_mask
from stores.video import SourceInfo
from stores.video_writer import VideoWriter, storage_errors

FILL = 0.5  # opacity of the colour over an object in the overlay
ALPHA_MARGIN = 8  # pixels around the objects that keep their colour under alpha 0, against dark fringes


@dataclass(frozen=True)
class Item:
    """One frame on its way out.

    Attributes:
        index: position in the video, from 0.
        name: stem of its files.
        pts: time in the source's time base.
        labels: uint8 [H, W] object ids; None = this frame was never computed.
        image: uint8 [H, W, 3] RGB; None if no sink of the run asked for pictures.
    """

    index: int
    name: str
    pts: int
    labels: np.ndarray | None
    image: np.ndarray | None


@dataclass(frozen=True)
class Job:
    """What all sinks of a run share.

    Attributes:
        source: the video.
        object_ids: the ids people gave, which labels show.
        computed: bool [T], frames that have a mask.
        audio_from: file to take the sound from, None = silent.
    """

    source: SourceInfo
    object_ids: tuple[int, ...]
    computed: np.ndarray
    audio_from: Path | None


class Sink(AbstractContextManager["Sink"], ABC):
    """One output of a run."""

    target: ClassVar[str]  # its path inside the output folder
    wants_images: ClassVar[bool] = False

    def __init__(self, path: Path, job: Job) -> None:
        self.path, self.job = path, job
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        with storage_errors(self.path), ExitStack() as undo:
            undo.push(self.stack)
            self.start()
            undo.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        with storage_errors(self.path):  # closing a file writes what is left of it
            self.stack.__exit__(*error)

    @abstractmethod
    def start(self) -> None:
        """Open files; what must be closed goes on `self.stack`."""

    @abstractmethod
    def write(self, item: Item) -> None:
        """Take the next frame."""


class PalettePngs(Sink):
    """masks/<name>.png: DAVIS palette, pixel value = object id."""

    target = "masks"

    def start(self) -> None:
        make_folder(self.path)

    def write(self, item: Item) -> None:
        if item.labels is not None:
            write_mask(self.path / f"{item.name}.png", item.labels)


class BinaryPngs(Sink):
    """binary/<id>/<name>.png: 8-bit grey, 255 = this object."""

    target = "binary"

    def start(self) -> None:
        for number in self.job.object_ids:
            make_folder(self.path / str(number))

    def write(self, item: Item) -> None:
        if item.labels is None:
            return
        for number in self.job.object_ids:
            path = self.path / str(number) / f"{item.name}.png"
            mask = (item.labels == number).astype(np.uint8) * 255
            _, png = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 3])
            with storage_errors(path):
                path.write_bytes(png.tobytes())


class Overlay(Sink):
    """overlay.mp4: the source with every object tinted and outlined; its time stamps and sound."""

    target = "overlay.mp4"
    wants_images = True

    def start(self) -> None:
        self.writer = self.stack.enter_context(
            _video_writer(self.path, "h264", self.job, audio_from=self.job.audio_from)
        )

    def write(self, item: Item) -> None:
        assert item.image is not None
        image = item.image if item.labels is None else draw_overlay(item.image, item.labels)
        self.writer.write(image, item.pts)


class AlphaVideo(Sink):
    """The objects cut out: straight alpha, edges smoothed over one pixel, black away from the objects."""

    codec: ClassVar[str]
    wants_images = True

    def start(self) -> None:
        self.writer = self.stack.enter_context(_video_writer(self.path, self.codec, self.job, audio_from=None))

    def write(self, item: Item) -> None:
        assert item.image is not None
        self.writer.write(cut_out(item.image, item.labels), item.pts)


class WebmAlpha(AlphaVideo):
    """alpha.webm: VP9."""

    target, codec = "alpha.webm", "vp9-alpha"


class ProResAlpha(AlphaVideo):
    """alpha.mov: ProRes 4444."""

    target, codec = "alpha.mov", "prores4444"


class CocoJson(Sink):
    """coco.json: one RLE annotation per visible object and computed frame; `pycocotools.coco.COCO` loads it.

    Category id = object id. `images` holds the computed frames only: an image without annotations is one
    where no object is visible. Written as it comes; nothing accumulates.
    """

    target = "coco.json"

    def start(self) -> None:
        self.file: IO[str] = self.stack.enter_context(self.path.open("w", encoding="utf-8"))
        source, ids = self.job.source, self.job.object_ids
        head = {
            "info": {"description": f"{Path(source.path).name}, segmented with mivos", "version": "1.0"},
            "videos": [
                {
                    "id": 1,
                    "name": Path(source.path).stem,
                    "width": source.width,
                    "height": source.height,
                    "length": len(self.job.computed),
                }
            ],
            "categories": [{"id": k, "name": f"object {k}", "supercategory": "object"} for k in ids],
        }
        self.file.write(json.dumps(head)[:-1] + ',\n"images": [')
        self._write_all({"id": int(i) + 1, **self._image(int(i))} for i in np.flatnonzero(self.job.computed))
        self.file.write('],\n"annotations": [')
        self.count = 0

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None:
                with storage_errors(self.path):
                    self.file.write("\n]}\n")
        finally:
            super().__exit__(*error)

    def write(self, item: Item) -> None:
        if item.labels is None:
            return
        from pycocotools import mask as rle  # not at the top: only this format needs it

        for number in (int(n) for n in np.unique(item.labels) if n):
            runs = rle.encode(np.asfortranarray(item.labels == number, dtype=np.uint8))
            annotation = {
                "id": self.count + 1,
                "image_id": item.index + 1,
                "video_id": 1,
                "category_id": number,
                "instance_id": number,
                "iscrowd": 0,
                "area": float(rle.area(runs)),
                "bbox": [float(v) for v in rle.toBbox(runs)],  # x, y, width, height
                "segmentation": {"size": list(item.labels.shape), "counts": runs["counts"].decode("ascii")},
            }
            with storage_errors(self.path):
                self.file.write((",\n" if self.count else "\n") + json.dumps(annotation))
            self.count += 1

    def _image(self, index: int) -> dict[str, Any]:
        source = self.job.source
        name = source.files[index] if index < len(source.files) else f"{source.frame_name(index)}.png"
        return {
            "file_name": name,
            "width": source.width,
            "height": source.height,
            "video_id": 1,
            "frame_index": index,
        }

    def _write_all(self, entries: Iterator[dict[str, Any]]) -> None:
        for number, entry in enumerate(entries):
            self.file.write((",\n" if number else "\n") + json.dumps(entry))


def decide(probs: np.ndarray, height: int, width: int) -> np.ndarray:
    """Soft probabilities -> labels at another size: upsample each plane bilinearly, then take the largest.

    Args:
        probs: float32 [K+1, h, w], background first.

    Returns:
        uint8 [height, width]; a tie goes to the smaller id. Three planes are in memory at a time.
    """
    best = _upsample(probs[0], height, width)
    labels = np.zeros((height, width), dtype=np.uint8)
    for number in range(1, len(probs)):
        plane = _upsample(probs[number], height, width)
        labels[plane > best] = number
        best = np.maximum(plane, best)
    return labels


def _upsample(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    if plane.shape == (height, width):
        return plane
    # cv2's INTER_LINEAR has the pixel centres of torch's align_corners=False
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)


def draw_overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tint the objects and outline them. uint8 [H, W, 3] RGB and uint8 [H, W] -> uint8 [H, W, 3] RGB.

    Tint: the palette's colour over the picture. Outline: the same hue at full brightness, on the object's own
    outermost pixels, about 1/300 of the picture's shorter side wide.
    """
    thickness = max(1, round(min(labels.shape) / 300))
    box = _box(labels, thickness)
    if box is None:
        return image
    result, part = image.copy(), labels[box]
    palette = davis_palette()
    bright = (palette * (255 / np.maximum(palette.max(1, keepdims=True), 1))).astype(np.uint8)
    inside = (part > 0).astype(np.uint8)
    tinted = cv2.addWeighted(image[box], 1 - FILL, palette[part], FILL, 0)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * thickness + 1, 2 * thickness + 1))
    # dilated and eroded ids differ where another label is near, which also outlines objects that touch
    edge = (inside > 0) & (cv2.dilate(part, kernel) != cv2.erode(part, kernel))
    tinted[edge] = bright[part[edge]]
    cv2.copyTo(tinted, inside, result[box])
    return result


def cut_out(image: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """uint8 [H, W, 3] RGB and uint8 [H, W] labels -> uint8 [H, W, 4] straight RGBA."""
    result = np.zeros((*image.shape[:2], 4), dtype=np.uint8)
    box = None if labels is None else _box(labels, ALPHA_MARGIN)
    if labels is None or box is None:
        return result
    solid = (labels[box] > 0).astype(np.uint8) * 255
    kernel = np.ones((2 * ALPHA_MARGIN + 1, 2 * ALPHA_MARGIN + 1), dtype=np.uint8)
    result[box][..., :3] = cv2.copyTo(image[box], cv2.dilate(solid, kernel))
    result[box][..., 3] = cv2.GaussianBlur(solid, (3, 3), 0)
    return result


def _box(labels: np.ndarray, margin: int) -> tuple[slice, slice] | None:
    """(rows, columns) around all objects; None if there are none."""
    x, y, width, height = cv2.boundingRect((labels > 0).astype(np.uint8))
    if not width:
        return None
    return slice(max(0, y - margin), y + height + margin), slice(max(0, x - margin), x + width + margin)


def _video_writer(path: Path, codec: str, job: Job, *, audio_from: Path | None) -> VideoWriter:
    source = job.source
    return VideoWriter(
        path, codec=codec, width=source.width, height=source.height, source=source, audio_from=audio_from
    )


FORMATS: dict[str, type[Sink]] = {
    "png": PalettePngs,
    "overlay": Overlay,
    "binary": BinaryPngs,
    "webm": WebmAlpha,
    "prores": ProResAlpha,
    "coco": CocoJson,
}
