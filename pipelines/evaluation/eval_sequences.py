"""How the semi-supervised evaluations read DAVIS 2016, DAVIS 2017 and YouTube-VOS, and write their masks.

DAVIS: frames as they are, all masks given on the first frame. YouTube-VOS: every frame, its shorter side brought to
480, and an object's mask given on the frame where it first appears.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from pipelines.evaluation.scoring import Reading
from pipelines.stages.follow import Followed
from stores.davis import DavisDataset
from stores.errors import DatasetError, MaskError, VideoError
from stores.files import atomic_file
from stores.masks import read_annotation, write_mask
from stores.youtube import YouTubeDataset

DAVIS_PALETTE_OF = "blackswan"  # the authors take every mask's palette from this sequence,
YOUTUBE_PALETTE_OF = "0a49f5265b"  # and from this video


@dataclass(frozen=True, eq=False)
class Clip:
    """One sequence as a protocol gives it.

    Attributes:
        frames: all images, in order; source: their (height, width); size: that at which objects are followed.
        given: frame -> labels uint8 of `mask_size`; each object once.
        wanted: frames to compute, as `follow` takes them; written: stems of the masks to write.
        form: "position" (palette PNG, value k is the k-th id), "ids" (palette PNG) or "binary" (grey, 255, and not
            resized to `mask_size`).
        truth: stem -> true mask where there are more than the given ones, else empty.
    """

    name: str
    frames: list[Path]
    source: tuple[int, int]
    size: tuple[int, int]
    mask_size: tuple[int, int]
    given: dict[int, np.ndarray]
    wanted: Collection[int] | None
    written: Collection[str]
    form: str
    palette: np.ndarray | None
    truth: dict[str, Path]

    @property
    def ids(self) -> tuple[int, ...]:
        """All objects, ascending."""
        return tuple(sorted({int(i) for labels in self.given.values() for i in np.unique(labels) if i}))

    @property
    def reading(self) -> Reading:
        """How the written masks and the true ones are read."""
        return Reading(self.form == "binary", self.ids if self.form == "position" else None)

    def read_frame(self, index: int) -> np.ndarray:
        """RGB [h, w, 3] at `size`: uint8, or float32 of the same scale, neither rounded nor clamped, if resized.

        Bicubic without antialiasing. The authors resize normalised images; that is the same, as weights sum to 1.
        """
        image = read_image(self.frames[index])
        if image.shape[:2] != self.source:
            (height, width), (h, w) = image.shape[:2], self.source
            raise VideoError(f"{self.frames[index]} is {width}x{height}, but {self.frames[0].name} is {w}x{h}")
        if self.size == self.source:
            return image
        planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        return F.interpolate(planes, size=self.size, mode="bicubic", align_corners=False)[0].permute(1, 2, 0).numpy()

    def working_masks(self) -> dict[int, np.ndarray]:
        """`given` at `size`, nearest neighbour (rounding positions down)."""
        if self.size == self.mask_size:
            return self.given
        resized = {}
        for index, labels in self.given.items():
            plane = torch.from_numpy(labels)[None, None].float()
            resized[index] = F.interpolate(plane, size=self.size, mode="nearest")[0, 0].numpy().astype(np.uint8)
        return resized

    def write(self, path: Path, frame: Followed) -> None:
        """Writes the mask of one frame in the protocol's form."""
        if self.form == "binary":
            with atomic_file(path) as file:
                Image.fromarray(np.where(frame.labels() > 0, 255, 0).astype(np.uint8)).save(file, format="PNG")
            return
        labels = frame.labels(self.mask_size)
        if self.form == "position":
            table = np.zeros(256, np.uint8)
            table[list(self.ids)] = np.arange(1, len(self.ids) + 1)
            labels = table[labels]
        write_mask(path, labels, self.palette)


@dataclass(frozen=True)
class DavisProtocol:
    """DAVIS 2016 (`year`; one object) or 2017. Test splits have no ground truth."""

    root: Path
    year: str = "2017"
    split: str = "val"
    resolution: str = "480p"
    masks: str = ""

    @property
    def name(self) -> str:
        return f"davis{self.year[2:]}"

    @property
    def dataset(self) -> DavisDataset:
        return DavisDataset(self.root, self.year, self.split, self.resolution)

    def facts(self) -> dict[str, Any]:
        return {"split": self.split, "resolution": self.resolution}

    def notes(self) -> tuple[str, ...]:
        return ()

    def sequences(self) -> list[str]:
        return self.dataset.sequences()

    def clip(self, sequence: str) -> Clip:
        """Frames as they are; all objects of the first mask. Frames without annotation are not scored."""
        data = self.dataset
        frames = data.frames(sequence)
        folder = data.base / "Annotations" / self.resolution / sequence
        masks = {path.stem: folder / f"{path.stem}.png" for path in frames}
        first = masks[frames[0].stem]
        if not first.is_file():
            raise DatasetError(f"{first}: is missing", hint="the first frame's mask is what objects are followed from")
        label = data.labels(first)
        if not label.ids:
            raise MaskError(f"{first}: shows no object", hint="leave this sequence out with --sequence")
        size = read_image(frames[0]).shape[:2]
        truth = {stem: path for stem, path in masks.items() if path.is_file()}
        top = data.base.parent / "trainval" if self.split.startswith("test") else data.base
        palette = _palette(top / "Annotations" / self.resolution / DAVIS_PALETTE_OF / "00000.png", label.palette)
        form = "binary" if self.year == "2016" else "position"
        scored = truth if len(truth) > 1 else {}
        return Clip(
            sequence,
            frames,
            size,
            size,
            label.labels.shape,
            {0: label.labels},
            None,
            frozenset(masks),
            form,
            palette,
            scored,
        )


