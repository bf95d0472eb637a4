"""Strategies: small videos of many codecs and containers, damaged; lists that name other files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.damage import damaged
from tests.stores.media import write_video

# suffix, codec, pixels
KINDS = [
    ("mp4", "libx264", "yuv420p"),
    ("mp4", "mpeg4", "yuv420p"),
    ("mov", "libx264", "yuv444p"),
    ("mov", "png", "rgb24"),
    ("webm", "libvpx-vp9", "yuv420p"),
    ("webm", "libvpx", "yuv420p"),
    ("mkv", "libx264", "yuv420p"),
    ("mkv", "ffv1", "yuv420p"),
    ("gif", "gif", "rgb8"),
    ("avi", "mpeg4", "yuv420p"),
    ("avi", "mjpeg", "yuvj420p"),
    ("ts", "mpeg2video", "yuv420p"),
    ("mpg", "mpeg2video", "yuv420p"),
    ("flv", "flv", "yuv420p"),
    ("wmv", "wmv2", "yuv420p"),
    ("y4m", "wrapped_avframe", "yuv420p"),
    ("apng", "apng", "rgb24"),
    ("ogv", "libtheora", "yuv420p"),
    ("nut", "rawvideo", "yuv420p"),
]
LISTS = [
    b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n%s\n#EXT-X-ENDLIST\n",
    b"ffconcat version 1.0\nfile %s\n",
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=x:%s\n",
    b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>%s</BaseURL></MPD>\n',
    b"# VobSub index file, v7\nid: en, index: 0\n# %s\n",
    b"\x1b[1m%s\n" * 100,
]
TARGETS = [
    b"http://127.0.0.1:9/a.ts",
    b"/etc/passwd",
    b"../a.mp4",
    b"a.mp4",
    b"concat:/etc/passwd|/etc/hosts",
    b"pipe:0",
]


@cache
def seeds() -> tuple[tuple[str, bytes], ...]:
    """(suffix, content) of small sound videos; codecs that this FFmpeg lacks are left out."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for index, (suffix, codec, pixels) in enumerate(KINDS):
            path = Path(folder) / f"{index}.{suffix}"
            try:
                write_video(path, codec=codec, pixels=pixels, pts=range(5), options={"g": "2"})
            except Exception:  # no such encoder here
                continue
            found.append((suffix, path.read_bytes()))
    assert len(found) >= 10
    return tuple(found)


@st.composite
def video_files(draw: Callable[..., Any]) -> tuple[str, bytes]:
    """(suffix, bytes) of something that is called a video."""
    if draw(st.integers(0, 14)) == 14:
        suffix = draw(st.sampled_from(["m3u8", "ffconcat", "sdp", "mpd", "idx", "mp4", "txt"]))
        text = draw(st.sampled_from(LISTS))
        return suffix, text.replace(b"%s", draw(st.sampled_from(TARGETS)))
    suffix, data = draw(st.sampled_from(seeds()))
    return suffix, draw(damaged(data, most=6, ends=True))
