"""Exports for other tools: each is checked by rules of its own format, and read back."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zarr
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipelines import flow
from pipelines.stages.encode import encode
from pipelines.stages.exports.ome_zarr import level_sizes, middle_pixels
from pipelines.stages.outputs import FORMATS, Item, Job
from stores.errors import UsageError
from stores.exchange import Timeline, is_annotations, read_annotations
from stores.exchange.brush import unpack_mask
from stores.exchange.names import keep_names, object_names
from stores.exchange.runs import from_run_lengths
from stores.masks import davis_palette
from stores.session import RoundRecord, Session
from stores.video import SourceInfo, probe, read_frames
from tests.pipelines.test_encode import make_session
from tests.stores.media import picture, warnings_of, write_video

COUNT, HEIGHT, WIDTH, MISSING, EMPTY = 6, 48, 64, 1, 4
TOOLS = ("coco", "youtube-vis", "cvat", "label-studio", "ome-zarr")
INSIDE = {"label-studio": "tasks.json"}
NAMES = {3: "dog & <cat>", 7: "object 7"}


class Made:
    """A session with objects 3 and 7, not computed on frame 1, empty on frame 4, and its exports."""

    def __init__(self, root: Path) -> None:
        self.video = write_video(root / "clip.mp4", pts=range(COUNT), size=(HEIGHT, WIDTH))
        self.session = root / "session"
        self.truth = {i: self.labels(i) for i in range(COUNT) if i != MISSING}
        frames = list(read_frames(self.video))
        with Session.create(self.session, probe(self.video), height=HEIGHT, width=WIDTH) as session:
            for frame in frames:
                session.write_frame(frame)
            session.finish_frames()
            session.begin_round()
            session.add_object_ids([3, 7])
            for index, labels in self.truth.items():
                session.write_probs(index, np.stack([labels == 0, labels == 3, labels == 7]).astype(np.float32))
            session.commit_round(RoundRecord(number=1, kind="masks", frame=0, objects=(3, 7)))
            keep_names(self.session, NAMES, lambda number: "#102030")
            self.files = {name: Path(path) for name, path in encode(session, root / "out", formats=TOOLS).items()}

    @staticmethod
    def labels(index: int) -> np.ndarray:
        """A ring with a hole and loose pixels; 7 comes on frame 2 and touches every edge of the picture."""
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        if index != EMPTY:
            cv2.circle(labels, (20 + index, 24), 9, 3, 3)
            labels[40, 3:20:2] = 3
            if index >= 2:
                labels[0] = labels[-1] = 7
                labels[:, 0] = labels[:, -1] = 7
        return labels


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


TIMELINE = Timeline(COUNT, None, "clip", ((HEIGHT, WIDTH),))


@pytest.mark.parametrize("tool", TOOLS)
def test_what_was_exported_is_read_back(made: Made, tool: str) -> None:
    path = made.files[tool] / INSIDE.get(tool, "")
    assert is_annotations(path)
    found = read_annotations(path, TIMELINE)
    assert sorted(found.frames) == sorted(made.truth)
    assert found.frames[EMPTY] == [] and MISSING not in found.frames
    assert sorted(found.ids.values()) == [3, 7] and found.names == NAMES
    for index, labels in made.truth.items():
        assert np.array_equal(found.labels(index), labels), index


def test_coco_scores_one(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    truth = COCO(str(made.files["coco"]))
    results = [
        {k: a[k] for k in ("image_id", "category_id", "segmentation")} | {"score": 1} for a in truth.anns.values()
    ]
    found = truth.loadRes(results)
    for annotation in truth.anns.values():
        assert annotation["iscrowd"] == 0 and annotation["area"] == truth.annToMask(annotation).sum()
        loaded = found.anns[annotation["id"]]
        assert list(loaded["bbox"]) == annotation["bbox"] and loaded["area"] == annotation["area"]
    scores = COCOeval(truth, found, "segm")
    scores.evaluate()
    scores.accumulate()
    scores.summarize()
    assert scores.stats[0] == scores.stats[1] == scores.stats[8] == 1
    assert {c["id"]: c["name"] for c in truth.dataset["categories"]} == NAMES
    capsys.readouterr()


def test_youtube_vis_has_what_its_readers_use(made: Made) -> None:
    data = json.loads(made.files["youtube-vis"].read_text())
    assert {"info", "licenses", "videos", "categories", "annotations"} == set(data)
    (video,) = data["videos"]
    assert (video["width"], video["height"], video["length"]) == (WIDTH, HEIGHT, COUNT)
    assert len(video["file_names"]) == COUNT and video["computed_frames"] == [[0, 0], [2, 5]]
    categories = {category["id"]: category["name"] for category in data["categories"]}
    assert categories == NAMES and [a["id"] for a in data["annotations"]] == [3, 7]
    for annotation in data["annotations"]:
        assert annotation["video_id"] == video["id"] and annotation["category_id"] in categories
        assert annotation["iscrowd"] == 0 and (annotation["height"], annotation["width"]) == (HEIGHT, WIDTH)
        lists = [annotation[key] for key in ("segmentations", "bboxes", "areas")]
        assert [len(values) for values in lists] == [COUNT] * 3
        for index, (segmentation, box, area) in enumerate(zip(*lists, strict=True)):
            if index == MISSING:
                assert segmentation is box is area is None
                continue
            mask = rle.decode(segmentation)
            assert np.array_equal(mask, made.truth[index] == annotation["id"])
            assert area == mask.sum() and box == list(rle.toBbox(segmentation))


def test_cvat_is_what_its_importer_reads(made: Made) -> None:
    root = ElementTree.parse(made.files["cvat"]).getroot()
    assert root.tag == "annotations" and root.findtext("version") == "1.1"
    task = root.find("meta/task")
    assert task is not None
    assert (task.findtext("size"), task.findtext("mode"), task.findtext("stop_frame")) == ("6", "interpolation", "5")
    assert (task.findtext("original_size/width"), task.findtext("original_size/height")) == ("64", "48")
    labels = {label.findtext("name"): label.findtext("type") for label in task.iter("label")}
    assert labels == dict.fromkeys(NAMES.values(), "mask")
    images = root.findall("image")
    assert [image.get("id") for image in images] == [str(index) for index in made.truth]
    for image in images:
        index = int(image.get("id") or "")
        assert image.get("name") == f"frame_{index:06d}.png" and image.get("width") == "64"
        drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
        for mask in image:
            attributes = dict(mask.attrib)
            x, y, width, height = (int(attributes[name]) for name in ("left", "top", "width", "height"))
            lengths = [int(value) for value in attributes["rle"].split(",")]
            inside = from_run_lengths(lengths, width * height).reshape(height, width)
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            assert attributes["label"] == NAMES[int(attributes["group_id"])]
            assert {attributes["occluded"], attributes["z_order"]} == {"0"} and attributes["source"] == "auto"
            drawn[y : y + height, x : x + width][inside] = int(attributes["group_id"])
        assert np.array_equal(drawn, made.truth[index])


def test_label_studio_tasks_fit_the_interface(made: Made) -> None:
    folder = made.files["label-studio"]
    view = ElementTree.parse(folder / "labels.xml").getroot()
    assert [label.get("value") for label in view.iter("Label")] == list(NAMES.values())
    (control,), (media,) = view.findall("BrushLabels"), view.findall("Image")
    tasks = json.loads((folder / "tasks.json").read_text())
    for task, (index, labels) in zip(tasks, made.truth.items(), strict=True):
        image = folder / "images" / f"{index:05d}.png"
        assert task["data"]["image"] == f"/data/local-files/?d=label-studio/images/{image.name}"
        assert (media.get("value") or "")[1:] in task["data"]
        assert np.array_equal(np.asarray(Image.open(image)), list(read_frames(made.video))[index].image)
        (prediction,) = task["predictions"]
        assert len(prediction["result"]) == len(np.unique(labels)) - 1
        for result in prediction["result"]:
            assert (result["from_name"], result["to_name"]) == (control.get("name"), media.get("name"))
            assert (result["type"], result["value"]["format"]) == ("brushlabels", "rle")
            assert (result["original_width"], result["original_height"]) == (WIDTH, HEIGHT)
            (name,) = result["value"]["brushlabels"]
            number = next(number for number, known in NAMES.items() if known == name)
            assert np.array_equal(unpack_mask(result["value"]["rle"], HEIGHT, WIDTH), labels == number)


def test_label_studio_boxes_on_the_video(made: Made) -> None:
    folder = made.files["label-studio"]
    (task,) = json.loads((folder / "video.json").read_text())
    assert task["data"] == {"video": "/data/local-files/?d=clip.mp4"}
    view = ElementTree.parse(folder / "video.xml").getroot()
    assert {child.tag for child in view} == {"Video", "VideoRectangle", "Labels"}
    ring, frame = (result["value"] for result in task["predictions"][0]["result"])
    assert ring["framesCount"] == COUNT and ring["duration"] == pytest.approx(COUNT / 30)
    # frames count from 1; a stretch ends with the last frame of the object
    assert [(e["frame"], e["enabled"]) for e in ring["sequence"]] == [(1, False), (3, True), (4, False), (6, False)]
    assert [e["frame"] for e in frame["sequence"]] == [3, 4, 6]
    assert frame["sequence"][0] | {"time": 0} == {
        "frame": 3, "time": 0, "x": 0, "y": 0, "width": 100, "height": 100, "rotation": 0, "enabled": True,
    }  # fmt: skip


def test_ome_zarr_keeps_the_musts(made: Made) -> None:
    root = zarr.open_group(made.files["ome-zarr"], mode="r")
    assert root.metadata.zarr_format == 3
    ome: Any = root.attrs["ome"]
    check_multiscale(root, ome, "tcyx")
    assert len(ome["omero"]["channels"]) == 3
    assert all(set(c["window"]) == {"start", "end", "min", "max"} for c in ome["omero"]["channels"])
    listed: Any = root["labels"].attrs["ome"]
    assert listed == {"version": "0.5", "labels": ["objects"]}
    group = zarr.open_group(made.files["ome-zarr"] / "labels" / "objects", mode="r")
    about: Any = group.attrs["ome"]
    check_multiscale(group, about, "tyx")
    assert len(about["multiscales"][0]["datasets"]) == len(ome["multiscales"][0]["datasets"])
    label = about["image-label"]
    assert label["source"] == {"image": "../../"} and label["version"] == "0.5"
    values = [entry["label-value"] for entry in label["colors"]]
    assert values == [entry["label-value"] for entry in label["properties"]] == [0, 3, 7]
    assert [entry["rgba"] for entry in label["colors"]][1] == [*davis_palette()[3].tolist(), 255]
    assert [entry["name"] for entry in label["properties"]] == ["background", *NAMES.values()]
    assert group.attrs["mivos"] == {"frames": [[0, 0], [2, 5]]}
    for index, frame in enumerate(read_frames(made.video)):
        assert np.array_equal(np.asarray(root["0"][index]), frame.image.transpose(2, 0, 1))  # type: ignore[index]
    small: Any = group["1"]
    assert all(np.array_equal(small[i], middle_pixels(labels, 24, 32)) for i, labels in made.truth.items())
    folder = made.files["ome-zarr"] / "labels" / "objects" / "0" / "c"
    assert sorted(int(chunk.name) for chunk in folder.iterdir()) == sorted(made.truth)  # an empty mask has a chunk


def check_multiscale(group: zarr.Group, ome: Any, names: str) -> None:
    assert ome["version"] == "0.5"
    (scales,) = ome["multiscales"]
    assert {"name", "type", "metadata"} <= set(scales)
    types = {"t": "time", "c": "channel", "y": "space", "x": "space"}
    assert [(axis["name"], axis["type"]) for axis in scales["axes"]] == [(name, types[name]) for name in names]
    assert scales["axes"][0]["unit"] == "second"
    first: Any = group[scales["datasets"][0]["path"]]
    sizes = []
    for dataset in scales["datasets"]:
        array: Any = group[dataset["path"]]
        assert array.dtype == np.uint8 and array.metadata.dimension_names == tuple(names)
        scale, translation = dataset["coordinateTransformations"]
        assert (scale["type"], translation["type"]) == ("scale", "translation")
        assert len(scale["scale"]) == len(translation["translation"]) == array.ndim == len(names)
        assert scale["scale"][0] == pytest.approx(1 / 30)
        assert np.multiply(scale["scale"][-2:], array.shape[-2:]).tolist() == list(first.shape[-2:])
        sizes.append(array.shape[-1])
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)


def test_levels() -> None:
    assert level_sizes(480, 854) == [(480, 854), (240, 427), (120, 214)]
    assert level_sizes(20, 500) == [(20, 500)]
    labels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    assert np.array_equal(middle_pixels(labels, 5, 7), labels)
    assert middle_pixels(labels, 3, 4).tolist() == [[0, 2, 4, 6], [14, 16, 18, 20], [28, 30, 32, 34]]


def test_image_folders_are_named_by_their_files(tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    for index, name in enumerate(["b9.png", "b10.png", "b11.png"]):
        cv2.imwrite(str(folder / name), picture(index)[..., ::-1])
    with make_session(tmp_path / "session", folder) as session:
        out = {name: Path(path) for name, path in encode(session, tmp_path / "out", formats=TOOLS).items()}
        expected = [session.source.frame_name(i) for i in range(3)]
    timeline = Timeline(3, expected, "shots", ((48, 64),))
    for tool, path in out.items():
        assert sorted(read_annotations(path / INSIDE.get(tool, ""), timeline).frames) == [0, 1, 2], tool
    assert [i.get("name") for i in ElementTree.parse(out["cvat"]).getroot().iter("image")] == [
        "b9.png", "b10.png", "b11.png"
    ]  # fmt: skip
    assert sorted(p.name for p in out["label-studio"].iterdir()) == ["labels.xml", "tasks.json"]
    task = json.loads((out["label-studio"] / "tasks.json").read_text())[1]
    assert task["data"]["image"] == "/data/local-files/?d=shots/b10.png"


@pytest.mark.parametrize("tool", TOOLS)
def test_names_that_no_xml_can_hold(tool: str, tmp_path: Path) -> None:
    """A file's name may be bytes that are no text, and an object's come from other tools."""
    source = SourceInfo("/x/a\udcff\x01.mp4", "video", "0" * 64, 8, 6)
    sink = FORMATS[tool](tmp_path / "out", Job(source, (3,), np.ones(1, bool), None, {3: "ca\x01r"}))
    with sink:
        sink.write(Item(0, "00000", 0, np.full((6, 8), 3, np.uint8), np.zeros((6, 8, 3), np.uint8)))
    folder = tmp_path / "out"
    files = [folder] if folder.is_file() else [p for p in folder.glob("*.*") if p.suffix in (".xml", ".json")]
    for path in files:
        if path.suffix == ".xml" or tool == "cvat":
            root = ElementTree.parse(path).getroot()
            assert "ca\ufffdr" in [value for tag in root.iter() for value in (*tag.attrib.values(), tag.text)]
        else:
            json.loads(path.read_text(encoding="utf-8"))


def test_names_are_different_and_kept(tmp_path: Path) -> None:
    assert object_names(tmp_path, [1, 2]) == {1: "object 1", 2: "object 2"}
    keep_names(tmp_path, {1: " dog ", 2: "dog", 3: "Object 9"}, lambda number: "#000000")
    keep_names(tmp_path, {1: "cat", 4: "tree"}, lambda number: "#000000")  # a name is not replaced
    assert object_names(tmp_path, [1, 2, 3, 4]) == {1: "dog", 2: "dog (2)", 3: "object 3", 4: "tree"}
    keep_names(tmp_path, {5: "dog (6)", 6: "dog"}, lambda number: "#000000")
    assert len(set(object_names(tmp_path, [1, 5, 6]).values())) == 3
    (tmp_path / "desk" / "desk.json").write_text("[")
    assert object_names(tmp_path, [1]) == {1: "object 1"}
    keep_names(tmp_path, {1: "x"}, lambda number: "#000000")


# ---- imported masks are interactions


@pytest.fixture
def fresh(made: Made, tmp_path: Path) -> Iterator[Path]:
    flow.decode(made.video, tmp_path / "fresh", size=None)
    yield tmp_path / "fresh"


def rounds(path: Path) -> list[tuple[str, int, tuple[int, ...]]]:
    with Session.open(path) as session:
        return [(record.kind, record.frame, record.objects) for record in session.rounds]


def test_masks_of_a_tool_become_rounds(made: Made, fresh: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = flow.ModelChoice(engine="torch")  # compiles nothing
    flow.run_rounds(fresh, masks=made.files["cvat"], import_frames="2", model=model)
    assert rounds(fresh) == [("masks", 0, (3,)), ("masks", 2, (3, 7))]
    (warning,) = warnings_of(caplog)
    assert "taken are 0, 2; 3 are left out" in warning
    with Session.open(fresh) as session:
        assert session.object_ids == (3, 7)
        for index in (0, 2):
            mask = session.mask(index)
            assert mask is not None
            assert np.array_equal(np.array([0, 3, 7])[mask], made.truth[index])
        assert object_names(session.path, session.object_ids) == NAMES
    again = flow.run_rounds(fresh, masks=made.files["cvat"], import_frames="2", model=model)
    assert [stage.skipped for stage in again] == [True, True]
    flow.interact(fresh, masks=made.files["coco"], import_frames="all", model=model)  # equal masks are not done twice
    flow.propagate(fresh, model=model)
    flow.fuse(fresh, model=model)
    assert rounds(fresh)[2:] == [("masks", 3, (3, 7))]


def test_a_wrong_choice_of_frames(made: Made, tmp_path: Path) -> None:
    for rule in ("none", "0", "-1", "1.5", "99999999"):
        with pytest.raises(UsageError, match="no choice of frames"):
            flow.segment(made.video, tmp_path / "out", masks=made.files["coco"], import_frames=rule)
    assert not (tmp_path / "out").exists()
