"""Every reader against thousands of damaged, lying and hostile files; `make fuzz` prints how many there were.

Each case ends in a value of which `readers` asserts what must hold, or in one error line that names the file. It may
take 5 s of the processor and 1.5 GB of memory, and may do nothing but read.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.fuzz import documents
from tests.fuzz.clips import video_files
from tests.fuzz.conftest import CASES
from tests.fuzz.damage import damaged, edited, hostile_text, json_files
from tests.fuzz.pictures import PICTURES, SOUND, encoded, mask_files, picture_files
from tests.fuzz.sandbox import Sandbox
from tests.fuzz.weights import weight_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore:Duplicate name"),  # wanted: archives that say a thing twice
]
Put = Callable[[Path, Any], Path]  # writes a case, returns what is read


def plain(name: str) -> Put:
    """The case is the content of one file."""

    def put(folder: Path, data: bytes) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    return put


def by_suffix(folder: Path, case: tuple[str, bytes]) -> Path:
    path = folder / f"case.{case[0]}"
    path.write_bytes(case[1])
    return path


def image_folder(folder: Path, case: list[tuple[str, bytes]]) -> Path:
    path = _fresh(folder / "images")
    for index, (suffix, data) in enumerate(case):
        (path / f"{index}.{suffix}").write_bytes(data)
    return path


def youtube_folder(folder: Path, meta: bytes) -> Path:
    path = folder / "youtube"
    images = path / "valid" / "JPEGImages" / "v"
    images.mkdir(parents=True, exist_ok=True)
    (images / "00000.jpg").touch()
    (path / "valid" / "meta.json").write_bytes(meta)
    return path


def davis_folder(folder: Path, case: tuple[bytes, bytes]) -> Path:
    path = folder / "davis"
    for kind, name in (("JPEGImages", "00000.jpg"), ("Annotations", "00000.png")):
        inner = path / kind / "480p" / "bear"
        inner.mkdir(parents=True, exist_ok=True)
        (inner / name).write_bytes(case[1])
    lists = path / "ImageSets" / "2017"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "val.txt").write_bytes(case[0])
    return path


def zarr_folder(folder: Path, case: dict[str, bytes]) -> Path:
    path = _fresh(folder / "labels.zarr")
    for name, data in case.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def _fresh(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    for file in sorted(path.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    return path


def zipped(data: bytes, name: str) -> bytes:
    """An archive with one member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


ZARR = {
    "zarr_format": 3, "node_type": "array", "shape": [5, 12, 16], "data_type": "uint8", "attributes": {},
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 12, 16]}}, "fill_value": 0,
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "codecs": [{"name": "bytes"}],
}  # fmt: skip
AXES = [{"name": name, "type": "space"} for name in "tyx"]
GROUP = {
    "zarr_format": 3, "node_type": "group",
    "attributes": {"ome": {"version": "0.5", "multiscales": [{"axes": AXES, "datasets": [{"path": "0"}]}],
                           "image-label": {"properties": [{"label-value": 1, "name": "dog"}]}},
                   "mivos": {"frames": [[0, 4]]}},
}  # fmt: skip
zarr_files = st.fixed_dictionaries(
    {
        "zarr.json": st.one_of(st.just(json.dumps(GROUP).encode()), json_files(st.just(GROUP))),
        "0/zarr.json": st.one_of(st.just(json.dumps(ZARR).encode()), json_files(st.just(ZARR))),
        "0/c/0/0/0": st.sampled_from([bytes([1] * 192), bytes([1] * 192), bytes(192), b"", bytes(50)]),
    }
)
one_picture = st.tuples(st.sampled_from(["jpg", "png"]), st.just(encoded("JPEG")))
annotation_files = st.one_of(
    json_files(documents.annotations),
    damaged(documents.CVAT.encode()),
    st.sampled_from([documents.ENTITIES.encode(), b"<a>" * 100_000, b"<annotations>"]),
    st.tuples(json_files(documents.annotations), st.sampled_from(["a.json", "../../a.json", "a.xml", "\x1b.json"])).map(
        lambda case: zipped(*case)
    ),
    st.just(zipped(bytes(300 * 2**20), "bomb.json")),
    damaged(zipped(documents.CVAT.encode(), "annotations.xml")),
)
names = st.lists(st.one_of(st.just("bear"), st.just("bear"), hostile_text), min_size=1, max_size=3).map(
    lambda found: "\n".join(found).encode(errors="replace")
)
manifest_files = st.one_of(
    st.tuples(st.just("csv"), damaged(documents.ROWS.encode())),
    st.tuples(st.just("csv"), st.binary(max_size=100)),
    st.tuples(
        st.just("jsonl"),
        st.lists(edited({"video": "clip.mp4", "scribbles": "s.json", "name": "a"}), max_size=3).map(
            lambda rows: "\n".join(map(json.dumps, rows)).encode()
        ),
    ),
    st.tuples(st.just("jsonl"), json_files(documents.row)),
)

