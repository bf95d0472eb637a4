"""Video files out: one frame at a time, in place only when whole.

=============  =========================  ==========================================================
codec          container, pixels          for
=============  =========================  ==========================================================
h264           .mp4, yuv420p              looking at; plays everywhere
vp9-alpha      .webm, yuva420p            the web; read the alpha with the decoder "libvpx-vp9", FFmpeg's own
                                          "vp9" drops it
prores4444     .mov, yuva444p10le         editing programs; alpha is lossless
=============  =========================  ==========================================================

Alpha is straight, not premultiplied.

Time stamps are the source's, in the source's time base, so a variable frame rate stays variable. MP4 and MOV
keep them exactly; WebM counts milliseconds, so there they are rounded to the nearest one.

Colours: RGB becomes YUV by the same matrix and range that `stores.video` used the other way, and the file
gets the source's tags, unspecified ones included: every player then treats both files alike. Image folders
get BT.709. ProRes is always limited range, as its readers assume.

H.264 with 4:2:0 chroma has even sizes only: an odd width or height gets one more column or row, a copy of the
last. The other two keep odd sizes.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from stores.errors import StorageFullError, StoreError, UsageError
from stores.ffmpeg import FULL, LIMITED, SCALER, SWS_MATRIX, guess_matrix
from stores.sound import SoundTrack
from stores.source import UNSPECIFIED, SourceInfo

logger = logging.getLogger("mivos")

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True)
class Codec:
    """How one kind of video is written."""

    encoder: str
    container: str
    pixels: str
    alpha: bool
    even: bool
    options: dict[str, str]
    container_options: dict[str, str] = field(default_factory=dict)
    copied_audio: frozenset[str] = frozenset()  # players of the container know these; the rest is re-encoded
    audio_encoder: str = "aac"


CODECS = {
    "h264": Codec(
        "libx264", "mp4", "yuv420p", alpha=False, even=True,
        options={"crf": "16", "preset": "faster"},
        container_options={"movflags": "+faststart"},
        copied_audio=frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "opus", "libopus", "flac"}),
    ),
    "vp9-alpha": Codec(
        # Hidden alt-ref frames of colour and alpha would not pair up: auto-alt-ref must be off.
        "libvpx-vp9", "webm", "yuva420p", alpha=True, even=False,
        options={
            "crf": "24", "b": "0", "auto-alt-ref": "0",
            "deadline": "realtime", "cpu-used": "6", "row-mt": "1",
        },
        copied_audio=frozenset({"opus", "libopus", "vorbis", "libvorbis"}), audio_encoder="libopus",
    ),
    "prores4444": Codec(
        "prores_ks", "mov", "yuva444p10le", alpha=True, even=False,
        options={"profile": "4444", "vendor": "apl0", "alpha_bits": "16"},
        copied_audio=frozenset({"aac", "mp3", "mp3float", "ac3", "alac", "pcm_s16le", "pcm_s24le"}),
    ),
}  # fmt: skip


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about writing `path` into our errors.

    Raises:
        StorageFullError: no room, no permission, a read-only or missing place.
        StoreError: anything else that FFmpeg or the system refuses.
    """
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        number = getattr(error, "errno", None)
        reason = getattr(error, "strerror", None) or str(error)
        if number in NO_ROOM:
            raise StorageFullError(f"no room to write {path}: {reason}", hint="free some space") from error
        if number in NO_ACCESS or isinstance(error, (PermissionError, NotADirectoryError, FileNotFoundError)):
            raise StorageFullError(
                f"cannot write {path}: {reason}", hint="choose another output folder or fix its permissions"
            ) from error
        raise StoreError(f"cannot write {path}: {reason}") from error


