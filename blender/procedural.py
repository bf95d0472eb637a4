"""Textures and skies painted with numpy, for those who have none. The same seed gives the same pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from stores.files import atomic_file, make_folder

SIDE = 512
VARIANTS = 6
HORIZON = 280
_KINDS = ("noise", "stripes", "checks", "marble", "wood", "dots", "bricks")
_SKIES = ("clear", "clouds", "sunset", "hills", "city", "room")
TEXTURES = tuple(f"{kind}{i}" for kind in _KINDS for i in range(VARIANTS))
SKIES = tuple(f"{kind}{i}" for kind in _SKIES for i in range(VARIANTS))


def paint(name: str, path: Path, seed: int) -> None:
    """Write the picture of that name as a PNG, if it is not there yet; its folder is made.

    Raises:
        StorageFullError: it cannot be written.
    """
    if not path.exists():
        make_folder(path.parent)
        with atomic_file(path) as file:
            Image.fromarray(picture(name, seed)).save(file, format="PNG", compress_level=1)


def picture(name: str, seed: int) -> np.ndarray:
    """The picture of that name: uint8 [512, 512, 3] for a texture, [512, 1024, 3] for a sky."""
    rng = np.random.default_rng([seed, *name.encode()])
    kind = name.rstrip("0123456789")
    values = _PAINTERS[kind](rng)
    return (np.clip(values, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _cloud(rng: np.random.Generator, height: int, width: int, falloff: float = 1.0) -> np.ndarray:
    """Noise with a spectrum 1 / f**(1 + falloff), [height, width] in 0..1; it tiles."""
    fy, fx = np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width
    radius = np.maximum(np.hypot(fy, fx), 1.0)
    spectrum = np.fft.rfft2(rng.normal(size=(height, width))) / radius ** (1.0 + falloff)
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(height, width))
    low, high = np.quantile(noise, [0.01, 0.99])
    return np.clip((noise - low) / (high - low), 0.0, 1.0)


def _blend(weight: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return other + weight[..., None] * (one - other)


def _colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours that differ in brightness, so that patterns show: [count, 3] in shuffled order."""
    levels = np.linspace(0.15, 0.9, count) + rng.uniform(-0.08, 0.08, count)
    tint = rng.uniform(0.45, 1.25, (count, 3))
    return rng.permutation(np.clip(levels[:, None] * tint, 0.02, 1.0))


def _grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    return x, y


