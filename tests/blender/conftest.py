"""The renderer, where there is one, and a small set that it rendered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blender.environment import SETUP, Renderer, find_renderer
from blender.render import RenderOptions, RenderReport, render_bl30k
from blender.scene import Camera, Light, Scene, SceneObject, Sky
from blender.scene_file import write_scene
from blender.trajectories import fit
from stores.errors import RenderError

SIZE = (192, 128)
FRAMES = 4


@pytest.fixture(scope="session")
def renderer() -> Renderer:
    try:
        return find_renderer()
    except RenderError as error:
        pytest.skip(f"{error}; make it: {SETUP}")


@dataclass(frozen=True)
class Rendered:
    """A rendered set.

    Attributes:
        out: its folder. Video 0 is `designed`; video 1 is sampled, some of its meshes cannot be used.
        options: what it was made with.
        warnings: what was said meanwhile.
        report: of the run.
    """

    out: Path
    options: RenderOptions
    warnings: list[str]
    report: RenderReport


@pytest.fixture(scope="session")
def rendered(renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    folder = tmp_path_factory.mktemp("render")
    textures, skies, meshes = (folder / name for name in ("textures", "skies", "meshes"))
    for path, colour in (
        (textures / "red.png", (230, 10, 10)),
        (textures / "green.png", (10, 230, 10)),
        (skies / "blue.png", (0, 0, 255)),
    ):
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), colour).save(path)
    meshes.mkdir()
    # Under the seed below video 1 draws some of these, and the spares hold the good ones.
    (meshes / "garbage.glb").write_bytes(b"glTF\x02\0\0\0nonsense")
    (meshes / "empty.obj").write_text("# nothing\n")
    (meshes / "points.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    (meshes / "line.obj").write_text("v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n")
    cube = "".join(f"v {x} {y} {z}\n" for x in (7, 9) for y in (7, 9) for z in (7, 9))
    faces = "f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4\n"
    (meshes / "cube.obj").write_text(cube + faces)
    (meshes / "ball.obj").write_text(ball())
    # Two parts, and a point far away without a face that must not count for its size.
    pyramid = "v 12 7 7\nv 14 7 7\nv 12 9 7\nv 13 8 9\nf 9 11 10\nf 9 10 12\nf 10 11 12\nf 11 9 12\n"
    (meshes / "two parts.obj").write_text(f"o one\n{cube}{faces}o two\n{pyramid}v 900 0 0\n")
    options = RenderOptions(
        videos=2,
        frames=FRAMES,
        size=SIZE,
        samples=4,
        seed=1,
        workers=1,
        meshes=(meshes,),
        textures=textures,
        skies=skies,
    )
    out = folder / "out"
    write_scene(out / "scenes" / "00000.json", designed())
    warnings: list[str] = []
    report = render_bl30k(out, options, warn=warnings.append)
    return Rendered(out, options, warnings, report)


def ball(rings: int = 16, sectors: int = 32) -> str:
    """An OBJ file of a ball of radius 3 about (8, 8, 8)."""
    angles = [(np.pi * i / rings, 2 * np.pi * j / sectors) for i in range(rings + 1) for j in range(sectors)]
    points = [(np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)) for a, b in angles]
    lines = ["v {} {} {}".format(*(8 + 3 * np.array(point))) for point in points]
    for i in range(rings):
        for j in range(sectors):
            here, right = i * sectors + j + 1, i * sectors + (j + 1) % sectors + 1
            lines.append(f"f {here} {here + sectors} {right + sectors} {right}")
    return "\n".join(lines) + "\n"


def designed() -> Scene:
    """A red ball that crosses the picture in front of a blue sky, and a green cube that turns and grows behind it."""

    def path(*points: tuple[float, float, float]) -> tuple[tuple[float, float, float], ...]:
        rows = np.linspace(points[0], points[-1], 5)
        return tuple((float(x), float(y), float(z)) for x, y, z in fit(rows))

    first = SceneObject(
        id=1,
        model="meshes/ball.obj",
        texture="textures/red.png",
        keep_own=False,
        location=path((-1.2, 0, -0.4), (1.2, 0.5, 0.5)),
        rotation=path((0, 0, 0)),
        scale=path((2.4, 2.4, 2.4)),
        tries=1,
        separation=None,
    )
    second = SceneObject(
        id=2,
        model="meshes/cube.obj",
        texture="textures/green.png",
        keep_own=True,  # it has no picture of its own, so the texture counts
        location=path((1.0, 2, 1.0), (-0.6, 4, -1.2)),
        rotation=path((0, 0, 0), (2, 1, 0.5)),
        scale=path((1.5, 1.5, 1.5), (2.5, 2.0, 3.0)),
        tries=1,
        separation=2.0,
    )
    camera = Camera(0.75, path((0.2, -5.5, 0.1), (-0.2, -5.2, 0)), path((0, 3.5, 0), (0.3, 3.2, -0.2)))
    lights = (Light(9000, (1.0, 1.0, 1.0), (4.0, -9.0, 4.5)), Light(5000, (1.0, 1.0, 1.0), (-7.0, -8.0, -2.0)))
    spares: dict[str, list[str]] = {"meshes": [], "textures": [], "skies": []}
    return Scene("00000", 1, 0, FRAMES, SIZE, camera, (first, second), lights, Sky("skies/blue.png", 1.0), spares)
