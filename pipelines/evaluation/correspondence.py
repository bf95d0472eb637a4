"""Where a point or a mask of one frame of a video is in another one, as pictures and numbers.

Dense correspondences of the propagation network (`pipelines.stages.correspond`) between two frames at working size.
Everything told about them is in pixels of the video itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from pipelines.engine import networks
from pipelines.flow import Model
from pipelines.stages.correspond import Correspondence, correspond_with, overlay, relative
from stores.errors import OutputExistsError, StoreError, UsageError
from stores.files import atomic_file
from stores.mask_colours import tint
from stores.masks import LabelImage, read_mask, write_mask
from stores.source import working_size
from stores.video import read_frames

_GAP = 8  # pixels between the two halves of a picture
_MARK = (255, 255, 0)


@dataclass(frozen=True)
class PointMatch:
    """A point of one frame found in another.

    Attributes:
        source, target: frame numbers; point, match: (x, y) in pixels of the video.
        weight: 0..1, how much of what the target shows at the match comes from the position of the point.
        cell: (width, height) of a grid position in pixels of the video: a match is known up to half of it.
        model: name of the networks; width, height: of the video; picture: the file written.
    """

    source: int
    target: int
    point: tuple[int, int]
    match: tuple[int, int]
    weight: float
    cell: tuple[float, float]
    model: str
    width: int
    height: int
    picture: str

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; frames are called "from" and "to" as on the command line."""
        return _with_frame_names(asdict(self))


@dataclass(frozen=True)
class MaskMatch:
    """A mask of one frame carried to another.

    Attributes:
        source, target: frame numbers; mask: the palette PNG written, at the video's size.
        objects: id -> pixels of the video that it covers: (before, after).
        model, width, height, picture: as in `PointMatch`.
    """

    source: int
    target: int
    objects: dict[int, tuple[int, int]]
    model: str
    width: int
    height: int
    picture: str
    mask: str

    def to_json(self) -> dict[str, Any]:
        """As for `PointMatch`."""
        objects = [{"id": i, "pixels_from": a, "pixels_to": b} for i, (a, b) in self.objects.items()]
        return {**_with_frame_names(asdict(self)), "objects": objects}


def match_point(
    video: Path, source: int, target: int, point: tuple[int, int], picture: Path, *,
    size: int | None = 480, model: Model = "nano", force: bool = False,
) -> PointMatch:  # fmt: skip
    """Finds a point of one frame in another and writes a picture: the point, and where it is found with what weight.

    The match is the best grid position, moved by as much as the point is away from the middle of its own. So a frame
    compared with itself gives the point itself.

    Args:
        video: a file or a folder of images; source, target: frames, from 0; point: (x, y) in pixels of the video.
        picture: PNG to write, at working size, both frames side by side.
        size: shorter side to work at, never enlarged; None: as the video.

    Raises:
        UsageError: a frame or the point is outside the video, or the picture is no PNG.
        OutputExistsError: the picture is there and not `force`. VideoError, ModelError: as they say.
    """
    _check_outputs(force, picture)
    full, small = _two_frames(video, source, target, size, lambda height, width: _check_point(point, height, width))
    nets = networks(model)
    found = correspond_with(nets, *small)
    (height, width), (rows, columns) = full, found.size
    inside = ((point[0] + 0.5) * columns / width, (point[1] + 0.5) * rows / height)  # continuous, at working size
    marked = found.mark(int(inside[0]), int(inside[1]), offset=True)
    heat = found.transfer(marked)
    weight, moved = _best(found, marked, heat)
    x, y = (min(max(inside[i] + moved[i], 0.0), (columns, rows)[i] - 1e-6) for i in (0, 1))
    panels = [small[0].copy(), overlay(small[1], relative(found.at_pixels(heat))[0])]
    _cross(panels[0], *inside)
    _cross(panels[1], x, y)
    _write_picture(picture, *panels)
    return PointMatch(
        source=source,
        target=target,
        point=point,
        match=(int(x * width / columns), int(y * height / rows)),
        weight=weight,
        cell=(found.cell[1] * width / columns, found.cell[0] * height / rows),
        model=nets.choice.name,
        width=width,
        height=height,
        picture=str(picture),
    )


