"""Geometry and colour changes of training samples, on numpy images. Randomness comes from the caller's generator."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# fill outside the image: the mean colour, so that it is zero after normalisation
MEAN_COLOUR = (124, 116, 104)


@dataclass(frozen=True)
class Motion:
    """A similarity with shear about a centre. Angles in radians, shifts in pixels of the output."""

    angle: float = 0.0
    scale: float = 1.0
    shear: float = 0.0
    dx: float = 0.0
    dy: float = 0.0

    def moved(self, rng: np.random.Generator, strength: float, size: int) -> Motion:
        """This motion after one more random step (used frame by frame)."""
        return Motion(
            self.angle + rng.normal(0, 0.12) * strength,
            self.scale * float(np.exp(rng.normal(0, 0.06) * strength)),
            self.shear + rng.normal(0, 0.05) * strength,
            self.dx + rng.normal(0, 0.05) * strength * size,
            self.dy + rng.normal(0, 0.05) * strength * size,
        )

    def matrix(self, centre: tuple[float, float], target: tuple[float, float], flip: bool = False) -> np.ndarray:
        """[2, 3] float64: the point `centre` of the source lands on `target` (plus the shift) of the output."""
        c, s = np.cos(self.angle) * self.scale, np.sin(self.angle) * self.scale
        linear = np.array([[c, -s], [s, c]]) @ np.array([[1.0, self.shear], [0.0, 1.0]])
        if flip:
            linear = linear @ np.diag([-1.0, 1.0])
        shift = np.array(target) + (self.dx, self.dy) - linear @ np.array(centre)
        return np.concatenate([linear, shift[:, None]], axis=1)


def warp(image: np.ndarray, labels: np.ndarray, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Warps uint8 [H, W, 3] (area-like when shrinking much) and uint8 [H, W] to `size` x `size`."""
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if shrink < 0.6:  # avoid aliasing: blur by what the sampling will skip
        image = cv2.GaussianBlur(image, (0, 0), 0.45 / shrink)
    out = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=MEAN_COLOUR)
    return out, cv2.warpAffine(labels, matrix, (size, size), flags=cv2.INTER_NEAREST, borderValue=0)


def bend(
    rng: np.random.Generator, image: np.ndarray, labels: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random deformation with a 5 x 5 grid of displacements of `strength` (fraction of the size)."""
    size = image.shape[0]
    grid = rng.normal(0, strength * size, (5, 5, 2)).astype(np.float32)
    field = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    x, y = x + field[..., 0], y + field[..., 1]
    bent = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return bent, cv2.remap(labels, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)


@dataclass(frozen=True)
class Colour:
    """One colour change, applied alike to all frames of a sample."""

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: float = 0.0
    saturation: float = 1.0
    gamma: float = 1.0

    @classmethod
    def sample(cls, rng: np.random.Generator, strength: float) -> Colour:
        gain = np.exp(rng.normal(0, 0.12 * strength)) * np.exp(rng.normal(0, 0.04 * strength, 3))
        saturation = 0.0 if rng.random() < 0.05 * strength else float(np.exp(rng.normal(0, 0.2 * strength)))
        return cls(
            (float(gain[0]), float(gain[1]), float(gain[2])),
            float(rng.normal(0, 10 * strength)),
            saturation,
            float(np.exp(rng.normal(0, 0.15 * strength))),
        )

    def apply(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 [H, W, 3]."""
        ramp = np.arange(256, dtype=np.float32)[:, None]
        curve = 255 * (ramp / 255) ** self.gamma * np.array(self.gain, np.float32) + self.offset
        table = np.clip(curve, 0, 255).astype(np.uint8)[None]  # (1, 256, 3)
        image = cv2.LUT(image, table)
        if abs(self.saturation - 1) > 0.02:
            grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            image = cv2.addWeighted(image, self.saturation, grey, 1 - self.saturation, 0)
        return image
