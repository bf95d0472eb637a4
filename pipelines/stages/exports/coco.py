"""COCO and YouTube-VIS JSON.

Source: cocodataset.org (data format); the label format of the YouTube-VIS challenge.
"""

from __future__ import annotations

import json
import tempfile
from typing import IO, Any

import numpy as np

from pipelines.stages.exports.base import Item, JsonList, Sink, spans
from stores.video_writer import storage_errors


class CocoJson(Sink):
    """coco.json: one RLE annotation per visible object and computed frame; `pycocotools.coco.COCO` loads it.

    Category id = object id. `images` holds the computed frames only: an image without annotations is one
    where no object is visible. Written as it comes; nothing accumulates.
    """

    target = "coco.json"

    def start(self) -> None:
        self.file: IO[str] = self.stack.enter_context(self.path.open("w", encoding="utf-8"))
        source, job = self.job.source, self.job
        size = {"width": source.width, "height": source.height}
        head = {
            **_info(self),
            "videos": [{"id": 1, "name": job.title, **size, "length": len(job.computed)}],
            "categories": _categories(self),
        }
        self.file.write(json.dumps(head)[:-1] + ',\n"images": ')
        frames = np.flatnonzero(job.computed).tolist()
        images = ({"id": i + 1, "file_name": job.file_name(i), **size, "video_id": 1, "frame_index": i} for i in frames)
        JsonList(self.file).extend(images).close()
        self.file.write(',\n"annotations": ')
        self.annotations = JsonList(self.file)

    def write(self, item: Item) -> None:
        if item.labels is None:
            return
        for number in (int(n) for n in np.unique(item.labels) if n):
            segmentation, area, box = encoded(item.labels == number)
            annotation = {
                "id": self.annotations.count + 1,
                "image_id": item.index + 1,
                "video_id": 1,
                "category_id": number,
                "instance_id": number,
                "iscrowd": 0,
                "area": area,
                "bbox": box,
                "segmentation": segmentation,
            }
            with storage_errors(self.path):
                self.annotations.add(annotation)

    def finish(self) -> None:
        self.annotations.close()
        self.file.write("}\n")


class YoutubeVisJson(Sink):
    """youtube-vis.json: one annotation per object, with a segmentation, box and area for every frame.

    Annotation id = category id = object id. null: the frame was never computed; where a frame was computed and the
    object is not in it, the segmentation is empty and its area 0. `videos[0].computed_frames` says it, too, as
    [first, last] pairs. Annotations of all objects grow at once, so they wait in files of their own.
    """

    target = "youtube-vis.json"

    def start(self) -> None:
        self.file: IO[str] = self.stack.enter_context(self.path.open("w", encoding="utf-8"))
        self.parts = {
            number: self.stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", dir=self.path.parent))
            for number in self.job.object_ids
        }
        self.segmentations = {number: JsonList(file) for number, file in self.parts.items()}
        self.areas: dict[int, list[float | None]] = {number: [] for number in self.parts}
        self.boxes: dict[int, list[list[float] | None]] = {number: [] for number in self.parts}

    def write(self, item: Item) -> None:
        for number in self.parts:
            segmentation, area, box = (None, None, None) if item.labels is None else encoded(item.labels == number)
            self.areas[number].append(area)
            self.boxes[number].append(box)
            with storage_errors(self.path):
                self.segmentations[number].add(segmentation)

    def finish(self) -> None:
        source, job = self.job.source, self.job
        names = [f"{job.title}/{job.file_name(i)}" for i in range(len(job.computed))]
        video = {
            "id": 1,
            "name": job.title,
            "width": source.width,
            "height": source.height,
            "length": len(names),
            "file_names": names,
            "computed_frames": spans(job.computed),
        }
        head = {**_info(self), "licenses": [], "videos": [video], "categories": _categories(self)}
        self.file.write(json.dumps(head)[:-1] + ',\n"annotations": [')
        for count, (number, part) in enumerate(self.parts.items()):
            entry = {
                "id": number,
                "video_id": 1,
                "category_id": number,
                "iscrowd": 0,
                "width": source.width,
                "height": source.height,
                "areas": self.areas[number],
                "bboxes": self.boxes[number],
            }
            self.file.write((",\n" if count else "\n") + json.dumps(entry)[:-1] + ', "segmentations": ')
            self.segmentations[number].close()
            part.seek(0)
            while text := part.read(2**20):
                self.file.write(text)
            self.file.write("}")
        self.file.write("\n]}\n")


def encoded(mask: np.ndarray) -> tuple[dict[str, Any], float, list[float]]:
    """bool [H, W] -> compressed RLE, area in pixels, box [x, y, width, height]."""
    from pycocotools import mask as rle  # not at the top: only these formats need it

    runs = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    segmentation = {"size": list(mask.shape), "counts": runs["counts"].decode("ascii")}
    return segmentation, float(rle.area(runs)), [float(v) for v in rle.toBbox(runs)]


def _info(sink: Sink) -> dict[str, Any]:
    return {"info": {"description": f"{sink.job.title}, segmented with mivos", "version": "1.0"}}


def _categories(sink: Sink) -> list[dict[str, Any]]:
    return [{"id": k, "name": sink.job.name(k), "supercategory": "object"} for k in sink.job.object_ids]
