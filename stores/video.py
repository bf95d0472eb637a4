"""Video files and image folders as one stream of RGB frames.

A video is anything FFmpeg reads (through PyAV). What this module promises:

* Pixels are as a player shows them: the display matrix (rotation, mirroring) is applied, YUV becomes RGB
  with the matrix and range that the stream names. Where it names none, players guess from the size and so
  does `guess_matrix`: BT.709 for HD, BT.601 below. Transfer curves (HDR) are left alone, there is no tone
  mapping. Non-square pixels stay non-square; `SourceInfo.sample_aspect_ratio` says so.
* Time is integer: `Frame.pts` counts `SourceInfo.time_base`, variable frame rates stay variable.
  Frames without a time stamp get one from their index and the average rate; time always increases.
* The header is a claim. Frames are counted by decoding them.
* Damage costs as little as possible: what decodes is returned, then one warning goes to the logger "mivos".

An image folder has no clock: its frames are `FOLDER_RATE` apart.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from stores.errors import VideoError
from stores.ffmpeg import (
    MAX_FRAME_PIXELS,
    MAX_FRAMES,
    Clock,
    Orientation,
    check_pixels,
    decode,
    open_video,
    range_of,
    to_rgb,
    video_stream,
)
from stores.files import list_files, open_regular, read_limited
from stores.png import DECODER_ERRORS, PICTURE_FORMATS
from stores.source import FOLDER_RATE, UNSPECIFIED, Frame, SourceInfo, working_size

__all__ = [
    "FOLDER_RATE",
    "Frame",
    "SourceInfo",
    "fingerprint",
    "folder_names",
    "probe",
    "read_frames",
    "working_size",
]

MAX_IMAGE_BYTES = 2**29
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"})


def fingerprint(path: Path) -> str:
    """SHA-256 (hex) of a file, or of the names and contents of a folder's images.

    Raises:
        VideoError: missing or unreadable.
    """
    try:
        if not os.path.isdir(path):
            with open_regular(path, VideoError) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        for name in _folder_files(path):
            with open_regular(path / name, VideoError) as file:
                line = f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n"
                digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()
    except OSError as error:
        raise VideoError(f"cannot read {path}: {error.strerror or error}", hint="check path and permissions") from error


def folder_names(path: Path) -> list[str]:
    """Stems of a folder's images in natural order (frame2 before frame10).

    Raises:
        VideoError: no images, or two images with one stem.
    """
    return [Path(name).stem for name in _folder_files(path)]


def probe(path: Path) -> SourceInfo:
    """Describe a video file or an image folder. Decodes the first frame, hashes everything.

    Raises:
        VideoError: missing, empty, not a video, no frame decodes, or a folder without readable images.
    """
    path = Path(path).absolute()
    if os.path.isdir(path):
        files = tuple(_folder_files(path))
        height, width = _read_image(path / files[0]).shape[:2]
        return SourceInfo(
            path=str(path), kind="folder", sha256=fingerprint(path), width=width, height=height,
            header_frames=len(files), files=files,
        )  # fmt: skip
    with open_video(path) as container:
        stream = video_stream(container, path)
        frame = next(decode(container, stream, path))
        orient = Orientation.of(frame)
        height, width = (frame.width, frame.height) if orient.transpose else (frame.height, frame.width)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        time_base = stream.time_base or Fraction(1, FOLDER_RATE)
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        # Broadcast clocks start anywhere: there, and only there, time zero is the first thing in the file.
        flags: Any = container.format.flags
        wild_clock = bool(flags & av.format.Flags.ts_discont.value)
        start = Fraction(container.start_time or 0, av.time_base) if wild_clock else Fraction(0)
        codec = stream.codec_context
        return SourceInfo(
            path=str(path),
            kind="video",
            sha256=fingerprint(path),
            width=width,
            height=height,
            rotation=round(frame.rotation / 90) * 90 % 360,
            time_base=(time_base.numerator, time_base.denominator),
            average_rate=(rate.numerator, rate.denominator),
            color_primaries=_tag(frame.color_primaries, codec.color_primaries),
            color_trc=_tag(frame.color_trc, codec.color_trc),
            colorspace=_tag(frame.colorspace, codec.colorspace),
            color_range=range_of(frame),
            has_audio=bool(container.streams.audio),
            header_frames=stream.frames,
            sample_aspect_ratio=_ratio(1 / aspect if orient.transpose and aspect > 0 else aspect),
            origin=round(start / time_base),
            files=(),
        )


def read_frames(path: Path, *, size: int | None = 480, start: int = 0) -> Generator[Frame, None, None]:
    """Decode a source frame by frame; one frame is in memory at a time.

    Args:
        size: shorter side of the working size (see `working_size`); None = source size.
        start: frames before this index are decoded but neither converted nor yielded.

    Yields:
        Frames in presentation order with strictly increasing pts.

    Raises:
        VideoError: as `probe`; also an image of another size than the folder's first. Damage inside a video
            is no error as long as something decodes: it ends in a warning.
    """
    path = Path(path).absolute()
    if os.path.isdir(path):
        yield from _read_folder(path, size, start)
        return
    with open_video(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = "AUTO"
        clock = Clock(stream)
        reformatter = VideoReformatter()
        orient: Orientation | None = None
        shape = (0, 0)
        for index, frame in enumerate(decode(container, stream, path)):
            pts = clock.next(frame.pts)
            if orient is None:
                orient = Orientation.of(frame)
                shape = (frame.width, frame.height) if orient.transpose else (frame.height, frame.width)
            if index < start:
                continue
            image = orient.apply(to_rgb(frame, reformatter))
            yield Frame(index, pts, _resize(image, working_size(shape[0], shape[1], size)))


def _read_folder(path: Path, size: int | None, start: int) -> Generator[Frame, None, None]:
    files = _folder_files(path)
    first = _read_image(path / files[0])
    for index, name in enumerate(files):
        if index < start:
            continue
        image = first if index == 0 else _read_image(path / name)
        if image.shape != first.shape:
            (height, width), (other_height, other_width) = image.shape[:2], first.shape[:2]
            raise VideoError(
                f"{path / name} is {width}x{height}, but {files[0]} is {other_width}x{other_height}",
                hint="all images of a folder must have one size",
            )
        yield Frame(index, index, _resize(image, working_size(image.shape[0], image.shape[1], size)))


def _folder_files(path: Path) -> list[str]:
    files = [file.name for file in list_files(path, IMAGE_SUFFIXES, VideoError)]
    if not files:
        raise VideoError(f"{path} has no images", hint="give a video file, or a folder of JPEG or PNG frames")
    if len(files) > MAX_FRAMES:
        raise VideoError(f"{path} has {len(files)} images, {MAX_FRAMES} are the most", hint="split it into folders")
    stems: dict[str, str] = {}
    for name in files:
        if (other := stems.setdefault(Path(name).stem, name)) != name:
            raise VideoError(f"{path} has {other} and {name}: two frames of one name", hint="keep one image per frame")
    return files


def _read_image(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB; the EXIF orientation is applied."""
    # not cv2.imread: that fails on non-ASCII paths on Windows
    data = read_limited(path, MAX_IMAGE_BYTES, VideoError)
    try:
        # Only the header is read here: OpenCV would reserve memory for whatever it says.
        with Image.open(io.BytesIO(data), formats=PICTURE_FORMATS) as header:
            check_pixels(*header.size, path)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except Image.DecompressionBombError as error:
        raise VideoError(
            f"{path}: claims more than {MAX_FRAME_PIXELS} pixels", hint="remove or replace this image"
        ) from error
    except (*DECODER_ERRORS, cv2.error):
        image = None
    if image is None:
        raise VideoError(f"{path} is empty, damaged or not an image", hint="remove or replace this image")
    return image


def _resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == shape:
        return np.ascontiguousarray(image)
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA)


def _tag(of_frame: int, of_stream: int) -> int:
    return int(of_frame if of_frame != UNSPECIFIED else of_stream)


def _ratio(value: Fraction) -> tuple[int, int]:
    return (value.numerator, value.denominator) if value > 0 else (1, 1)
