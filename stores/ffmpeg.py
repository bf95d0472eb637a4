"""FFmpeg as this project uses it: open, decode, time, orientation, colour. `stores.video` is the way in."""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter

from stores.errors import VideoError
from stores.source import FOLDER_RATE

logger = logging.getLogger("mivos")

# FFmpeg "reads" these too, but a text file drawn on a terminal is not a video.
NOT_VIDEO_FORMATS = frozenset({"tty", "bin", "idf", "xbin", "adf"})
# These name other files, addresses or devices, and make FFmpeg open them.
LINKING_FORMATS = frozenset("concat hls dash imf sdp rtsp rtp sap vobsub webm_dash_manifest mlv".split())
DEVICES = frozenset("alsa oss pulse jack fbdev kmsgrab lavfi v4l2 video4linux2 x11grab xcbgrab".split())
REFUSED_FORMATS = NOT_VIDEO_FORMATS | LINKING_FORMATS | DEVICES
PLAYLIST_STARTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0")
MAX_FRAME_PIXELS = 2**26  # 8192 x 8192; an 8K frame has half of that
MAX_FRAMES = 1_000_000  # nine hours at 30 frames a second
MAX_PTS = 2**60  # a time stamp beyond is damage; the rest of 64 bits is room to add to it


def _readable() -> str:
    """The formats that FFmpeg may take a file for, as its option wants them."""
    return ",".join(name for name in sorted(av.formats_available) if not REFUSED_FORMATS & set(name.split(",")))


# Only the file itself: FFmpeg obeys `format_whitelist` before it reads anything of what the format may name.
OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": _readable(),
    "pattern_type": "none",  # the name img%03d.png is a name
    "enable_drefs": "0",  # tracks of a .mov in other files
}
# The default fast path of swscale is one to two levels too dark; this is exact and costs 5 ms at 720p.
SCALER = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
# FFmpeg's AVColorSpace (what streams are tagged with) -> SWS_CS_* (what the converter wants).
SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
LIMITED, FULL = 1, 2
# As a path it has lost one of its slashes, and may have got a folder before it.
ADDRESS = re.compile(r"(^|/)[a-z][a-z0-9+.-]+:/", re.IGNORECASE)


def guess_matrix(height: int, width: int) -> int:
    """AVColorSpace that players assume for an untagged stream: 1 (BT.709) for HD, else 6 (BT.601)."""
    return 1 if max(height, width) >= 1280 or min(height, width) > 576 else 6


def open_video(path: Path) -> av.container.InputContainer:
    """Open a file for reading, to be closed by the caller.

    Raises:
        VideoError: missing, empty, not readable, nothing that FFmpeg knows.
    """
    hint = "give a video file that FFmpeg reads, or a folder of images"
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise VideoError(f"{path} is a device or a pipe, not a file", hint="save the video as a file first")
        if found.st_size == 0:
            raise VideoError(f"{path} is empty (0 bytes)", hint="copy or download the video again")
        # absolute: a colon in the first part of a name would make it an address
        container = av.open(str(path.absolute()), mode="r", options=OPEN_OPTIONS, metadata_errors="replace")
    except FileNotFoundError as error:
        if ADDRESS.search(str(path)):
            raise VideoError(
                f"{path} is an address, not a file", hint="download the video, then give the file"
            ) from error
        raise VideoError(f"there is no file {path}", hint=hint) from error
    except PermissionError as error:
        raise VideoError(f"no permission to read {path}", hint="check the file's permissions") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        if _names_others(path):
            raise VideoError(
                f"{path} is a list that names other files, not a video", hint="give the video file itself"
            ) from error
        detail = getattr(error, "strerror", None) or error
        raise VideoError(f"{path} is not a video, or it is cut off ({detail})", hint=hint) from error
    except MemoryError as error:
        raise VideoError(f"{path}: its header asks for more memory than there is", hint=hint) from error
    return container


def _names_others(path: Path) -> bool:
    """Whether a file that was refused begins like a playlist."""
    try:
        with open(path, "rb") as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(PLAYLIST_STARTS)
    except (OSError, ValueError):
        return False


def check_pixels(width: int, height: int, path: Path) -> None:
    """Raises VideoError if a frame of this size is over the limit."""
    if width * height > MAX_FRAME_PIXELS:
        raise VideoError(
            f"{path}: has frames of {width}x{height}, {MAX_FRAME_PIXELS} pixels are the most",
            hint="scale it down first, for instance with: ffmpeg -i IN -vf scale=3840:-2 OUT",
        )