class VideoWriter:
    """Writes one video file; a context manager.

    The frames go to a hidden file beside `path`, which is renamed to `path` when the block ends cleanly and
    removed when it does not. An existing `path` is replaced then.

    Args:
        path: the file to make.
        codec: a key of `CODECS`.
        width, height: pixels of the frames to come.
        source: gives time base, rate, colour tags and pixel shape.
        audio_from: a file whose sound is copied, interleaved as the frames go. Sound that the container or
            its usual players do not take is re-encoded. Damaged sound costs the sound, not the video.

    Raises:
        UsageError: unknown codec.
        StorageFullError: no room, no permission.
    """

    def __init__(
        self,
        path: Path,
        *,
        codec: str,
        width: int,
        height: int,
        source: SourceInfo,
        audio_from: Path | None = None,
    ) -> None:
        if codec not in CODECS:
            raise UsageError(f"unknown video codec {codec!r}", hint=f"one of: {', '.join(CODECS)}")
        self.path = Path(path)
        self.codec = CODECS[codec]
        self.width, self.height = width, height
        self.source = source
        self.audio_from = audio_from
        self.temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self.frames = 0
        self._reformatter = VideoReformatter()
        self._audio: SoundTrack | None = None

    def __enter__(self) -> Self:
        with storage_errors(self.path):
            try:
                self._open(self.audio_from)
            except ValueError as error:  # what FFmpeg raises for "invalid argument" and "invalid data"
                if self._audio is None:
                    raise
                logger.warning("%s: its sound does not fit into %s and is left out", self.audio_from, self.path)
                logger.debug("reason: %s", error)
                self._open(None)
        return self

    def _open(self, audio_from: Path | None) -> None:
        with contextlib.ExitStack() as undo:
            undo.callback(self._discard)
            self._audio = None
            self._container = av.open(
                str(self.temporary.absolute()),
                "w",
                format=self.codec.container,
                options=self.codec.container_options,
            )
            undo.callback(self._container.close)
            self._stream = self._add_stream()
            if audio_from is not None:
                self._audio = SoundTrack.open(
                    Path(audio_from),
                    self._container,
                    self.codec.copied_audio,
                    self.codec.audio_encoder,
                    self._origin_seconds,
                )
                if self._audio is not None:
                    undo.callback(self._audio.close)
            self._container.start_encoding()
            undo.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                return
            if not self.frames:
                raise StoreError(f"no frames were written to {self.path}")
            with storage_errors(self.path):
                self._mux(self._stream.encode(None))
                if self._audio is not None:
                    self._audio.mux_until(None)
                self._container.close()
                os.replace(self.temporary, self.path)
        finally:
            if self._audio is not None:
                self._audio.close()
            with contextlib.suppress(av.FFmpegError, OSError, ValueError):
                self._container.close()
            self._discard()

    def write(self, image: np.ndarray, pts: int) -> None:
        """Append one frame.

        Args:
            image: uint8 [H, W, 3] RGB, or [H, W, 4] straight RGBA. A codec with alpha takes RGB as opaque,
                one without takes the RGB of RGBA.
            pts: time in the source's time base; larger than the last one.

        Raises:
            StorageFullError, StoreError: as `storage_errors`.
        """
        if image.shape[:2] != (self.height, self.width):
            raise ValueError(f"frame is {image.shape[:2]}, the video {(self.height, self.width)}")
        with storage_errors(self.path):
            frame = self._to_yuv(image)
            frame.pts = pts - self.source.origin
            frame.time_base = self._time_base
            frame.duration = self._frame_duration
            self._mux(self._stream.encode(frame))
        self.frames += 1

    @property
    def _time_base(self) -> Fraction:
        return Fraction(*self.source.time_base)

    @property
    def _origin_seconds(self) -> Fraction:
        return self.source.origin * self._time_base

    @property
    def _frame_duration(self) -> int:
        numerator, denominator = self.source.average_rate
        return max(1, round(Fraction(denominator, numerator) / self._time_base)) if numerator else 1

    def _add_stream(self) -> Any:
        # VideoStream forwards these attributes to its codec context; the type stubs do not know it.
        numerator, denominator = self.source.average_rate
        rate = Fraction(numerator, denominator) if numerator else None
        stream: Any = self._container.add_stream(self.codec.encoder, rate=rate, options=dict(self.codec.options))
        stream.width = self.width + (self.width % 2 if self.codec.even else 0)
        stream.height = self.height + (self.height % 2 if self.codec.even else 0)
        stream.pix_fmt = self.codec.pixels
        stream.time_base = stream.codec_context.time_base = self._time_base
        context = stream.codec_context
        if self.source.sample_aspect_ratio != (1, 1):
            context.sample_aspect_ratio = Fraction(*self.source.sample_aspect_ratio)
        self._tags, self._matrix, self._range = _colours(self.source)
        if self.codec.encoder == "prores_ks":
            self._range = LIMITED
            self._tags = (*self._tags[:3], LIMITED)
            context.thread_type = "FRAME"  # the only way it uses more than one core
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = self._tags
        return stream

    def _to_yuv(self, image: np.ndarray) -> av.VideoFrame:
        bottom, right = (image.shape[0] % 2, image.shape[1] % 2) if self.codec.even else (0, 0)
        colour = np.ascontiguousarray(image[..., :3])
        if bottom or right:
            colour = cv2.copyMakeBorder(colour, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(colour, format="rgb24"),
            format=self.codec.pixels,
            dst_colorspace=self._matrix,
            src_color_range=FULL,
            dst_color_range=self._range,
            interpolation=SCALER,
        )
        if self.codec.alpha and image.shape[2] == 4:
            _set_alpha(frame, image[..., 3])
        frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = self._tags
        return frame

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            if self._audio is not None and packet.dts is not None:
                self._audio.mux_until(packet.dts * packet.time_base)
            self._container.mux(packet)

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            self.temporary.unlink(missing_ok=True)


def _colours(source: SourceInfo) -> tuple[tuple[int, int, int, int], int, int]:
    """(primaries, transfer, matrix, range tags), swscale matrix, swscale range for a source."""
    matrix = source.colorspace
    tags = (source.color_primaries, source.color_trc, matrix, source.color_range)
    if source.kind == "folder" or matrix == 0:  # RGB has no matrix: choose one and say so
        primaries, transfer = (t if t != UNSPECIFIED else 1 for t in tags[:2])
        return (primaries, transfer, 1, LIMITED), SWS_MATRIX[1], LIMITED
    if matrix not in SWS_MATRIX:  # unspecified, or one that swscale cannot make
        guess = guess_matrix(source.height, source.width)
        return (*tags[:2], UNSPECIFIED, tags[3]), SWS_MATRIX[guess], tags[3] or LIMITED
    return tags, SWS_MATRIX[matrix], tags[3] or LIMITED


def _set_alpha(frame: av.VideoFrame, alpha: np.ndarray) -> None:
    """Write uint8 [H, W] alpha into a frame's fourth plane; swscale might leave 255 below opaque."""
    plane: Any = frame.planes[3]
    values = alpha
    if frame.format.components[3].bits == 10:
        wide = alpha.astype("<u2")
        values = wide << 2 | wide >> 6  # 255 -> 1023
    rows = np.frombuffer(plane, dtype=values.dtype).reshape(plane.height, -1)
    rows[:, : plane.width] = values