def match_mask(
    video: Path, source: int, target: int, mask: Path, picture: Path, *,
    size: int | None = 480, snap: bool = False, model: Model = "nano", force: bool = False,
) -> MaskMatch:  # fmt: skip
    """Carries a mask from one frame to another; nothing but the keys is used, no decoder refines the edges.

    Every position of the target reads as many positions of the source as the network reads of its memory.

    Args:
        mask: PNG at the video's size; snap: as in `stores.masks.read_mask`.
        picture: as in `match_point`; the carried mask goes beside it, as `mask_file` says. Others as in `match_point`.

    Raises:
        MaskError: the mask cannot be used. UsageError: it shows no object; otherwise as `match_point`.
    """
    result = mask_file(picture)
    _check_outputs(force, picture, result)
    masks: list[LabelImage] = []

    def read(height: int, width: int) -> None:
        masks.append(read_mask(mask, size=(height, width), snap=snap))
        if not masks[0].ids:
            raise UsageError(f"{mask} shows no object", hint="paint objects with ids 1, 2, ...")

    full, small = _two_frames(video, source, target, size, read)
    given, nets = masks[0], networks(model)
    found = correspond_with(nets, *small)
    ids = np.array((0, *given.ids), np.uint8)
    planes = np.stack([_resize((given.labels == i).astype(np.float32), found.size) for i in given.ids])
    carried = torch.from_numpy(found.transfer_masks(planes, nets.rules.top_k))[None]
    # the padding around the source has no objects either: what was read from there counts as background
    carried = torch.cat([1 - carried.sum(1, keepdim=True), carried], dim=1)
    labels = ids[F.interpolate(carried, size=full, mode="bilinear", align_corners=False)[0].argmax(0).numpy()]
    _write_picture(picture, *(_tint(image, seg) for image, seg in zip(small, (given.labels, labels), strict=True)))
    write_mask(result, labels, given.palette)
    objects = {i: (int((given.labels == i).sum()), int((labels == i).sum())) for i in given.ids}
    return MaskMatch(source, target, objects, nets.choice.name, full[1], full[0], str(picture), str(result))


def mask_file(picture: Path) -> Path:
    """Where `match_mask` writes the carried mask: `out.png` -> `out_mask.png`."""
    return picture.with_name(f"{picture.stem}_mask.png")


def _best(found: Correspondence, marked: np.ndarray, heat: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The highest weight and the way (x, y) from the marked position to it, in pixels at working size."""
    row, column = np.unravel_index(int(heat[0].argmax()), found.grid)
    from_row, from_column = np.unravel_index(int(marked[0].argmax()), found.grid)
    moved = (float(column - from_column) * found.cell[1], float(row - from_row) * found.cell[0])
    return float(heat[0, row, column]), moved


def _two_frames(
    video: Path, source: int, target: int, size: int | None, check: Callable[[int, int], None]
) -> tuple[tuple[int, int], list[np.ndarray]]:
    """(height, width) of the video and both frames at working size; `check` is called with the former first."""
    if min(source, target) < 0:
        raise UsageError(f"there is no frame {min(source, target)}", hint="frames are counted from 0")
    kept: dict[int, np.ndarray] = {}
    full: tuple[int, int] | None = None
    count, last = 0, max(source, target)
    for frame in read_frames(video, size=None):
        count = frame.index + 1
        if full is None:
            full = frame.image.shape[0], frame.image.shape[1]
            check(*full)
        if frame.index in (source, target):
            kept[frame.index] = _resize(frame.image, working_size(*full, size))
        if frame.index == last:
            break
    if full is None or last not in kept:
        raise UsageError(f"{video} has no frame {last}", hint=f"its frames are 0..{count - 1}")
    return full, [kept[source], kept[target]]


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def _check_point(point: tuple[int, int], height: int, width: int) -> None:
    if not (0 <= point[0] < width and 0 <= point[1] < height):
        raise UsageError(
            f"the point {point[0]},{point[1]} is outside the {width}x{height} video",
            hint=f"x is 0..{width - 1}, y is 0..{height - 1}",
        )


def _check_outputs(force: bool, picture: Path, *others: Path) -> None:
    if picture.suffix.lower() != ".png":
        raise UsageError(f"{picture} is not a .png file", hint="the picture is a PNG: -o OUT.png")
    if not picture.parent.is_dir():
        raise StoreError(f"{picture.parent} is not a folder", hint="make it, or write the picture elsewhere")
    for path in (picture, *others):
        if path.exists() and not force:
            raise OutputExistsError(f"{path} is already there", hint="--force overwrites it")


def _cross(image: np.ndarray, x: float, y: float) -> None:
    """Draws a cross with a dark rim around (x, y), in place."""
    arm = max(4, min(image.shape[:2]) // 40)
    for colour, thickness in (((0, 0, 0), 5), (_MARK, 2)):
        cv2.drawMarker(image, (int(x), int(y)), colour, cv2.MARKER_CROSS, 2 * arm, thickness)
        cv2.circle(image, (int(x), int(y)), arm, colour, thickness)


def _tint(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The objects in their colours over an image; labels of any size."""
    return tint(image, cv2.resize(labels, image.shape[1::-1], interpolation=cv2.INTER_NEAREST), 1)


def _write_picture(path: Path, left: np.ndarray, right: np.ndarray) -> None:
    gap = np.full((left.shape[0], _GAP, 3), 255, np.uint8)
    with atomic_file(path) as file:
        Image.fromarray(np.hstack([left, gap, right])).save(file, format="PNG")


def _with_frame_names(data: dict[str, Any]) -> dict[str, Any]:
    return {"from": data.pop("source"), "to": data.pop("target"), **data}