def video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first real video stream; cover art of a music file is none.

    Raises:
        VideoError: there is none, or no decoder for it.
    """
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        what = "only sound" if container.streams.audio else "no video stream"
        raise VideoError(f"{path} has {what}", hint="give a file with a video stream")
    if streams[0].codec_context is None:
        raise VideoError(f"{path}: no decoder for its video stream", hint="convert it, for instance to H.264")
    check_pixels(streams[0].codec_context.width, streams[0].codec_context.height, path)
    streams[0].codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}  # also where the size changes on the way
    return streams[0]


def decode(
    container: av.container.InputContainer, stream: av.VideoStream, path: Path
) -> Generator[av.VideoFrame, None, None]:
    """All frames that decode cleanly; one warning at the end if something did not.

    Raises:
        VideoError: nothing decodes.
    """
    count = damaged = 0
    last: Fraction | None = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except (av.FFmpegError, OSError, ValueError):
            # Reading failed, so there is no next packet; but the decoder may still hold good frames.
            damaged += 1
            packet = None
        try:
            # A packet that the file's end cut in two would decode into half a picture.
            frames = [] if packet is not None and packet.is_corrupt else stream.codec_context.decode(packet)
            damaged += packet is not None and packet.is_corrupt
        except EOFError:
            frames = []
        except (av.FFmpegError, ValueError):
            damaged += 1
            frames = []
        for frame in frames:
            if frame.is_corrupt:
                damaged += 1
                continue
            check_pixels(frame.width, frame.height, path)
            count += 1
            if count > MAX_FRAMES:
                raise VideoError(f"{path}: has more than {MAX_FRAMES} frames", hint="cut it into parts")
            if frame.pts is not None and stream.time_base:
                last = frame.pts * stream.time_base
            yield frame
        if packet is None:
            break
    if not count:
        # A decoder finds some sizes only when it begins, and then refuses by itself.
        check_pixels(stream.codec_context.width, stream.codec_context.height, path)
        raise VideoError(
            f"{path}: its video stream has no frame that can be decoded", hint="the file is empty or damaged"
        )
    end = _claimed_end(container, stream)
    if damaged:
        logger.warning("%s is damaged or cut off: %d frames read, %d errors", path, count, damaged)
    elif last is not None and end is not None and last < end * Fraction(9, 10) - 1:
        logger.warning(
            "%s seems cut off: its header says %.1f s, but the last of %d frames is at %.1f s",
            path, float(end), count, float(last),
        )  # fmt: skip


def _claimed_end(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    """End of the video in seconds by the header. Only used to word a warning."""
    if stream.duration and stream.time_base:
        return (stream.duration + (stream.start_time or 0)) * stream.time_base
    if container.duration and not container.streams.audio:
        return Fraction(container.duration + (container.start_time or 0), av.time_base)
    return None


class Clock:
    """Strictly increasing pts from what the frames carry."""

    def __init__(self, stream: av.VideoStream) -> None:
        base = stream.time_base or Fraction(1, FOLDER_RATE)
        rate = stream.average_rate or stream.guessed_rate or Fraction(FOLDER_RATE)
        self.step = max(1, round(1 / (rate * base)))  # one frame
        self.second = max(1, round(1 / base))
        self.last: int | None = None
        self.offset = 0

    def next(self, pts: int | None) -> int:
        """pts of the next frame, given what it carries itself."""
        if pts is not None and abs(pts) > MAX_PTS:
            pts = None
        if self.last is None:
            self.last = pts if pts is not None else 0
            return self.last
        if pts is None:
            pts = self.last + self.step
        else:
            pts += self.offset
            if pts < self.last - self.second:  # the clock was reset (joined recordings): go on from here
                self.offset += self.last + self.step - pts
                pts = self.last + self.step
        self.last = max(pts, self.last + 1)
        return self.last


@dataclass(frozen=True)
class Orientation:
    """A display matrix, rounded to the eight ways a picture can lie."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Self:
        """From the side data of a decoded frame."""
        # The matrix maps (x, y) to (a x + c y, b x + d y). The angle alone would miss mirrored pictures.
        side_data: Any = frame.side_data  # the stubs say TypedDict, it is a mapping from Type
        try:
            matrix = np.frombuffer(bytes(side_data[SideDataType.DISPLAYMATRIX]), dtype=np.int32)
            a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
        except (KeyError, ValueError):  # none there, or side data that PyAV has no name for
            cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][round(frame.rotation / 90) % 4]
            a, b, c, d = cos, -sin, sin, cos
        if abs(a) >= abs(b):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """[H, W, C] as stored -> as displayed; a view."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


def to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """uint8 [H, W, 3] RGB before rotation."""
    matrix = frame.colorspace
    if frame.format.is_rgb:
        return reformatter.reformat(frame, format="rgb24", interpolation=SCALER).to_ndarray()
    if matrix not in SWS_MATRIX:
        matrix = guess_matrix(frame.height, frame.width)
    return reformatter.reformat(
        frame,
        format="rgb24",
        src_colorspace=SWS_MATRIX[matrix],
        src_color_range=range_of(frame) or LIMITED,
        dst_color_range=FULL,
        interpolation=SCALER,
    ).to_ndarray()


def range_of(frame: av.VideoFrame) -> int:
    """0 unspecified, 1 limited, 2 full. The old yuvj formats and grey say it by their name."""
    name = frame.format.name
    if name.startswith("yuvj") or (name.startswith("gray") and not frame.color_range):
        return FULL
    return int(frame.color_range)