def _grain(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """A little dirt on every pattern; perfectly flat areas exist in no photograph."""
    return values * (0.75 + 0.5 * _cloud(rng, values.shape[0], values.shape[1], 0.3)[..., None])


def _noise(rng: np.random.Generator) -> np.ndarray:
    a, b, c = _colours(rng, 3)
    first = _blend(_cloud(rng, SIDE, SIDE, rng.uniform(0.2, 1.2)), a, b)
    return _blend(_cloud(rng, SIDE, SIDE), first, np.broadcast_to(c, first.shape))


def _stripes(rng: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    colours = _colours(rng, 4)
    u, v = rng.integers(0, 5, 2) + np.array([1, 0])
    bend = rng.uniform(0.0, 0.6) * _cloud(rng, SIDE, SIDE)
    return _grain(rng, colours[np.floor((u * x + v * y + bend) * 4).astype(int) % 4])


def _checks(rng: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    cells = int(rng.integers(3, 10))
    palette = _colours(rng, 3)
    i, j = np.floor(x * cells).astype(int), np.floor(y * cells).astype(int)
    return _grain(rng, palette[np.where((i + j) % 2, 2, i % 2)])


def _marble(rng: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    a, b = _colours(rng, 2)
    veins = np.abs(np.sin(np.pi * (2 * x + 3 * y + rng.uniform(2, 5) * _cloud(rng, SIDE, SIDE)))) ** 0.4
    return _blend(veins, a, b) * (0.85 + 0.15 * _cloud(rng, SIDE, SIDE)[..., None])


def _wood(rng: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    light = np.array([0.72, 0.5, 0.3]) * rng.uniform(0.6, 1.2)
    rings = np.hypot(x - 0.5, (y - 0.5) * 0.15) * rng.uniform(12, 30) + 2.5 * _cloud(rng, SIDE, SIDE)
    return _grain(rng, _blend(0.5 + 0.5 * np.sin(2 * np.pi * rings), light, light * 0.55))


def _dots(rng: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    palette = _colours(rng, 4)
    cells = int(rng.integers(3, 8))
    which = rng.integers(1, 4, (cells, cells))
    radius = np.hypot(x * cells % 1 - 0.5, y * cells % 1 - 0.5)
    ids = which[np.floor(y * cells).astype(int), np.floor(x * cells).astype(int)]
    return _grain(rng, palette[np.where(radius < rng.uniform(0.2, 0.45), ids, 0)])


def _bricks(rng: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    rows, columns = 2 * int(rng.integers(4, 8)), int(rng.integers(3, 7))
    j = np.floor(y * rows).astype(int)
    across = x * columns + 0.5 * (j % 2)
    i = np.floor(across).astype(int) % columns
    brick, mortar = _colours(rng, 2)
    shade = rng.uniform(0.7, 1.2, (rows, columns))[j, i]
    joint = (across % 1 < 0.06) | (y * rows % 1 < 0.12)
    return _grain(rng, np.where(joint[..., None], mortar, brick * shade[..., None]))


def _gradient(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    rows = np.linspace(1.9, -0.9, SIDE)[:, None]  # the camera sees the middle third
    return _blend(np.broadcast_to(np.clip(rows, 0.0, 1.0), (SIDE, 2 * SIDE)), top, bottom)


def _clear(rng: np.random.Generator) -> np.ndarray:
    top = np.array([0.15, 0.35, 0.8]) * rng.uniform(0.5, 1.1)
    return _gradient(top, np.array([0.75, 0.85, 0.95]) * rng.uniform(0.8, 1.0))


def _clouds(rng: np.random.Generator) -> np.ndarray:
    cover = np.clip(_cloud(rng, SIDE, 2 * SIDE) * 2.0 - rng.uniform(0.4, 1.0), 0.0, 1.0)
    shade = rng.uniform(0.7, 1.0) - 0.3 * _cloud(rng, SIDE, 2 * SIDE, 0.5)
    return _blend(cover, shade[..., None] * np.ones(3), _clear(rng))


def _sunset(rng: np.random.Generator) -> np.ndarray:
    sky = _gradient(np.array([0.1, 0.1, 0.3]), np.array([1.0, 0.55, 0.2]) * rng.uniform(0.7, 1.0))
    bands = _cloud(rng, SIDE, SIDE // 4).repeat(8, axis=1)
    return _blend(0.5 * bands, np.array([0.9, 0.35, 0.35]), sky)


def _hills(rng: np.random.Generator) -> np.ndarray:
    values = _clouds(rng)
    rows = np.arange(SIDE)[:, None]
    for level in (0.45, 0.5, 0.57):
        ridge = SIDE * (level + 0.25 * (_cloud(rng, 8, 2 * SIDE)[0] - 0.5))
        green = np.array([0.25, 0.35, 0.15]) * rng.uniform(0.5, 1.5, 3)
        ground = green * (0.5 + _cloud(rng, SIDE, 2 * SIDE, 0.4)[..., None])
        values = np.where((rows > ridge)[..., None], ground, values)
    return values


def _city(rng: np.random.Generator) -> np.ndarray:
    values = _clouds(rng)
    for _ in range(45):
        left, width, height = rng.integers(0, 1000), rng.integers(25, 110), rng.integers(80, 400)
        block = values[SIDE - height :, left : left + width]
        wall = rng.uniform(0.15, 0.7) * rng.uniform(0.8, 1.1, 3)
        j, i = np.mgrid[0 : block.shape[0], 0 : block.shape[1]]
        window = (i % 12 > 4) & (j % 16 > 7)
        lit = rng.uniform(0.05, 1.0, (block.shape[0] // 16 + 1, block.shape[1] // 12 + 1))[j // 16, i // 12]
        block[:] = np.where(window[..., None], lit[..., None] * np.array([1.0, 0.95, 0.8]), wall)
    return values


def _room(rng: np.random.Generator) -> np.ndarray:
    wall, floor = rng.uniform(0.35, 0.85, 3), rng.uniform(0.15, 0.5, 3)
    values = np.broadcast_to(wall, (SIDE, 2 * SIDE, 3)) * (0.85 + 0.2 * _cloud(rng, SIDE, 2 * SIDE)[..., None])
    values[HORIZON:] = floor * (0.7 + 0.5 * _cloud(rng, SIDE - HORIZON, 2 * SIDE, 0.4)[..., None])
    for _ in range(14):
        top, left = rng.integers(40, 300), rng.integers(0, 960)
        values[top : top + rng.integers(40, 200), left : left + rng.integers(30, 180)] = rng.uniform(0.05, 1.0, 3)
    return values


_PAINTERS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "stripes": _stripes,
    "checks": _checks,
    "marble": _marble,
    "wood": _wood,
    "dots": _dots,
    "bricks": _bricks,
    "clear": _clear,
    "clouds": _clouds,
    "sunset": _sunset,
    "hills": _hills,
    "city": _city,
    "room": _room,
}
