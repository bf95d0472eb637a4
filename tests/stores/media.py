"""Makes the small real files that the video tests read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

VFR = (0, 1, 2, 7, 8, 20)  # pts of a file with a variable frame rate, at 1/30 s


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 [H, W, 3] RGB: four quarters of different colour, brighter with every index."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[: height // 2, : width // 2] = (200, 30, 30)
    image[: height // 2, width // 2 :] = (30, 200, 30)
    image[height // 2 :, : width // 2] = (30, 30, 200)
    image[height // 2 :, width // 2 :] = (180, 180, 60)
    return image + np.uint8(2 * index % 50)


def write_video(
    path: Path,
    *,
    pts: Sequence[int] = range(6),
    time_base: Fraction = Fraction(1, 30),
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    display: dict[str, Any] | None = None,
    matrix: int = 2,
    colour_range: int = 0,
    sound: str | None = None,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write `picture(i)` at pts[i] with PyAV alone. `display`: arguments of set_display_rotation."""
    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        video: Any = output.add_stream(codec, rate=30, options=options or {"g": "3"})
        video.height, video.width = size
        video.pix_fmt = pixels
        video.codec_context.time_base = time_base
        video.codec_context.colorspace = matrix
        video.codec_context.color_range = colour_range
        if display:
            video.set_display_rotation(**display)
        audio: Any = output.add_stream(sound, rate=8000, layout="mono") if sound else None
        output.start_encoding()
        for index, time in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")
            if pixels != "rgb24":
                frame = frame.reformat(
                    format=pixels,
                    dst_colorspace={2: 5, 6: 5}.get(matrix, matrix),
                    src_color_range=2,
                    dst_color_range=colour_range or 1,
                )
            frame.pts, frame.time_base = time, time_base
            frame.colorspace, frame.color_range = matrix, colour_range
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if audio is not None:
            wave = (np.sin(np.arange(8000) / 3) * 9000).astype(np.int16)
            begin = round(pts[0] * time_base * 8000) if pts else 0
            for start in range(0, 8000, 1000):
                samples = av.AudioFrame.from_ndarray(wave[None, start : start + 1000], "s16", "mono")
                samples.sample_rate, samples.pts, samples.time_base = 8000, begin + start, Fraction(1, 8000)
                output.mux(audio.encode(samples))
            output.mux(audio.encode(None))
    return path


def warnings_of(caplog: Any) -> list[str]:
    """Texts of the warnings that mivos logged."""
    return [r.getMessage() for r in caplog.records if r.name == "mivos" and r.levelno >= logging.WARNING]
