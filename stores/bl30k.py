"""BL30K folders: rendered videos with a mask for every frame.

::

    <root>/JPEGImages/<video>/00000.jpg 00001.jpg ...
    <root>/Annotations/<video>/00000.png ...               palette PNGs of object ids; ids may have gaps

`mivos render-bl30k` writes the same and puts a video there only when it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stores.errors import DatasetError
from stores.files import check_name, list_files, list_folders
from stores.masks import LabelImage, read_annotation


@dataclass(frozen=True)
class Bl30kDataset:
    """A BL30K tree on disk.

    Attributes:
        root: the folder that holds JPEGImages and Annotations.

    Raises:
        DatasetError: from every method, naming the file or folder that is missing or wrong.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        for kind in ("JPEGImages", "Annotations"):
            if not (self.root / kind).is_dir():
                hint = "give the folder that holds JPEGImages and Annotations; `mivos render-bl30k` makes one"
                raise DatasetError(f"{self.root / kind}: is missing", hint=hint)

    def videos(self) -> list[str]:
        """Return the names of the videos, in natural order."""
        names = list_folders(self.root / "JPEGImages", DatasetError)
        if not names:
            raise DatasetError(f"{self.root / 'JPEGImages'}: holds no videos")
        return names

    def frames(self, video: str) -> list[Path]:
        """Return the pictures of a video; they must be numbered from 00000 without gaps."""
        folder = self._folder("JPEGImages", video)
        paths = list_files(folder, {".jpg", ".jpeg"}, DatasetError)
        if not paths:
            raise DatasetError(f"{folder}: holds no frames")
        for index, path in enumerate(paths):
            if path.stem != f"{index:05d}":
                raise DatasetError(f"{folder / f'{index:05d}.jpg'}: is missing, the next frame is {path.name}")
        return paths

    def annotations(self, video: str) -> list[Path]:
        """Return the masks of a video, one per frame."""
        folder = self._folder("Annotations", video)
        stems = dict.fromkeys(path.stem for path in self.frames(video))
        for path in list_files(folder, {".png"}, DatasetError):
            if path.stem not in stems:
                raise DatasetError(f"{path}: there is no frame {path.stem}.jpg in {self.root / 'JPEGImages' / video}")
        paths = [folder / f"{stem}.png" for stem in stems]
        for path in paths:
            if not path.is_file():
                raise DatasetError(f"{path}: is missing")
        return paths

    def labels(self, path: Path) -> LabelImage:
        """Read one of `annotations`.

        Raises:
            MaskError: the file is damaged or no label image.
        """
        return read_annotation(path)

    def _folder(self, kind: str, video: str) -> Path:
        check_name(video, "video")
        folder = self.root / kind / video
        if not folder.is_dir():
            raise DatasetError(f"{folder}: is missing")
        return folder
