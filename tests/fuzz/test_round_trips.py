"""What is written is read back equal, for every writer of a file that readers here take."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stores.masks import read_mask, write_mask
from stores.scribbles import Interaction, ScribbleFile, Stroke, read_scribbles, write_scribbles
from tests.fuzz import documents
from tests.fuzz.conftest import CASES
from tests.fuzz.sandbox import TALLIES, Tally

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def repeated(share: float) -> Callable[[Any], Any]:
    """Settings for `share` cases of 100."""
    return settings(
        max_examples=max(1, round(CASES * share / 100)),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def count() -> None:
    TALLIES.setdefault("round trips", Tally()).counts["value"] += 1


strokes = st.builds(
    lambda path, number, times: Stroke(np.array(path), number, *times),
    documents.paths,
    st.integers(0, 255),
    st.tuples(st.one_of(st.none(), st.floats(-1e9, 1e12)), st.one_of(st.none(), st.floats(0, 1))),
)
interactions = st.builds(Interaction, st.integers(0, 6), st.lists(strokes, min_size=1, max_size=3).map(tuple))
maps = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(1, 255))


@repeated(3)
@given(name=st.text(max_size=8), work=st.lists(interactions, min_size=1, max_size=5))
def test_scribbles(name: str, work: list[Interaction], tmp_path_factory: pytest.TempPathFactory) -> None:
    count()
    path = tmp_path_factory.getbasetemp() / "s.json"
    given_file = ScribbleFile(name, 7, tuple(work))
    write_scribbles(path, given_file)
    assert read_scribbles(path, num_frames=7) == given_file


@repeated(3)
@given(case=maps, own=st.booleans())
def test_masks_and_palettes(
    case: tuple[int, int, int, int], own: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    count()
    height, width, seed, top = case
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, top, (height, 1), np.uint8), width, axis=1)
    palette = rng.integers(0, 256, (256, 3), np.uint8) if own and len(np.unique(labels)) <= 16 else None
    path = tmp_path_factory.getbasetemp() / "mask.png"
    write_mask(path, labels, palette)
    mask = read_mask(path, size=(height, width))
    np.testing.assert_array_equal(mask.labels, labels)
    assert mask.palette is not None and (palette is None or np.array_equal(mask.palette, palette))


@repeated(1)
@given(scene=documents.scenes, change=st.floats(-1e6, 1e6))
def test_scenes(scene: dict[str, Any], change: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    from blender.scene_file import read_scene, write_scene

    count()
    path = tmp_path_factory.getbasetemp() / "scene.json"
    scene = {**scene, "camera": {**scene["camera"], "fov": change}}
    path.write_text(json.dumps(scene))
    first = read_scene(path)
    write_scene(path, first)
    assert read_scene(path) == first and first.camera.fov == change


@repeated(1)
@given(rows=st.lists(documents.names, min_size=1, max_size=5, unique_by=str.casefold))
def test_manifests_say_the_same_in_both_forms(rows: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    from stores.manifest import read_manifest

    count()
    folder: Path = tmp_path_factory.getbasetemp()
    for name in ("clip.mp4", "s.json"):
        (folder / name).touch()
    as_rows = [{"video": "clip.mp4", "scribbles": "s.json", "name": name, "size": 240} for name in rows]
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, as_rows)))
    lines = ["video,scribbles,name,size", *(f"clip.mp4,s.json,{name},240" for name in rows)]
    (folder / "m.csv").write_text("\n".join(lines), encoding="utf-8")
    first, second = read_manifest(folder / "m.jsonl"), read_manifest(folder / "m.csv")
    assert [(i.name, i.video, i.options) for i in first] == [(i.name, i.video, i.options) for i in second]
    assert [item.name for item in first] == rows
