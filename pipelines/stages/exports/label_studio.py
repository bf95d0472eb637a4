"""Label Studio: masks on the frames as images, and boxes on the video.

Label Studio has masks for images only; a video's regions are boxes (VideoRectangle). So every computed frame is a task
with brush masks, and a video also gets one task with a box track per object.

::

    label-studio/tasks.json    import this; the masks are pre-annotations (`predictions`)
    label-studio/labels.xml    labeling interface of the project
    label-studio/images/       the frames of a video; an image folder's own files are named instead
    label-studio/video.json    boxes of the objects on the video, in a project of their own
    label-studio/video.xml     its labeling interface

The images are found by Label Studio's local storage, `/data/local-files/?d=...`: LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT
is the folder that holds `label-studio` (or the image folder, or the video). Label Studio counts a video's frames by a
constant rate, so boxes of a video with a variable one are off.

Source: Label Studio's documentation: tags BrushLabels and VideoRectangle, "Import pre-annotated data".
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np

from pipelines.stages.exports.base import Item, JsonList, Sink
from stores.exchange.brush import pack_mask
from stores.files import make_folder
from stores.masks import davis_palette
from stores.video import SourceInfo
from stores.video_writer import storage_errors

MODEL = "mivos"
LOCAL = "/data/local-files/?d="


class LabelStudio(Sink):
    """label-studio/: see above."""

    target = "label-studio"

    @classmethod
    def needs_images(cls, source: SourceInfo) -> bool:
        return source.kind == "video"

    def start(self) -> None:
        make_folder(self.path)
        self.video = self.job.source.kind == "video"
        if self.video:
            make_folder(self.path / "images")
        self.file = self.stack.enter_context((self.path / "tasks.json").open("w", encoding="utf-8"))
        self.tasks = JsonList(self.file)
        self.boxes: dict[int, list[list[float] | None]] = {number: [] for number in self.job.object_ids}
        self._write("labels.xml", self._interface("BrushLabels", "Image", "image"))

    def write(self, item: Item) -> None:
        for number, boxes in self.boxes.items():
            boxes.append(None if item.labels is None else _box(item.labels == number))
        if item.labels is None:
            return
        name = self.job.file_name(item.index)
        with storage_errors(self.path):
            if self.video:
                assert item.image is not None
                _, png = cv2.imencode(".png", item.image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])
                (self.path / "images" / name).write_bytes(png.tobytes())
            folder = f"{self.target}/images" if self.video else Path(self.job.source.path).name
            objects = {str(number): self.job.name(number) for number in self.job.object_ids}
            data = {"image": _local(f"{folder}/{name}"), "frame": item.index, "objects": objects}
            results = [self._brush(item, int(number)) for number in np.unique(item.labels) if number]
            self.tasks.add({"data": data, "predictions": [{"model_version": MODEL, "result": results}]})

    def finish(self) -> None:
        self.tasks.close()
        self.file.write("\n")
        if self.video:
            self._write("video.xml", self._interface("Labels", "Video", "video"))
            data = {"video": _local(Path(self.job.source.path).name)}
            results = [track for number in self.boxes if (track := self._track(number))]
            task = {"data": data, "predictions": [{"model_version": MODEL, "result": results}]}
            self._write("video.json", json.dumps([task]) + "\n")

    def _brush(self, item: Item, number: int) -> dict[str, Any]:
        assert item.labels is not None
        height, width = item.labels.shape
        return {
            "id": f"{item.index}-{number}",
            "type": "brushlabels",
            "from_name": "labels",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": pack_mask(item.labels == number),
                "brushlabels": [self.job.name(number)],
            },
        }

    def _track(self, number: int) -> dict[str, Any] | None:
        """A box on every frame that the object is in; the last of each stretch has `enabled` false, which ends it."""
        boxes = self.boxes[number]
        step = self.job.seconds_per_frame() or 1 / 25
        sequence = []
        for index, box in enumerate(boxes):
            if box is not None:
                following = boxes[index + 1] if index + 1 < len(boxes) else None
                place = dict(zip(("x", "y", "width", "height"), box, strict=True))
                entry = {"frame": index + 1, "time": round((index + 1) * step, 6), **place, "rotation": 0}
                sequence.append({**entry, "enabled": following is not None})
        if not sequence:
            return None
        return {
            "id": f"object-{number}",
            "type": "videorectangle",
            "from_name": "box",
            "to_name": "video",
            "value": {
                "framesCount": len(boxes),
                "duration": round(len(boxes) * step, 6),
                "sequence": sequence,
                "labels": [self.job.name(number)],
            },
        }

    def _interface(self, control: str, media: str, name: str) -> str:
        tag = {"Image": "", "Video": '  <VideoRectangle name="box" toName="video"/>\n'}[media]
        labels = ""
        for number in self.job.object_ids:
            red, green, blue = davis_palette()[number].tolist()
            colour = f"#{red:02x}{green:02x}{blue:02x}"
            labels += f"    <Label value={quoteattr(self.job.name(number))} background={quoteattr(colour)}/>\n"
        head = f'<View>\n  <{media} name="{name}" value="${name}"/>\n{tag}  <{control} name="labels" toName="{name}">\n'
        return f"{head}{labels}  </{control}>\n</View>\n"

    def _write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text, encoding="utf-8")


def _local(path: str) -> str:
    """Where Label Studio's local storage finds a file."""
    return LOCAL + quote(os.fsencode(path))


def _box(mask: np.ndarray) -> list[float] | None:
    """x, y, width, height in percent of the picture; None for an empty mask."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    rows, columns = mask.shape
    return [100 * x / columns, 100 * y / rows, 100 * width / columns, 100 * height / rows] if width else None
