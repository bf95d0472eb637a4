"""Strategies: JSON documents as they should be, to be edited by `damage.edited`."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

fractions = st.floats(0, 1)
paths = st.lists(st.tuples(fractions, fractions).map(list), min_size=1, max_size=6)
names = st.text("abcdefgh-_0123456789 äß", min_size=1, max_size=12).map(str.strip).filter(bool)
strokes = st.fixed_dictionaries(
    {"path": paths, "object_id": st.integers(0, 255)},
    optional={"start_time": st.floats(0, 1e6), "end_time": st.integers(0, 10**6), "round": st.integers(0, 2)},
)
davis_object = st.fixed_dictionaries(
    {"sequence": st.just("clip"), "scribbles": st.lists(st.lists(strokes, max_size=2), min_size=3, max_size=3)}
)
scribbles = st.one_of(davis_object, st.lists(davis_object, min_size=1, max_size=3))

frame_lists = st.lists(st.integers(0, 20).map("{:05d}".format), max_size=4)
youtube_object = st.fixed_dictionaries({"category": names, "frames": frame_lists})
meta = st.fixed_dictionaries(
    {
        "videos": st.dictionaries(
            st.just("v"),
            st.fixed_dictionaries({"objects": st.dictionaries(st.sampled_from("1 2 17".split()), youtube_object)}),
            min_size=1,
        )
    }
)

scores = st.dictionaries(names, st.dictionaries(names, st.one_of(st.none(), fractions), max_size=2), max_size=2)
record = st.fixed_dictionaries(
    {
        "format": st.just(1),
        "kind": st.just("dev"),
        "time": st.just("2026-01-01T00:00:00+00:00"),
        "code": st.just({"version": "1"}),
        "machine": st.just({"cpu": "x"}),
        "settings": st.dictionaries(names, fractions, max_size=2),
        "data": st.one_of(
            st.none(), st.fixed_dictionaries({"name": names, "parts": st.dictionaries(names, names, max_size=2)})
        ),
        "scores": scores,
        "means": st.dictionaries(names, fractions, max_size=2),
    }
)

action = st.fixed_dictionaries(
    {
        "id": st.just("a-1"),
        "frame": st.integers(0, 99),
        "kind": st.sampled_from("scribble click brush lasso clear reset paste".split()),
        "object": st.integers(1, 255),
        "path": st.lists(st.tuples(fractions, fractions).map(list), min_size=3, max_size=5),
        "radius": fractions,
    },
    optional={
        "positive": st.booleans(),
        "refine": st.booleans(),
        "window": st.just([0.1, 0.1, 0.9, 0.9]),
        "png": st.just("aGk="),
        "objects": st.lists(st.integers(1, 255), max_size=3),
    },
)
bodies = st.one_of(
    st.fixed_dictionaries({"name": names, "colour": st.just("#a0b1c2")}),
    st.fixed_dictionaries({"id": st.just("p"), "frame": st.integers(0, 9), "from": st.integers(0, 9)}),
    st.fixed_dictionaries({"direction": st.just("to"), "to": st.integers(0, 9), "frames": st.just([1, 2])}),
    st.fixed_dictionaries({"formats": st.just(["png", "coco"])}),
)


@cache
def _scene(index: int) -> dict[str, Any]:
    from blender.assets import Assets, Shelf
    from blender.scene import sample_scene
    from blender.scene_file import SCHEMA, VERSION

    shelves = (
        Shelf(kind, {f"{kind}/{i}": f"/{kind}/{i}" for i in range(9)}) for kind in ("meshes", "textures", "skies")
    )
    return {"schema": SCHEMA, "version": VERSION, **asdict(sample_scene(1, index, Assets(*shelves), 8, (64, 48)))}


scenes = st.integers(0, 5).map(_scene)


# What annotation tools write about a clip of 5 frames of 16x12 pixels.
counts = st.sampled_from([{"size": [12, 16], "counts": [10, 20, 162]}, {"size": [12, 16], "counts": ":d0b4"}])
polygon = st.just([[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]])
coco = st.fixed_dictionaries(
    {
        "images": st.just([{"id": i, "width": 16, "height": 12, "file_name": f"{i:05d}.jpg"} for i in range(5)]),
        "annotations": st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.integers(1, 9),
                    "image_id": st.integers(0, 4),
                    "category_id": st.integers(1, 2),
                    "segmentation": st.one_of(counts, polygon),
                    "bbox": st.just([1, 1, 5, 5]),
                    "area": st.just(20),
                }
            ),
            min_size=1,
            max_size=3,
        ),
        "categories": st.just([{"id": 1, "name": "dog"}, {"id": 2, "name": "object 7"}]),
    }
)
youtube_vis = st.fixed_dictionaries(
    {
        "videos": st.just(
            [{"id": 1, "width": 16, "height": 12, "length": 5, "file_names": [f"clip/{i}.jpg" for i in range(5)]}]
        ),
        "annotations": st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.integers(1, 9),
                    "video_id": st.just(1),
                    "category_id": st.just(1),
                    "segmentations": st.lists(st.one_of(st.none(), counts, polygon), min_size=5, max_size=5),
                }
            ),
            min_size=1,
            max_size=2,
        ),
        "categories": st.just([{"id": 1, "name": "dog"}]),
    }
)


@cache
def _packed() -> list[int]:
    from stores.exchange.brush import pack_mask

    mask = np.zeros((12, 16), bool)
    mask[3:7, 4:9] = True
    return pack_mask(mask)


brush = st.builds(lambda: {"format": "rle", "rle": _packed(), "brushlabels": ["dog"]})
outline = st.just({"points": [[1, 1], [50, 10], [60, 90.5]], "polygonlabels": ["object 3"]})
label_studio = st.lists(
    st.fixed_dictionaries(
        {
            "data": st.integers(0, 4).map(lambda i: {"image": f"/data/upload/00000000-clip_{i:05d}.png", "frame": i}),
            "annotations": st.one_of(brush, outline).map(
                lambda value: [
                    {
                        "result": [
                            {
                                "type": "brushlabels" if "rle" in value else "polygonlabels",
                                "value": value,
                                "original_width": 16,
                                "original_height": 12,
                            }
                        ]
                    }
                ]
            ),
        }
    ),
    min_size=1,
    max_size=2,
)
annotations = st.one_of(coco, youtube_vis, label_studio)

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><size>5</size><original_size><width>16</width><height>12</height>
</original_size></task></meta><track id="0" label="dog" source="manual"><mask frame="0" keyframe="1" outside="0"
 rle="2, 3, 7" left="1" top="2" width="4" height="3" z_order="0"></mask><polygon frame="1" outside="0" keyframe="1"
 points="1.0,1.0;9.0,1.0;9.0,9.0"></polygon></track><image id="2" name="clip_00002.png" width="16" height="12">
<mask label="cat" group_id="4" rle="0, 12" left="0" top="0" width="4" height="3"></mask></image></annotations>
"""
ENTITIES = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "&c;&c;"><!ENTITY c SYSTEM "file:///etc/passwd">]><annotations>&b;'
)
ROWS = """video,scribbles,name,size,snap,format
clip.mp4,s.json,one,480,true,png;overlay
clip.mp4,s.json,two,,no,
"""
row = st.fixed_dictionaries(
    {"video": st.just("clip.mp4"), "scribbles": st.just("s.json"), "name": names, "size": st.integers(0, 999)},
    optional={"snap": st.booleans(), "format": st.just(["png"]), "checkpoint": st.just([]), "model": st.just("nano")},
)
