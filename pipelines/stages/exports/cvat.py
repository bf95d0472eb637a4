"""CVAT's XML 1.1.

CVAT knows two forms, `track` elements ("for video") and `image` elements ("for images"), and its importer takes both
for any task. It has no tracks of masks: of a track of masks it keeps the first and drops the others, and the group
with it. Tracks of polygons would lose holes and pixels. So this is the form with `image` elements: masks are exact,
`group_id` (the object's id) and label (its name) tell which belong together, a frame that was computed and is empty is
an `image` without masks, and one that was never computed is not there. Frames of a video are named frame_000012.png, as
CVAT does.

Source: CVAT's documentation, "XML annotation format"; what its own importer does with masks and names of frames.
"""

from __future__ import annotations

from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

import cv2
import numpy as np

from pipelines.stages.exports.base import Item, Sink, xml_text
from stores.exchange.runs import run_lengths
from stores.masks import davis_palette
from stores.video_writer import storage_errors


class CvatXml(Sink):
    """cvat.xml: upload it as annotations ("CVAT 1.1") of a task that was made from the same video or images."""

    target = "cvat.xml"

    def start(self) -> None:
        file = self.stack.enter_context(self.path.open("w", encoding="utf-8", newline="\n"))
        self.xml = XMLGenerator(file, "utf-8", short_empty_elements=True)
        self.xml.startDocument()
        self.xml.startElement("annotations", AttributesImpl({}))
        self._text("version", "1.1")
        self._meta()

    def write(self, item: Item) -> None:
        if item.labels is None:
            return
        source = self.job.source
        name = self.job.file_name(item.index) if source.files else f"frame_{item.index:06d}.png"
        image = {"id": str(item.index), "name": name, "width": str(source.width), "height": str(source.height)}
        with storage_errors(self.path):
            self._open("image", image)
            for number in (int(n) for n in np.unique(item.labels) if n):
                self._mask(number, item.labels == number)
            self._close("image")

    def finish(self) -> None:
        self.xml.endElement("annotations")
        self.xml.endDocument()

    def _mask(self, number: int, mask: np.ndarray) -> None:
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        shape = {
            "label": self.job.name(number),
            "source": "auto",
            "occluded": "0",
            "rle": ", ".join(map(str, run_lengths(mask[y : y + height, x : x + width].ravel()).tolist())),
            "left": str(x),
            "top": str(y),
            "width": str(width),
            "height": str(height),
            "z_order": "0",
            "group_id": str(number),
        }
        self._open("mask", shape)
        self.xml.endElement("mask")

    def _meta(self) -> None:
        source, last = self.job.source, len(self.job.computed) - 1
        task: dict[str, int | str] = {
            "id": 0,
            "name": self.job.title,
            "size": last + 1,
            "mode": "interpolation" if source.kind == "video" else "annotation",
            "overlap": 0,
        }
        task |= {"bugtracker": "", "subset": "default", "start_frame": 0, "stop_frame": last, "frame_filter": ""}
        self._open("meta", {})
        self._open("task", {})
        for tag, value in task.items():
            self._text(tag, value)
        self._open("labels", {})
        for number in self.job.object_ids:
            red, green, blue = davis_palette()[number].tolist()
            self._open("label", {})
            self._text("name", self.job.name(number))
            self._text("color", f"#{red:02x}{green:02x}{blue:02x}")
            self._text("type", "mask")
            self._text("attributes", "")
            self._close("label")
        self._close("labels")
        self._group("segments", "segment", {"id": 0, "start": 0, "stop": last, "url": ""})
        self._group("original_size", None, {"width": source.width, "height": source.height})
        self._close("task")
        self._text("computed_by", "mivos")  # tells our reader that an image without masks is empty, not forgotten
        self._text("source", source.path.replace("\\", "/").rsplit("/", 1)[-1])
        self._close("meta")

    def _group(self, outer: str, inner: str | None, texts: dict[str, int | str]) -> None:
        self._open(outer, {})
        if inner:
            self._open(inner, {})
        for tag, value in texts.items():
            self._text(tag, value)
        if inner:
            self._close(inner)
        self._close(outer)

    def _open(self, tag: str, attributes: dict[str, str]) -> None:
        self.xml.ignorableWhitespace("\n")
        self.xml.startElement(tag, AttributesImpl({key: xml_text(value) for key, value in attributes.items()}))

    def _close(self, tag: str) -> None:
        self.xml.ignorableWhitespace("\n")
        self.xml.endElement(tag)

    def _text(self, tag: str, value: int | str) -> None:
        self._open(tag, {})
        self.xml.characters(xml_text(str(value)))
        self.xml.endElement(tag)
