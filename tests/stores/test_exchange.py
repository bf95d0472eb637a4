"""Annotation files of other tools: what is understood, and what is refused with one line."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from stores.errors import MaskError
from stores.exchange import Annotations, Timeline, is_annotations, read_annotations
from stores.exchange.annotations import Place, Region
from stores.exchange.brush import pack_mask, unpack_mask
from stores.exchange.outlines import fill_polygons
from stores.exchange.runs import counts_of_text, from_run_lengths, run_lengths
from stores.exchange.selection import select

HEIGHT, WIDTH, COUNT = 6, 8, 12
VIDEO = Timeline(COUNT, None, "clip", ((HEIGHT, WIDTH), (3, 4)))
FOLDER = Timeline(3, ("a", "b7", "c"), "shots", ((HEIGHT, WIDTH),))
MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40))


def square(value: int = 1) -> np.ndarray:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[1:4, 2:6] = value
    return labels


def save(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refused(path: Path, video: Timeline = VIDEO) -> str:
    """The message that refuses a file, when it is read or painted."""
    with pytest.raises(MaskError) as caught:
        found = read_annotations(path, video)
        for frame in found.frames:
            found.labels(frame)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path))
    return message + (f" ({caught.value.hint})" if caught.value.hint else "")


# ---- codes


@given(MASKS)
@settings(max_examples=50, deadline=None)
def test_codes_are_inverse(mask: np.ndarray) -> None:
    assert np.array_equal(unpack_mask(pack_mask(mask), *mask.shape), mask)
    assert np.array_equal(from_run_lengths(run_lengths(mask.ravel()).tolist(), mask.size).reshape(mask.shape), mask)
    packed = coco.encode(np.asfortranarray(mask, np.uint8))
    counts = counts_of_text(packed["counts"].decode(), mask.size)
    assert counts == run_lengths(mask.T.ravel()).tolist()


def test_brush_reads_values_one_by_one() -> None:
    """As the frontend writes smooth edges: repeated runs, then four pixels of their own alpha, inside one item."""
    alphas = [0, 100, 128, 255]
    bits = f"{32:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += f"101{15:04b}{0:08b}" + f"001{15:04b}" + "".join(f"{a:08b}" * 4 for a in alphas)
    packed = [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]
    assert unpack_mask(packed, 2, 4).tolist() == [[False] * 4, [False, False, True, True]]


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        ([], "cut off"),
        ([0, 0, 0, 192, 57, 27, 252], "cut off"),
        ([0, 0, 0, 8, 57, 27, 252, 96], "8 values, but 8x6 pixels of 4 channels have 192"),
        ([255, 255, 255, 255, 57], "4294967295 values"),
        ([0, 0, 0, 192, 249, 27, 252, 96], "words of 32 bits"),
        ([0, 0, 0, 192, 57, 27, 255, 255, 255, 255, 255], "more values than"),
        ([0, 256], "not bytes"),
        ([0, -1], "not bytes"),
        ([True, 0.5, "a"], "not bytes"),
    ],
)
def test_damaged_brush_masks(packed: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        unpack_mask(packed, HEIGHT, WIDTH)


def test_polygons_are_filled_as_coco_fills_them() -> None:
    polygons = [[1, 1, 6.5, 1, 6.5, 4.2, 1, 4], [0, 4, 3, 4, 3, 6, 0, 6]]
    expected = coco.decode(coco.merge(coco.frPyObjects(polygons, HEIGHT, WIDTH))).astype(bool)
    assert np.array_equal(fill_polygons(polygons, HEIGHT, WIDTH), expected) and expected.any()
    for bad in ([1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7], [1, 2, 3, float("nan"), 5, 6], [0, 0, 1e9, 0, 1e9, 1e9], "abcdef"):
        with pytest.raises(ValueError, match="polygon"):
            fill_polygons([bad], HEIGHT, WIDTH)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="outline"):
        fill_polygons([[0, 0, 2000, 2000] * 2000], 2000, 2000)


# ---- COCO and YouTube-VIS


def coco_file(**changes: Any) -> dict[str, Any]:
    runs = coco.encode(np.asfortranarray(square()))
    segmentation = {"size": [HEIGHT, WIDTH], "counts": runs["counts"].decode()}
    annotation = {"id": 1, "image_id": 5, "category_id": 4, "segmentation": segmentation, "bbox": [2, 1, 4, 3]}
    image = {"id": 5, "file_name": "frame_000003.PNG", "height": HEIGHT, "width": WIDTH}
    data = {"images": [image], "categories": [{"id": 4, "name": "dog"}], "annotations": [annotation]}
    for key, value in changes.items():
        (annotation if key in annotation else image if key in image else data)[key] = value
    return data


def test_coco_from_elsewhere(tmp_path: Path) -> None:
    path = save(tmp_path / "any.name", "\ufeff" + json.dumps(coco_file()))
    found = read_annotations(path, VIDEO)
    assert (found.kind, list(found.frames), found.names) == ("COCO", [3], {4: "dog"})
    assert np.array_equal(found.labels(3), square(4))
    polygon = coco_file(segmentation=[[2, 1, 6, 1, 6, 4, 2, 4]])
    assert np.array_equal(read_annotations(save(path, polygon), VIDEO).labels(3), square(4))
    lengths = run_lengths(square().astype(bool).T.ravel()).tolist()
    counts = coco_file(segmentation={"size": [HEIGHT, WIDTH], "counts": lengths})
    assert np.array_equal(read_annotations(save(path, counts), VIDEO).labels(3), square(4))
    named = read_annotations(save(path, coco_file(file_name="images/b7.jpg")), FOLDER)
    assert list(named.frames) == [1]
    archive = tmp_path / "cvat.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("annotations/instances_default.json", json.dumps(coco_file()))
        packed.writestr("images/frame_000003.PNG", b"")
    assert is_annotations(archive) and list(read_annotations(archive, VIDEO).frames) == [3]


def test_coco_instances_and_ids(tmp_path: Path) -> None:
    data = coco_file()
    (first,) = data["annotations"]
    data["annotations"] = [
        {**first, "id": n, "attributes": {"track_id": n, "keyframe": n == 0}} for n in range(2)
    ]  # CVAT counts tracks from 0, which is no object
    found = read_annotations(save(tmp_path / "a.json", data), VIDEO)
    assert sorted(found.ids.values()) == [1, 2] and found.names == {1: "dog", 2: "dog"}
    assert [region.keyframe for region in found.frames[3]] == [True, False]
    assert np.array_equal(found.labels(3), square(2))  # the later one covers
    data["annotations"] = [{**first, "category_id": 900}, {**first, "category_id": 70}]
    data["categories"] = [{"id": 900, "name": "cat"}, {"id": 70, "name": "dog"}]
    assert read_annotations(save(tmp_path / "a.json", data), VIDEO).names == {1: "cat", 2: "dog"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"segmentation": []}, "annotations[0]: has a box, but no mask"),
        ({"segmentation": None, "bbox": None}, "annotations[0].segmentation: must be polygons or run lengths"),
        ({"segmentation": {"size": [6, 8], "counts": "\x7f"}}, "annotations[0].segmentation: has a character"),
        ({"segmentation": {"size": [6, 8], "counts": "ooooooooooooo"}}, "longer than any image"),
        ({"segmentation": {"size": [6, 8], "counts": "PPPPo"}}, "annotations[0].segmentation: has"),
        ({"segmentation": {"size": [6, 8], "counts": [10**30, 1]}}, "runs of 1000"),
        ({"segmentation": {"size": [6, 8], "counts": [-1, 49]}}, "negative length"),
        ({"segmentation": {"size": [6, 8], "counts": [1.5, 46.5]}}, "not integers"),
        ({"segmentation": {"size": [60000, 80000], "counts": [4800000000]}}, "size [60000, 80000]"),
        ({"segmentation": {"size": [6, 8]}}, "segmentation.counts: is missing"),
        ({"segmentation": [[0, 0, 1e300, 1e300, 5, 5]]}, "far outside"),
        ({"height": 60}, "images[0]: is for pictures of 8x60 (width x height), but the frames are 8x6"),
        ({"height": True}, "images[0]: is for pictures"),
        ({"file_name": "cover.png"}, "ends in no frame number"),
        ({"file_name": "000099.png"}, "frame 99 is out of range, the video has frames 0..11"),
        ({"image_id": 6}, "annotations[0].image_id: there is no image 6"),
        ({"category_id": 5}, "annotations[0].category_id: there is no category 5"),
        ({"annotations": 3}, "annotations: must be a list"),
        ({"annotations": [[]]}, "annotations[0]: must be an object"),
        ({"annotations": []}, "shows no object on any frame"),
    ],
)
def test_coco_that_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in refused(save(tmp_path / "a.json", coco_file(**changes)))


def test_youtube_vis_from_elsewhere(tmp_path: Path) -> None:
    runs = coco_file()["annotations"][0]["segmentation"]
    videos = [
        {"id": n, "height": HEIGHT, "width": WIDTH, "file_names": [f"{name}/00000.jpg", f"{name}/00005.jpg"]}
        for n, name in enumerate(["other", "clip"])
    ]
    annotations = [
        {"id": 70 + n, "video_id": n, "category_id": 2, "segmentations": [None, runs], "areas": [None, 12]}
        for n in (0, 1, 1)
    ]
    annotations[2]["id"] = 1000
    data = {"videos": videos, "annotations": annotations, "categories": [{"id": 2, "name": "dog"}]}
    found = read_annotations(save(tmp_path / "a.json", data), VIDEO)
    assert (found.kind, list(found.frames), found.names) == ("YouTube-VIS", [5], {1: "dog", 2: "dog"})
    assert np.array_equal(found.labels(5), square(2))
    annotations[1]["segmentations"] = [runs]
    assert "annotations[1].segmentations: has 1 entries, but the video has 2" in refused(save(tmp_path / "a", data))
    for video in videos:
        video["file_names"] = []
    assert "has 2 videos, none of them 'clip'" in refused(save(tmp_path / "a.json", data))


# ---- CVAT


def cvat_file(body: str, size: str = "<width>8</width><height>6</height>") -> str:
    head = f"<meta><task><size>12</size><original_size>{size}</original_size></task></meta>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{head}{body}</annotations>'


MASK = 'rle="0, 12" left="2" top="1" width="4" height="3"'
TRACK = '<track id="0" label="dog">{}</track>'


def test_cvat_tracks(tmp_path: Path) -> None:
    points = 'points="2,1;6,1;6,4;2,4"'
    body = f"""<track id="0" label="dog"><polygon frame="1" keyframe="1" outside="0" {points}/>
      <polygon frame="2" keyframe="0" outside="0" {points}/>
      <polygon frame="3" keyframe="1" outside="1" {points}/></track>
      <track id="1" label="dog"><mask frame="5" keyframe="1" outside="0" z_order="2" {MASK}/></track>
      <track id="2" label="dog"><mask frame="6" keyframe="1" outside="0" {MASK}/></track>
      <track id="3" label="cat"><mask frame="5" keyframe="1" outside="0" z_order="-1" {MASK}/></track>"""
    archive = tmp_path / "task.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("annotations.xml", cvat_file(body))
        packed.writestr("images/frame_000005.png", b"")
    found = read_annotations(archive, VIDEO)
    assert list(found.frames) == [1, 2, 5, 6] and found.names == {1: "dog", 2: "dog", 3: "cat"}
    assert select(found, "keyframes") == [1, 5, 6] and select(found, "all") == [1, 2, 5, 6]
    for frame, number in [(1, 1), (2, 1), (5, 2), (6, 2)]:  # masks of a label are one object; z_order says who covers
        assert np.array_equal(found.labels(frame), square(number))


def test_cvat_images(tmp_path: Path) -> None:
    body = f"""<image id="2" name="c.png" width="8" height="6"><mask label="object 9" {MASK}/><tag label="x"/></image>
      <image id="1" name="b7.png" width="8" height="6"/>"""
    path = save(tmp_path / "a.xml", cvat_file(body))
    found = read_annotations(path, FOLDER)
    assert list(found.frames) == [2] and np.array_equal(found.labels(2), square(9))  # b7 may just not be annotated
    assert list(read_annotations(path, VIDEO).frames) == [2]
    ours = path.read_text().replace("<meta>", "<meta><computed_by>mivos</computed_by>")
    assert read_annotations(save(path, ours), FOLDER).frames[1] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (TRACK.format('<box frame="0" keyframe="1" outside="0" xtl="1"/>'), "line 2: <box>: is no mask"),
        (TRACK.format('<skeleton frame="0" keyframe="1"/>'), "line 2: <skeleton>: is no mask"),
        (TRACK.format(f'<mask frame="12" {MASK}/>'), "frame 12 is out of range"),
        (TRACK.format(f'<mask frame="-1" {MASK}/>'), "frame must be a whole number"),
        (TRACK.format(f"<mask {MASK}/>"), "frame must be a whole number"),
        (TRACK.format('<mask frame="0" rle="0, 12" left="6" top="1" width="4" height="3"/>'), "not inside 8x6"),
        (TRACK.format('<mask frame="0" rle="0, 12" left="0" top="0" width="99999999" height="9999"/>'), "not inside"),
        (TRACK.format('<mask frame="0" rle="0, 13" left="0" top="0" width="4" height="3"/>'), "runs of 13 pixels"),
        (TRACK.format('<mask frame="0" rle="-1, 13" left="0" top="0" width="4" height="3"/>'), "negative"),
        (TRACK.format('<mask frame="0" rle="a, 13" left="0" top="0" width="4" height="3"/>'), "not numbers"),
        (TRACK.format('<mask frame="0" left="0" top="0" width="4" height="3"/>'), "not numbers"),
        (TRACK.format(f'<mask frame="0" rle="{"9" * 5000}" left="0" top="0" width="4" height="3"/>'), "larger run"),
        (TRACK.format('<polygon frame="0" points="1,2;3"/>'), "has a polygon of 3 numbers"),
        (TRACK.format('<polygon frame="0" points="1,2;3,x"/>'), "is needed, not"),
        (TRACK.format('<polygon frame="0" points="nan,2;3,4;5,6"/>'), "not finite"),
        ("<a>" * 100, "nested more than 64 deep"),
        ("<track>", "not XML: mismatched tag"),
        ("", "shows no object"),
    ],
)
def test_cvat_that_is_refused(tmp_path: Path, body: str, words: str) -> None:
    assert words in refused(save(tmp_path / "a.xml", cvat_file(body)))


def test_cvat_of_another_size(tmp_path: Path) -> None:
    body = TRACK.format(f'<mask frame="0" {MASK}/>')
    path = tmp_path / "a.xml"
    assert "8x60 (width x height)" in refused(save(path, cvat_file(body, "<width>8</width><height>60</height>")))
    assert "does not say the size" in refused(save(path, f"<annotations>{body}</annotations>"))
    assert "XML of <svg>" in refused(save(path, "<svg/>"))


ENTITIES = '<!DOCTYPE a [<!ENTITY x "lol">' + "".join(f'<!ENTITY x{n} "&x;&x;">' for n in range(9)) + "]>"


@pytest.mark.parametrize("doctype", [ENTITIES, '<!DOCTYPE a SYSTEM "file:///etc/passwd">', "<!DOCTYPE annotations>"])
def test_document_types_are_refused(tmp_path: Path, doctype: str) -> None:
    text = cvat_file(TRACK.format(f'<mask frame="0" {MASK}/>')).replace("<annotations>", f"{doctype}<annotations>")
    assert "declares a document type" in refused(save(tmp_path / "a.xml", text))


# ---- Label Studio


def task(**changes: Any) -> dict[str, Any]:
    value = {"format": "rle", "rle": pack_mask(square() > 0), "brushlabels": ["dog"]}
    result = {"type": "brushlabels", "original_width": WIDTH, "original_height": HEIGHT, "value": value}
    for key, item in changes.items():
        (value if key in value else result)[key] = item
    return {"data": {"image": "/data/upload/1/0a1b2c3d-frame_000004.png"}, "annotations": [{"result": [result]}]}


def test_label_studio_from_elsewhere(tmp_path: Path) -> None:
    polygon = {"points": [[25, 100 / 6], [75, 100 / 6], [75, 400 / 6], [25, 400 / 6]], "polygonlabels": ["cat"]}
    second = task(type="polygonlabels", value=polygon)
    second["data"]["image"] = "/data/local-files/?d=shots/000006.png"
    cancelled = {"result": [], "was_cancelled": True}
    second["annotations"].append(cancelled)
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    second["annotations"][0]["result"].append(choice)
    untouched = {"data": {"image": "000001.png"}, "annotations": []}
    found = read_annotations(save(tmp_path / "a.json", [task(), second, untouched]), VIDEO)
    assert (found.kind, list(found.frames), found.names) == ("Label Studio", [4, 6], {1: "dog", 2: "cat"})
    assert np.array_equal(found.labels(4), square(1)) and np.array_equal(found.labels(6), square(2))
    only = task()
    only["data"] = {"image": "0a1b2c3d-b7.png"}
    only["predictions"] = only.pop("annotations")
    assert list(read_annotations(save(tmp_path / "a.json", only), FOLDER).frames) == [1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "rectanglelabels"}, "[0].annotations[0].result[0]: is a rectanglelabels, no mask"),
        ({"type": "videorectangle"}, "is a videorectangle, no mask"),
        ({"rle": "abc"}, "rle: must be a list of bytes"),
        ({"rle": [0, 0, 0, 192]}, "has packed values that are cut off"),
        ({"original_width": 9999999999}, "is for pictures of 9999999999x6"),
        ({"image_rotation": 90}, "rotated image"),
        ({"type": 3}, "type: must be a string"),
    ],
)
def test_label_studio_that_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in refused(save(tmp_path / "a.json", [task(**changes)]))


# ---- OME-Zarr


def label_image(path: Path, *, version: int = 3, axes: str = "tyx", count: int = COUNT, **options: Any) -> Path:
    """As other programs write one: values 5 and 300, no list of frames."""
    shape = {"t": count, "c": 1, "z": 1, "y": HEIGHT, "x": WIDTH}
    group = zarr.create_group(path, zarr_format=version)  # type: ignore[arg-type]
    size = tuple(shape[axis] for axis in axes)
    array = group.create_array("0", shape=size, chunks=options.pop("chunks", (1, *size[1:])), dtype="int32", **options)
    array[1] = square().reshape(size[1:]) * 5
    array[3] = square().reshape(size[1:]).astype(int) * 300
    scale = [{"type": "scale", "scale": [1.0] * len(axes)}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    scales = [{"axes": [{"name": axis} for axis in axes], "datasets": datasets}]
    ome = {"multiscales": scales, "image-label": {"properties": [{"label-value": 5, "name": "cell"}]}}
    group.attrs.update({"ome": {"version": "0.5", **ome}} if version == 3 else ome)
    return path


@pytest.mark.parametrize(("version", "axes"), [(3, "tyx"), (2, "tczyx")])
def test_ome_zarr_from_elsewhere(tmp_path: Path, version: int, axes: str) -> None:
    path = label_image(tmp_path / "labels.zarr", version=version, axes=axes)
    assert is_annotations(path)
    found = read_annotations(path, VIDEO)
    assert list(found.frames) == [1, 3] and found.names == {1: "cell"}
    assert np.array_equal(found.labels(1), square(1)) and np.array_equal(found.labels(3), square(2))


def test_ome_zarr_that_is_refused(tmp_path: Path) -> None:
    assert "has 4 frames, but the video has 12" in refused(label_image(tmp_path / "short", count=4))
    folder = label_image(tmp_path / "codec")
    metadata = json.loads((folder / "0" / "zarr.json").read_text())
    (folder / "0" / "zarr.json").write_text(json.dumps({**metadata, "codecs": [{"name": "numcodecs.pickle"}]}))
    assert "'numcodecs.pickle', which is not known to be safe" in refused(folder)
    folder = label_image(tmp_path / "filter", version=2)
    metadata = json.loads((folder / "0" / ".zarray").read_text())
    (folder / "0" / ".zarray").write_text(json.dumps({**metadata, "filters": [{"id": "pickle"}]}))
    assert "'pickle', which is not known to be safe" in refused(folder)
    folder = label_image(tmp_path / "bomb")
    metadata = json.loads((folder / "0" / "zarr.json").read_text())
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = [1, 10**6, 10**6]
    (folder / "0" / "zarr.json").write_text(json.dumps(metadata))
    assert "has chunks of 1000000000000 pixels" in refused(folder)
    folder = label_image(tmp_path / "damaged")
    (folder / "0" / "c" / "1" / "0" / "0").write_bytes(b"no zstd")
    assert "frame 1 cannot be read" in refused(folder)
    folder = label_image(tmp_path / "outside")
    (folder / "zarr.json").write_text((folder / "zarr.json").read_text().replace('"path": "0"', '"path": "../x"'))
    assert "outside of itself" in refused(folder)
    zarr.create_group(tmp_path / "plain")
    assert "no OME-Zarr image" in refused(tmp_path / "plain")


# ---- any file


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a": ', "not JSON"),
        ("{}", "JSON of an unknown kind"),
        ("[1]", "a list, but not of Label Studio's tasks"),
        ('{"sequence": "x", "scribbles": []}', "use --scribbles"),
        ('{"images": [], "annotations": [' + "9" * 5000 + "]}", "not JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, words: str) -> None:
    path = save(tmp_path / "a.json", content)
    assert is_annotations(path) and words in refused(path)


JUNK: list[Any] = [None, True, -1, 0, 1.5, 10**40, float("nan"), "", "x", [], [[]], {}, [None], [[-1e308] * 6]]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there are values in JSON."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@pytest.mark.parametrize("kind", ["coco", "label-studio", "youtube-vis"])
def test_any_value_may_be_wrong(tmp_path: Path, kind: str) -> None:
    data: Any = coco_file() if kind == "coco" else [task()]
    if kind == "youtube-vis":
        video = {"id": 1, "height": HEIGHT, "width": WIDTH, "length": COUNT, "file_names": ["a/00000.jpg"] * COUNT}
        runs = [coco_file()["annotations"][0]["segmentation"]]
        entry = {"id": 1, "video_id": 1, "category_id": 1, "segmentations": runs * COUNT, "areas": [12] * COUNT}
        data = {"videos": [video], "categories": [{"id": 1, "name": "dog"}], "annotations": [entry]}
    spots = [path for path in places(data) if not isinstance(path[-1], int) or path[-1] < 1]
    outcomes = {"read": 0, "refused": 0}
    for path in spots:
        for junk in JUNK:
            changed = json.loads(json.dumps(data))
            parent = changed
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = junk
            file = save(tmp_path / "a.json", changed)
            try:
                found = read_annotations(file, VIDEO)
                for frame in found.frames:
                    assert found.labels(frame).shape == found.size
                outcomes["read"] += 1
            except MaskError as error:
                assert "\n" not in str(error)
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 10, outcomes


def test_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("annotations.xml", " " * 10_000_000)
    whole = path.read_bytes()
    monkeypatch.setattr("stores.exchange.documents.MAX_BYTES", 2**20)
    assert "annotations.xml is larger than 1 MB" in refused(path)  # 10 MB in 10 KB
    for damaged in (whole[:100], whole.replace(b"annotations.xml", b"annotations.bin"), whole[:60] + whole[70:]):
        path.write_bytes(damaged)
        assert "archive" in refused(path)
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as packed:
        packed.writestr("a.json", "{}")
        packed.writestr("b.json", "{}")
    path.write_bytes(buffer.getvalue())
    assert "2 annotation files" in refused(path)


def test_images_are_no_annotations(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert not any(is_annotations(path) for path in (tmp_path / "a.png", tmp_path, tmp_path / "none"))


def test_which_frames_are_taken() -> None:
    found = Annotations(Path("a"), "COCO", (HEIGHT, WIDTH), ids={"a": 1, "b": 2})
    for frame in range(2, 100):
        found.frames[frame] = []
        for thing, first in (("a", 4), ("b", 57)):
            if frame >= first:
                found.add(frame, Region(thing, lambda h, w: np.ones((h, w), bool), Place(Path("a")), frame % 2 == 1))
    assert select(found, "all") == list(range(4, 100))
    assert select(found, "keyframes") == list(range(5, 100, 2))
    taken = select(found, "5")
    assert len(taken) == 5 and {5, 57, 99} <= set(taken) and np.diff(taken).max() < 40
    assert select(found, "1") == [5, 57]  # the beginning of an object is never left out
    assert select(found) == sorted(set(select(found))) and len(select(found)) == 10
