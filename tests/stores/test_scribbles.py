"""Scribble files and the rasteriser, on the real robot scribbles and the golden vectors."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stores import scribbles as module
from stores.errors import ScribbleError, StorageFullError
from stores.scribbles import (
    Interaction,
    ScribbleFile,
    Stroke,
    rasterise,
    read_scribbles,
    write_scribbles,
)

STROKE = {"path": [[0.1, 0.2], [0.3, 0.4]], "object_id": 1, "start_time": 0, "end_time": 5}
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def davis(*frames: Any, sequence: str = "demo") -> dict[str, Any]:
    return {"sequence": sequence, "scribbles": list(frames)}


def save(tmp_path: Path, data: Any) -> Path:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(data))
    return path


def golden_strokes(entry: dict[str, Any]) -> list[Stroke]:
    return [Stroke(np.array(s["path"]), s["object_id"]) for frame in entry["scribbles"] for s in frame]


def test_rasterise_equals_golden(golden: Path) -> None:
    with np.load(golden / "scribbles2mask.npz") as data:
        entries = json.loads(str(data["scribbles_json"]))
        assert len(entries) == 8
        for n, entry in enumerate(entries):
            strokes = golden_strokes(entry)
            for height, width in ((100, 138), (112, 144)):
                drawn = rasterise(strokes, height, width)
                assert drawn.dtype == np.int16
                np.testing.assert_array_equal(drawn, data[f"raster_{n}_{height}x{width}"])
            large = np.full((480, 854), -1)
            y, x, value = data[f"pts_{n}_480x854"].astype(int).T
            large[y, x] = value
            np.testing.assert_array_equal(rasterise(strokes, 480, 854), large)
        strokes = golden_strokes(entries[0])
        np.testing.assert_array_equal(rasterise(strokes, 100, 138, bezier=True), data["raster_0_bezier_100x138"])
        np.testing.assert_array_equal(rasterise(strokes, 100, 138, lines=False), data["raster_0_nobres_100x138"])


def test_rasterise_real_stroke_is_quick(shared_data: Path) -> None:
    strokes = read_scribbles(shared_data / "Scribbles" / "bear" / "001.json").interactions[0].strokes
    assert sum(len(s.path) for s in strokes) >= 1000
    times = []
    for _ in range(5):
        start = time.perf_counter()
        rasterise(strokes, 480, 854)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02


def test_rasterise_splits_long_strokes_without_a_seam() -> None:
    path = np.random.default_rng(0).random((50, 2))
    whole = rasterise([Stroke(path, 3)], 60, 80)
    pairs = [Stroke(path[i : i + 2], 3) for i in range(49)]
    np.testing.assert_array_equal(whole, rasterise(pairs, 60, 80))
    long = rasterise([Stroke(np.tile(path, (80, 1)), 3)], 60, 80)  # 4,000 points need several steps
    assert ((whole == 3) <= (long == 3)).all()


def test_later_strokes_overwrite_and_single_points_show() -> None:
    line = Stroke(np.array([[0.0, 0.5], [1.0, 0.5]]), 2)
    point = Stroke(np.array([[0.5, 0.5]]), 0)
    drawn = rasterise([line, point], 11, 21)
    assert drawn[5].tolist() == [2] * 10 + [0] + [2] * 10
    assert (drawn >= 0).sum() == 21
    assert (rasterise([], 4, 5) == -1).all()


@FEW
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 255),
    st.booleans(),
)
def test_rasterise_stays_inside_and_connected(
    points: list[tuple[float, float]], height: int, width: int, object_id: int, bezier: bool
) -> None:
    drawn = rasterise([Stroke(np.array(points), object_id)], height, width, bezier=bezier)
    assert drawn.shape == (height, width)
    assert set(np.unique(drawn)) <= {-1, object_id}
    ends = [(int(y * (height - 1)), int(x * (width - 1))) for x, y in (points[0], points[-1])]
    assert all(drawn[end] == object_id for end in ends)
    # One pixel wide lines without gaps: every drawn pixel is reached from the first in steps of one.
    todo, seen = [ends[0]], {ends[0]}
    while todo:
        y, x = todo.pop()
        near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} - seen
        new = [p for p in near if 0 <= p[0] < height and 0 <= p[1] < width and drawn[p] >= 0]
        seen.update(new)
        todo.extend(new)
    assert len(seen) == (drawn >= 0).sum()


def test_all_real_files_read_and_round_trip(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "Scribbles").glob("*/*.json"))
    assert files
    for file in files:
        frames = len(list((shared_data / "JPEGImages" / "480p" / file.parent.name).glob("*.jpg")))
        scribbles = read_scribbles(file, num_frames=frames)
        assert scribbles.sequence == file.parent.name
        assert scribbles.object_ids
    copy = tmp_path / "copy.json"
    write_scribbles(copy, scribbles)
    assert read_scribbles(copy) == scribbles
    assert [p.name for p in tmp_path.iterdir()] == ["copy.json"]


def test_array_of_rounds_keeps_its_order(shared_data: Path, tmp_path: Path) -> None:
    files = [shared_data / "Scribbles" / "chair" / f"00{n}.json" for n in (3, 1, 3)]
    path = save(tmp_path, [json.loads(file.read_text()) for file in files])
    scribbles = read_scribbles(path, num_frames=60)
    single = [read_scribbles(file).interactions[0] for file in files]
    assert scribbles.interactions == tuple(single)
    copy = tmp_path / "copy.json"
    write_scribbles(copy, scribbles)
    assert read_scribbles(copy) == scribbles


def test_round_field_orders_strokes_of_one_object(tmp_path: Path) -> None:
    second, first = STROKE | {"round": 7, "object_id": 2}, STROKE | {"round": 7, "object_id": 3}
    path = save(tmp_path, davis([second, STROKE, first], [], [STROKE]))
    frames = [(i.frame, [s.object_id for s in i.strokes]) for i in read_scribbles(path).interactions]
    assert frames == [(0, [1]), (2, [1]), (0, [2, 3])]


def test_optional_fields_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    stroke = {"path": [[0, 1]], "object_id": 0, "start_time": None, "note": "ignored"}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(davis([stroke]) | {"annotated_frame": 0}).encode())
    (interaction,) = read_scribbles(path).interactions
    assert interaction.strokes == (Stroke(np.array([[0.0, 1.0]]), 0),)
    assert interaction.object_ids == ()


BAD: list[tuple[Any, list[str]]] = [
    (7, ["sequence"]),
    ([], ["no strokes"]),
    ([davis([STROKE]), 3], ["[1]"]),
    ({"scribbles": [[]]}, ["sequence", "missing"]),
    ({"sequence": "a"}, ["scribbles", "missing"]),
    ({"sequence": 4, "scribbles": []}, ["sequence", "string"]),
    ({"sequence": "a", "scribbles": {}}, ["scribbles", "list"]),
    (davis(), ["no strokes"]),
    (davis([], []), ["no strokes"]),
    (davis([], 5), ["frame 1", "scribbles[1]"]),
    (davis([], [5]), ["frame 1", "scribbles[1][0]"]),
    (davis([], [{"object_id": 1}]), ["frame 1", "scribbles[1][0].path", "missing"]),
    (davis([{"path": [[0, 0]]}]), ["frame 0", "object_id", "missing"]),
    (davis([STROKE | {"path": []}]), ["frame 0", "scribbles[0][0].path", "no points"]),
    (davis([STROKE | {"path": "abc"}]), ["path", "list"]),
    (davis([STROKE | {"path": [[0, 0], [0.5]]}]), ["path[1]", "pair"]),
    (davis([STROKE | {"path": [[0, 0], [0.5, "0.5"]]}]), ["path[1]", "numbers"]),
    (davis([STROKE | {"path": [[True, 0]]}]), ["path[0]", "numbers"]),
    (davis([STROKE | {"path": [[0, 0], [0.5, 1.5]]}]), ["path[1][1]", "1.5", "0..1"]),
    (davis([STROKE | {"path": [[-0.01, 0]]}]), ["path[0][0]", "-0.01", "0..1"]),
    (davis([STROKE | {"path": [[float("nan"), 0]]}]), ["path[0][0]", "nan"]),
    (davis([STROKE | {"path": [[0, float("inf")]]}]), ["path[0][1]", "inf"]),
    (davis([STROKE | {"path": [[10**400, 0]]}]), ["path", "too large"]),
    (davis([STROKE | {"object_id": -1}]), ["object_id", "-1", "0..255"]),
    (davis([STROKE | {"object_id": 256}]), ["object_id", "256", "0..255"]),
    (davis([STROKE | {"object_id": 1.5}]), ["object_id", "integer"]),
    (davis([STROKE | {"object_id": True}]), ["object_id", "integer"]),
    (davis([STROKE | {"object_id": "1"}]), ["object_id", "integer"]),
    (davis([STROKE | {"start_time": "now"}]), ["start_time", "number"]),
    (davis([STROKE | {"end_time": float("nan")}]), ["end_time", "number"]),
    (davis([STROKE | {"end_time": 10**400}]), ["end_time", "number"]),
    (davis([STROKE | {"round": -1}]), ["round"]),
    ([davis([STROKE]), davis([STROKE], [])], ["[1].scribbles", "2 frames"]),
    ([davis([STROKE]), davis([STROKE], sequence="other")], ["[1].sequence", "other"]),
]


@pytest.mark.parametrize(("data", "words"), BAD)
def test_bad_files_get_one_line_that_names_the_field(data: Any, words: list[str], tmp_path: Path) -> None:
    path = save(tmp_path, data)
    with pytest.raises(ScribbleError) as caught:
        read_scribbles(path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in [str(path), *words]), message


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"sequence": "a", ', "not JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 5000, "not JSON"),
    ],
)
def test_not_json(raw: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(raw)
    with pytest.raises(ScribbleError, match=words):
        read_scribbles(path)


def test_wrong_length_missing_folder_and_huge(tmp_path: Path) -> None:
    path = save(tmp_path, davis([STROKE], []))
    with pytest.raises(ScribbleError, match="has 2 frames, but the video has 90"):
        read_scribbles(path, num_frames=90)
    with pytest.raises(ScribbleError, match="No such file"):
        read_scribbles(tmp_path / "none.json")
    with pytest.raises(ScribbleError, match="directory"):
        read_scribbles(tmp_path)
    huge = tmp_path / "huge.json"
    with open(huge, "wb") as file:
        file.truncate(module.MAX_FILE_BYTES + 1)  # sparse: takes no room
    with pytest.raises(ScribbleError, match="larger than 64 MB"):
        read_scribbles(huge)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
stroke_like = st.fixed_dictionaries(
    {
        "path": st.lists(st.lists(st.floats() | st.integers(-1, 2), min_size=1, max_size=3), max_size=3) | json_values,
        "object_id": st.integers(-2, 300) | json_values,
    },
    optional={"start_time": json_values, "end_time": json_values, "round": st.integers(-1, 3) | json_values},
)
file_like = st.fixed_dictionaries(
    {
        "sequence": st.text(max_size=5) | json_values,
        "scribbles": st.lists(st.lists(stroke_like, max_size=2), max_size=3) | json_values,
    }
)


@FEW
@given(json_values | file_like | st.lists(file_like, max_size=2))
def test_any_json_is_read_or_refused_in_one_line(tmp_path: Path, data: Any) -> None:
    path = save(tmp_path, data)
    try:
        scribbles = read_scribbles(path)
    except ScribbleError as error:
        assert len(str(error).splitlines()) == 1
    else:
        write_scribbles(path, scribbles)
        assert read_scribbles(path) == scribbles


unit = st.floats(0, 1)
strokes = st.builds(
    lambda points, object_id, start: Stroke(np.array(points, dtype=np.float64), object_id, start),
    st.lists(st.tuples(unit, unit), min_size=1, max_size=3),
    st.integers(0, 255),
    st.none() | st.floats(0, 1e9),
)


@FEW
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(strokes, min_size=1, max_size=2)), min_size=1, max_size=5))
def test_write_then_read_gives_the_same(tmp_path: Path, items: list[tuple[int, list[Stroke]]]) -> None:
    scribbles = ScribbleFile("s", 4, tuple(Interaction(frame, tuple(drawn)) for frame, drawn in items))
    write_scribbles(tmp_path / "s.json", scribbles)
    assert read_scribbles(tmp_path / "s.json", num_frames=4) == scribbles


def test_write_refuses_what_read_would(tmp_path: Path) -> None:
    good = Stroke(np.array([[0.5, 0.5]]), 1)
    bad: list[tuple[tuple[Interaction, ...], str]] = [
        ((), "no strokes"),
        ((Interaction(3, (good,)),), "outside 0..2"),
        ((Interaction(0, ()),), "no strokes"),
        ((Interaction(0, (Stroke(np.array([[2.0, 0.0]]), 1),)),), "0..1"),
        ((Interaction(0, (Stroke(np.zeros(3), 1),)),), "shape"),
    ]
    for interactions, words in bad:
        with pytest.raises(ScribbleError, match=words):
            write_scribbles(tmp_path / "s.json", ScribbleFile("s", 3, interactions))
    assert not list(tmp_path.iterdir())
    with pytest.raises(StorageFullError, match="No such file"):
        write_scribbles(tmp_path / "no" / "s.json", ScribbleFile("s", 1, (Interaction(0, (good,)),)))
