"""What `encode` can write: one sink per format; images and videos are here, tools' formats in `exports`.

Labels are at the source's own resolution.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from pipelines.stages.exports.base import Item, Job, Sink
from pipelines.stages.exports.coco import CocoJson, YoutubeVisJson
from pipelines.stages.exports.cvat import CvatXml
from pipelines.stages.exports.label_studio import LabelStudio
from pipelines.stages.exports.ome_zarr import OmeZarr
from stores.files import make_folder
from stores.masks import davis_palette, write_mask
from stores.video_writer import VideoWriter, storage_errors

__all__ = ["FORMATS", "Item", "Job", "Sink", "cut_out", "decide", "draw_overlay"]

FILL = 0.5  # opacity of the colour over an object in the overlay
ALPHA_MARGIN = 8  # pixels around the objects that keep their colour under alpha 0, against dark fringes


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
    "youtube-vis": YoutubeVisJson,
    "cvat": CvatXml,
    "label-studio": LabelStudio,
    "ome-zarr": OmeZarr,
}