# target -> (cases of 100, strategy, how a case becomes a file)
TARGETS: dict[str, tuple[float, st.SearchStrategy[Any], Put]] = {
    "scribbles": (14, json_files(documents.scribbles), plain("s.json")),
    "masks": (16, mask_files, plain("mask.png")),
    "pictures": (8, st.one_of(st.tuples(picture_files), st.tuples(one_picture, picture_files)), image_folder),
    "videos": (10, video_files(), by_suffix),
    "checkpoints": (12, weight_files, plain("net.pth")),
    "scenes": (8, json_files(documents.scenes), plain("scene.json")),
    "youtube": (6, json_files(documents.meta), youtube_folder),
    "davis": (4, st.tuples(names, st.one_of(st.sampled_from(SOUND), mask_files)), davis_folder),
    "records": (6, json_files(documents.record), plain("record.json")),
    "actions": (8, json_files(st.one_of(documents.action, documents.bodies)), plain("action.json")),
    "manifests": (8, manifest_files, by_suffix),
    "annotations": (10, annotation_files, plain("labels.json")),
    "zarrs": (3, zarr_files, zarr_folder),
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_value_or_one_line(target: str, place: Path) -> None:
    share, strategy, put = TARGETS[target]
    (place / "clip.mp4").touch()
    (place / "s.json").touch()
    before = {path.name for path in place.parent.iterdir()}

    with Sandbox(target) as sandbox:

        @settings(
            max_examples=max(1, round(CASES * share / 100)),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def case(data: Any) -> None:
            sandbox.run(put(place, data))

        case()
    assert {path.name for path in place.parent.iterdir()} == before, "something was written outside"


def test_the_largest_mask_fits_into_memory(place: Path) -> None:
    """8192 x 8192 pixels of colour with alpha, the most that a file may claim; slower than other cases may be."""
    import numpy as np
    from PIL import Image

    values = np.zeros((8192, 8192, 4), np.uint8)
    values[..., 3] = 255
    values[:1000, :1000, 0] = 128  # object 1 of DAVIS
    Image.fromarray(values).save(place / "mask.png", compress_level=1)
    script = (
        "from pathlib import Path; from stores.masks import read_mask; from tests.fuzz.worker import bound_memory;"
        "bound_memory(); print(read_mask(Path('mask.png')).ids, read_mask(Path('mask.png'), snap=True).ids)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "(1,) (1,)\n", done.stderr


def test_the_seeds_are_sound(place: Path) -> None:
    """Otherwise every case would be refused at the door."""
    from tests.fuzz.clips import seeds as clips
    from tests.fuzz.weights import seeds as weights

    with Sandbox("videos") as sandbox:
        assert {sandbox.run(by_suffix(place, case)) for case in clips()} == {"value"}
    with Sandbox("pictures") as sandbox:
        assert sandbox.run(image_folder(place, [PICTURES[1]])) == "value"
    with Sandbox("annotations") as sandbox:
        assert sandbox.run(plain("a.xml")(place, documents.CVAT.encode())) == "value"
    with Sandbox("zarrs") as sandbox:
        whole = {"zarr.json": json.dumps(GROUP).encode(), "0/zarr.json": json.dumps(ZARR).encode()}
        assert sandbox.run(zarr_folder(place, {**whole, "0/c/0/0/0": bytes([1] * 192)})) == "value"
    with Sandbox("manifests") as sandbox:
        (place / "clip.mp4").touch()
        (place / "s.json").touch()
        assert sandbox.run(by_suffix(place, ("csv", documents.ROWS.encode()))) == "value"
    assert len(weights()) == 8
