"""COCO and YouTube-VIS JSON to annotations.

COCO: `images` with frames, `annotations` with a segmentation each. An annotation's object is its `instance_id` or
`track_id` (in `attributes`, too, where CVAT writes it); without one all annotations of a category are one object.
YouTube-VIS: one annotation per object over all frames, `segmentations` has an entry per frame or null. Its object is
the annotation; the category only names it.

Segmentations are polygons, counts, or compressed counts. Annotations with a box alone are refused.
Source: cocodataset.org (data format), the label format of the YouTube-VIS challenge.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stores.exchange.annotations import Annotations, Paint, Place, Region, Timeline, id_in_label
from stores.exchange.outlines import fill_polygons
from stores.exchange.runs import counts_of_text, from_run_lengths
from stores.strokes import show


def read_coco(path: Path, data: dict[str, Any], video: Timeline) -> Annotations:
    """Annotations of a COCO file.

    Raises:
        MaskError: a field is missing or wrong; one line that names file, entry and field.
    """
    top = Place(path)
    frames, size = _images(data, video, top)
    found = Annotations(path, "COCO", size or video.sizes[0], {frame: [] for frame in frames.values()})
    names = category_names(data, top)
    things: dict[Hashable, tuple[Any, str]] = {}
    for number, entry in enumerate(top.get(data, "annotations", list, "a list")):
        place = top.at(f"annotations[{number}]")
        image = place.get(entry, "image_id", (int, str), "an integer or a string")
        if image not in frames:
            raise place.at(".image_id").error(f"there is no image {show(image)}")
        category = place.get(entry, "category_id", int, "an integer")
        if category not in names:
            raise place.at(".category_id").error(f"there is no category {category}")
        if entry.get("area") == 0:
            continue  # explicitly nothing
        attributes = entry.get("attributes")
        extra = attributes if isinstance(attributes, dict) else {}
        instance = entry.get("instance_id", entry.get("track_id", extra.get("track_id")))
        thing = (category, instance) if isinstance(instance, int | str) else (category, None)
        wanted = id_in_label(names[category]) or category if thing[1] is None else instance
        things.setdefault(thing, (wanted, names[category]))
        paint = segmentation(entry.get("segmentation"), place, bool(entry.get("bbox")))
        # CVAT marks the frames that a person drew
        keyframe = extra.get("keyframe", True) is not False
        found.add(frames[image], Region(thing, paint, place.at(".segmentation"), keyframe))
    found.number((thing, *facts) for thing, facts in things.items())
    return found


def _images(data: dict[str, Any], video: Timeline, top: Place) -> tuple[dict[Any, int], tuple[int, int] | None]:
    """Image id -> frame, and the size of all of them."""
    images = top.get(data, "images", list, "a list")
    by_index = all(isinstance(image, dict) and type(image.get("frame_index")) is int for image in images)
    annotations = top.get(data, "annotations", list, "a list")
    used = {image for a in annotations if isinstance(a, dict) and isinstance(image := a.get("image_id"), int | str)}
    frames: dict[Any, int] = {}
    taken: dict[int, Any] = {}
    size: tuple[int, int] | None = None
    for number, image in enumerate(images):
        place = top.at(f"images[{number}]")
        key = place.get(image, "id", (int, str), "an integer or a string")
        if not by_index and used and key not in used:
            continue  # nobody looked at it, or it is of another video
        now = video.check(image.get("height"), image.get("width"), place)
        if size not in (None, now):
            raise place.error("is of another size than the images before")
        size = now
        if by_index:
            frame = video.number(image["frame_index"], place.at(".frame_index"))
        else:
            name = place.get(image, "file_name", str, "a string")
            frame = video.named(name, place.at(".file_name"))
        if frame in taken or key in frames:
            raise place.error(f"frame {frame} has a second image")
        frames[key] = taken[frame] = frame
    return frames, size


def read_youtube_vis(path: Path, data: dict[str, Any], video: Timeline) -> Annotations:
    """Annotations of a YouTube-VIS file, of the video with the source's name if it has several.

    Raises:
        MaskError: a field is missing or wrong; one line that names file, entry and field.
    """
    top = Place(path)
    entry, place = _video(data, video, top)
    size = video.check(entry.get("height"), entry.get("width"), place)
    frames = _frames(entry, video, place)
    found = Annotations(path, "YouTube-VIS", size)
    names = category_names(data, top)
    things = []
    for number, annotation in enumerate(top.get(data, "annotations", list, "a list")):
        here = top.at(f"annotations[{number}]")
        if here.get(annotation, "video_id", (int, str), "an integer") != entry["id"]:
            continue
        thing = here.get(annotation, "id", (int, str), "an integer or a string")
        category = here.get(annotation, "category_id", int, "an integer")
        things.append((thing, thing, names.get(category, "")))
        parts = here.get(annotation, "segmentations", list, "a list with an entry or null for each frame")
        if len(parts) != len(frames):
            raise here.at(".segmentations").error(f"has {len(parts)} entries, but the video has {len(frames)} frames")
        areas = annotation.get("areas")
        for index, part in enumerate(parts):
            if part is None:
                continue
            found.frames.setdefault(frames[index], [])
            if isinstance(areas, list) and index < len(areas) and areas[index] == 0:
                continue
            spot = here.at(f".segmentations[{index}]")
            found.add(frames[index], Region(thing, segmentation(part, spot, False), spot))
    found.number(things)
    return found


def _video(data: dict[str, Any], video: Timeline, top: Place) -> tuple[dict[str, Any], Place]:
    videos = top.get(data, "videos", list, "a list")
    places = [top.at(f"videos[{number}]") for number in range(len(videos))]
    for entry, place in zip(videos, places, strict=True):
        place.get(entry, "id", (int, str), "an integer")
    if len(videos) == 1:
        return videos[0], places[0]
    for entry, place in zip(videos, places, strict=True):
        files = entry.get("file_names")
        first = str(files[0]) if isinstance(files, list) and files else ""
        if video.title in (entry.get("name"), *first.split("/")[:-1]):
            return entry, place
    raise top.error(f"has {len(videos)} videos, none of them {video.title!r}", "keep the one that these frames are of")


def _frames(entry: dict[str, Any], video: Timeline, place: Place) -> list[int]:
    """Entry of `segmentations` -> frame. Data sets name every fifth frame only."""
    files = entry.get("file_names")
    length = entry.get("length", len(files) if isinstance(files, list) else None)
    if length == video.count:
        return list(range(video.count))
    if not isinstance(files, list) or not files:
        raise place.at(".length").error(f"is {show(length)}, but the video has {video.count} frames")
    named = [video.named(str(name), place.at(f".file_names[{number}]")) for number, name in enumerate(files)]
    if len(set(named)) < len(named):
        raise place.at(".file_names").error("names a frame twice")
    return named


def category_names(data: dict[str, Any], top: Place) -> dict[int, str]:
    """Category id -> name."""
    names = {}
    for number, entry in enumerate(top.get(data, "categories", list, "a list")):
        place = top.at(f"categories[{number}]")
        key = place.get(entry, "id", int, "an integer")
        names[key] = " ".join(str(entry.get("name", "")).split())[:100]
    return names


def segmentation(value: Any, place: Place, boxed: bool) -> Paint:
    """What paints a segmentation; how its numbers look is seen when it paints.

    Args:
        boxed: there is a box, which an error then speaks of.
    """
    if isinstance(value, dict):
        place.at(".segmentation").get(value, "size", list, "[height, width]")
        place.at(".segmentation").get(value, "counts", (str, list), "a text or a list of run lengths")
        return partial(_paint_counts, value["size"], value["counts"])
    if isinstance(value, list) and value and all(isinstance(polygon, list) for polygon in value):
        return partial(fill_polygons, value)
    if not value and boxed:
        raise place.error("has a box, but no mask", "mivos follows masks: annotate polygons or masks, not boxes")
    raise place.at(".segmentation").error(f"must be polygons or run lengths, not {show(value)}")


def _paint_counts(size: list[Any], counts: str | list[Any], height: int, width: int) -> np.ndarray:
    if size != [height, width]:
        raise ValueError(f"run lengths of size {show(size)}, not [{height}, {width}]")
    lengths = counts_of_text(counts, height * width) if isinstance(counts, str) else counts
    return from_run_lengths(lengths, height * width).reshape(width, height).T
