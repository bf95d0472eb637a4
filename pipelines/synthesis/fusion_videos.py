"""Videos with a true mask for every frame, in DAVIS or BL30K layout, read frame by frame.

::

    <root>/JPEGImages/480p/<video>/00000.jpg   <root>/Annotations/480p/<video>/00000.png     DAVIS
    <root>/ImageSets/2017/<split>.txt          optional: one name per line
    <root>/JPEGImages/<video>/00000.jpg        <root>/Annotations/<video>/00000.png          BL30K

Frames are counted in the order of their names. What a mask says is decided by `stores.labels`, as in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.training.samples import Clip
from stores.davis import DavisDataset
from stores.errors import DatasetError, UsageError
from stores.files import check_name, list_files, list_folders
from stores.labels import open_image

JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True)
class FusionVideos:
    """Which videos there are; their files are listed when they are asked for.

    Attributes:
        layout: "davis" or "bl30k"; images, masks: folders with one folder per video; names: of the videos, in order.
    """

    layout: str
    images: Path
    masks: Path
    names: tuple[str, ...]

    def count(self, name: str) -> int:
        """Number of frames of a video; 0 where its folder cannot be read."""
        try:
            return len(list_files(self.images / name, JPEG, DatasetError))
        except DatasetError:
            return 0

    def clip(self, name: str) -> Clip:
        """The files of a video, after a look at the header of each.

        Raises:
            DatasetError: no frames, a frame without a mask, a broken header, or sizes that differ.
        """
        images = list_files(self.images / name, JPEG, DatasetError)
        if not images:
            raise DatasetError(f"{self.images / name}: holds no frames", hint="frames must be JPEGs")
        masks = [self.masks / name / f"{path.stem}.png" for path in images]
        missing = [path for path in masks if not path.is_file()]
        if missing:
            raise DatasetError(
                f"{missing[0]}: is missing; {len(missing)} of {len(masks)} frames have no mask",
                hint="fusion data needs a true mask for every frame",
            )
        size = _size(images[0])
        for path in (*images, *masks):
            found = _size(path)
            if found != size:
                raise DatasetError(f"{path}: is {found[0]}x{found[1]}, the first frame is {size[0]}x{size[1]}")
        return Clip(name, tuple(images), tuple(masks))


def find_fusion_videos(
    root: Path, *, split: str | None = None, videos: Sequence[str] | None = None, start: int | None = None,
    end: int | None = None,
) -> FusionVideos:  # fmt: skip
    """Finds out the layout of `root` and which videos are meant.

    Args:
        split: a list of ImageSets/2017; None: "train" where there is such a list, else every video there is.
        videos: these names only, whatever the list says. start, end: of the videos in order, both inclusive, from 0.

    Raises:
        DatasetError: neither layout, a list is missing, or a named video is not there. UsageError: an empty range.
    """
    layout, images, masks, listed = _layout(Path(root), split)
    if videos is not None:
        names = list(dict.fromkeys(videos))
        for name in names:
            check_name(name, "video")
            if not (images / name).is_dir():
                raise DatasetError(f"{images / name}: is missing", hint="--videos takes the name of a folder")
    else:
        names = listed
    if start is not None or end is not None:
        names = names[start or 0 : None if end is None else end + 1]
    if not names:
        raise UsageError(f"{images}: no video is left to work on", hint="check --start and --end; both count from 0")
    return FusionVideos(layout, images, masks, tuple(names))


def _layout(root: Path, split: str | None) -> tuple[str, Path, Path, list[str]]:
    """Layout, folders of images and masks, and the names of the split."""
    try:
        davis = DavisDataset(root, split=split or "train")
    except DatasetError as error:
        folder = root / "JPEGImages"
        names = list_folders(folder, DatasetError) if folder.is_dir() else []
        if not any(next((folder / name).glob("*.jp*g"), None) for name in names[:20]):
            raise DatasetError(
                f"{root}: is neither in DAVIS nor in BL30K layout",
                hint="give the folder of JPEGImages/480p/<video> or JPEGImages/<video>; `mivos data check` helps",
            ) from error
        if split is not None:
            raise UsageError(f"{root}: is in BL30K layout, which has no lists", hint="drop --split") from error
        return "bl30k", folder, root / "Annotations", names
    images = davis.base / "JPEGImages" / davis.resolution
    wants_list = split is not None or (davis.base / "ImageSets" / "2017" / "train.txt").is_file()
    names = davis.sequences() if wants_list else list_folders(images, DatasetError)
    return "davis", images, davis.base / "Annotations" / davis.resolution, names


def read_image(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB of a whole, undamaged image.

    Raises:
        DatasetError: it cannot be read to its end.
    """
    with open_image(path) as image:
        return np.array(image.convert("RGB"))  # a copy: tensors want to be writable


def _size(path: Path) -> tuple[int, int]:
    """Width and height as the header has them."""
    with open_image(path) as image:
        return image.size