@dataclass(frozen=True)
class YouTubeProtocol:
    """YouTube-VOS: `size` is the shorter side; `output_all` writes every frame, not only those of meta.json."""

    root: Path
    split: str = "valid"
    size: int = 480
    output_all: bool = False
    name: str = "youtube"
    masks: str = "Annotations"

    @property
    def dataset(self) -> YouTubeDataset:
        return YouTubeDataset(self.root, self.split)

    @property
    def all_frames(self) -> bool:
        """Whether the folder of all frames is there; if not, the split's own frames are the video."""
        top = (self.dataset.root, self.dataset.base.parent)
        return any((folder / "all_frames" / f"{self.split}_all_frames" / "JPEGImages").is_dir() for folder in top)

    def facts(self) -> dict[str, Any]:
        frames = "all" if self.all_frames else "of the split"
        return {"split": self.split, "size": self.size, "output_all": self.output_all, "frames": frames}

    def notes(self) -> tuple[str, ...]:
        if self.all_frames:
            return ()
        folder = f"all_frames/{self.split}_all_frames"
        return (f"{folder} is missing: only the frames of {self.split} were used, published numbers use all frames",)

    def sequences(self) -> list[str]:
        return self.dataset.videos()

    def clip(self, sequence: str) -> Clip:
        """Masks from the first annotated frame on; there and later each object is given once, where it first appears.

        Frames that are neither listed nor given nor memorised are not computed. In the official sets, given frames are
        listed; one that is not is computed all the same, so that the objects known before are not lost on it.
        """
        data = self.dataset
        frames = data.all_frames(sequence) if self.all_frames else data.frames(sequence)
        at = {path.stem: index for index, path in enumerate(frames)}
        annotations = data.annotations(sequence)
        given: dict[int, np.ndarray] = {}
        seen: set[int] = set()
        again, palette, mask_size = False, None, (0, 0)
        for stem, path in annotations.items():
            if stem not in at:
                raise DatasetError(f"{path}: there is no frame {stem}.jpg in {frames[0].parent}")
            label = data.labels(path)
            mask_size = mask_size if any(mask_size) else label.labels.shape
            if label.labels.shape != mask_size:
                raise MaskError(f"{path}: is of another size than the first mask of the video")
            palette = label.palette if palette is None else palette
            again = again or not seen.isdisjoint(label.ids)
            if new := set(label.ids) - seen:
                given[at[stem]] = np.where(np.isin(label.labels, list(new)), label.labels, 0).astype(np.uint8)
                seen |= new
        if not given:
            raise MaskError(f"{next(iter(annotations.values())).parent}: no mask shows an object")
        start = min(given)
        listed = list(at) if self.output_all else data.required_stems(sequence)
        if lacking := next((stem for stem in listed if stem not in at), None):
            raise DatasetError(f"{frames[0].parent / lacking}.jpg: is listed in meta.json, but missing")
        written = {stem for stem in listed if at[stem] >= start}
        height, width = source = read_image(frames[0]).shape[:2]
        palette = _palette(data.base / "Annotations" / YOUTUBE_PALETTE_OF / "00000.png", palette)
        return Clip(
            sequence, frames, source, youtube_size(height, width, self.size), mask_size, given,
            {at[stem] for stem in written} | set(given), frozenset(written), "ids", palette,
            annotations if again else {},
        )  # fmt: skip


def youtube_size(height: int, width: int, short: int) -> tuple[int, int]:
    """(height, width) with a shorter side of `short`; the longer one is rounded down, as torchvision does it."""
    if min(height, width) == short:
        return height, width
    if width < height:
        return int(short * height / width), short
    return short, int(short * width / height)


def read_image(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB of an image file, by Pillow as the authors read it; VideoError if it cannot be read."""
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(f"{path}: is damaged or no image", hint="restore this file from the data set") from error


def _palette(official: Path, own: np.ndarray | None) -> np.ndarray | None:
    """The palette of the official file if it is there, else that of the sequence's own first mask."""
    return read_annotation(official).palette if official.is_file() else own
