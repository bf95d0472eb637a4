"""One random scene per video: what is in it, how it moves, how it is lit. Pure numpy.

Numbers are those of the published BL30K sampler. Axes: x right, y away from the camera, z up. Lengths are units
of a world in which a model of scale 1 has a bounding box of diagonal 1, as in ShapeNet; the renderer brings
every mesh to that size.

Kept as published: the separation test ignores the size of objects, and an object that failed it 50 times is
taken as it is (`tries` and `separation` of the scene tell). Changed: a retry draws a new path only; the published
one also uses up a texture. A scene depends on its seed and index only, never on which others are made: video k
takes its models from places 5 k to 5 k + 4 of an endless walk through random permutations (see `blender.assets`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from blender.assets import Assets
from blender.trajectories import control_points, fit, limited_step, minimum_distance, stays

FRAMES = 160
SIZE = (768, 512)
SEPARATION = 0.75
TRIES = 50
MAX_OBJECTS = 5
SPARES = 8

Triple = tuple[float, float, float]
Path3 = tuple[Triple, ...]


@dataclass(frozen=True)
class Camera:
    """Field of view in radians over the larger image side; paths as in `blender.trajectories`."""

    fov: float
    location: Path3
    look_at: Path3


@dataclass(frozen=True)
class SceneObject:
    """One object.

    Attributes:
        id: its value in the masks, 1..5.
        model: name of its mesh in the `Assets`.
        texture: name of the image it is covered with, unless
        keep_own: the mesh has a picture of its own and keeps that.
        location, rotation, scale: paths; rotation is Euler XYZ in radians.
        tries: how many paths were drawn.
        separation: smallest distance to the objects before it, 0 < separation; None for the first.
    """

    id: int
    model: str
    texture: str
    keep_own: bool
    location: Path3
    rotation: Path3
    scale: Path3
    tries: int
    separation: float | None

    @property
    def collides(self) -> bool:
        """Whether it was taken although it comes too near to another one."""
        return self.separation is not None and self.separation < SEPARATION


@dataclass(frozen=True)
class Light:
    """A point light: watts, RGB with maximum 1, place."""

    energy: int
    color: Triple
    location: Triple


@dataclass(frozen=True)
class Sky:
    """A glowing square that faces the camera: picture, strength, place, Euler XYZ, side."""

    image: str
    strength: float
    location: Triple = (0.0, 12.0, 0.0)
    rotation: Triple = (math.pi / 2, 0.0, 0.0)
    size: float = 40.0


@dataclass(frozen=True)
class Scene:
    """Everything about one video but its pixels.

    Attributes:
        id: name of the video's folders.
        seed, index: what it was sampled from.
        frames: their number.
        size: (width, height) in pixels.
        spares: models, textures and skies to take, in this order, where one cannot be read.
    """

    id: str
    seed: int
    index: int
    frames: int
    size: tuple[int, int]
    camera: Camera
    objects: tuple[SceneObject, ...]
    lights: tuple[Light, ...]
    sky: Sky
    spares: dict[str, list[str]] = field(default_factory=dict)


def video_name(index: int) -> str:
    """The id of video `index`."""
    return f"{index:05d}"


def sample_scene(seed: int, index: int, assets: Assets, frames: int = FRAMES, size: tuple[int, int] = SIZE) -> Scene:
    """Sample the scene of video `index`. The same arguments give the same scene on every machine."""
    rng = np.random.default_rng([seed, index])
    camera = _camera(rng)
    models, textures = assets.meshes.walk(seed, MAX_OBJECTS), assets.textures.walk(seed, MAX_OBJECTS)
    skies = assets.skies.walk(seed, 1)
    names, covers, (image, *spare_skies) = models(index, SPARES), textures(index, SPARES), skies(index, SPARES)
    count = int(rng.integers(3, MAX_OBJECTS, endpoint=True))
    objects: list[SceneObject] = []
    for number in range(count):
        objects.append(_object(rng, number + 1, names[number], covers[number], objects))
    lights = tuple(_light(rng) for _ in range(int(rng.integers(1, 3, endpoint=True))))
    sky = Sky(image, float(rng.uniform(0.1, 1.0)))
    spares = {
        "meshes": _others(names, [item.model for item in objects]),
        "textures": _others(covers, [item.texture for item in objects]),
        "skies": _others(spare_skies, [image]),
    }
    return Scene(video_name(index), seed, index, frames, size, camera, tuple(objects), lights, sky, spares)


def _camera(rng: np.random.Generator) -> Camera:
    fov = float(rng.uniform(0.7, 0.8))
    low = np.array([-0.3, -6.0, -0.3, -0.5, 3.0, -0.5])
    high = np.array([0.3, -5.0, 0.3, 0.5, 4.0, 0.5])

    def following(old: np.ndarray) -> np.ndarray:
        return limited_step(rng, old, rng.uniform(low, high), 4.0)

    first = rng.uniform(low, high)
    points = control_points(first, following, stays(rng))
    return Camera(fov, listed(fit(points[:, :3])), listed(fit(points[:, 3:])))


def _frustum_point(rng: np.random.Generator) -> np.ndarray:
    y = rng.uniform(-2.0, 5.0)
    bound = 1.05 * (y + 6.0) / 4.0
    x, z = rng.uniform(-bound, bound, 2)
    return np.array([x, y, z])


def _object(rng: np.random.Generator, number: int, model: str, texture: str, others: list[SceneObject]) -> SceneObject:
    def following(old: np.ndarray) -> np.ndarray:
        location = limited_step(rng, old[:3], _frustum_point(rng), 1.2)
        rotation = old[3:6] + rng.normal(0.0, 0.8, 3)
        scale = old[6:] * rng.uniform(0.8**0.25, 1.25**0.25, 3)
        return np.concatenate([location, rotation, scale])

    keep_own = bool(rng.random() >= 0.5)
    earlier = [np.array(other.location) for other in others]
    tries, fits = 0, False
    while not fits and tries < TRIES:
        tries += 1
        first = np.concatenate([_frustum_point(rng), rng.uniform(0, 2 * np.pi, 3), rng.uniform(1.25, 3.0, 3)])
        points = control_points(first, following, stays(rng))
        location, rotation, scale = (fit(points[:, columns]) for columns in (slice(3), slice(3, 6), slice(6, 9)))
        separation = min((minimum_distance(location, other) for other in earlier), default=None)
        fits = separation is None or separation >= SEPARATION
    paths = listed(location), listed(rotation), listed(scale)
    return SceneObject(number, model, texture, keep_own, *paths, tries, separation)


def _light(rng: np.random.Generator) -> Light:
    energy = int(rng.integers(1000, 15000, endpoint=True))
    color = 0.5 + rng.uniform(0.0, 0.5, 3)
    direction = rng.normal(size=3)
    return Light(energy, triple(color / color.max()), triple(11.0 * direction / np.linalg.norm(direction)))


def _others(names: list[str], used: list[str]) -> list[str]:
    """Each name once, those that the video does not use yet first."""
    return [*dict.fromkeys(name for name in names if name not in used), *dict.fromkeys(used)]


def triple(values: np.ndarray) -> Triple:
    """Three numbers as plain floats."""
    x, y, z = (float(value) for value in values)
    return x, y, z


def listed(path: np.ndarray) -> Path3:
    """A path as plain floats."""
    return tuple(triple(row) for row in path)
