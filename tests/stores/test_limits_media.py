"""Limits against pictures and videos that were made to harm; see `test_limits`."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from stores import ffmpeg, video
from stores.errors import MivosError
from stores.labels import read_labels
from stores.masks import read_mask
from tests.fuzz.pictures import PALETTE, SIGNATURE, chunk, encoded, header
from tests.stores.media import write_video
from tests.stores.refusals import refusal


def png_bomb(side: int) -> bytes:
    return SIGNATURE + header(side, side) + PALETTE + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def jpeg_bomb(side: int) -> bytes:
    data = bytearray(encoded("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


@pytest.mark.parametrize("side", [8193, 60_000])
def test_pixel_bombs(tmp_path: Path, side: int) -> None:
    mask = tmp_path / "mask.png"
    mask.write_bytes(png_bomb(side))
    assert refusal(lambda: read_mask(mask), f"{side}x{side}", "67108864").hint
    for suffix, data in (("png", png_bomb(side)), ("jpg", jpeg_bomb(side))):
        folder = tmp_path / suffix
        folder.mkdir()
        (folder / f"0.{suffix}").write_bytes(data)
        assert refusal(lambda folder=folder: video.probe(folder), f"0.{suffix}", "67108864").hint
        refusal(lambda folder=folder, suffix=suffix: read_labels(folder / f"0.{suffix}"), f"0.{suffix}")


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        ("y4m", b"YUV4MPEG2 W16384 H16384 F25:1 C420\nFRAME\n" + bytes(4000)),
        (
            "gif",
            b"GIF89a" + struct.pack("<HH", 16384, 16384) + b"\x80\0\0" + bytes(6) + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
        ),
        ("png", png_bomb(16384)),
    ],
)
def test_a_video_header_with_too_many_pixels(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"bomb.{suffix}"
    path.write_bytes(data)
    for call in (lambda: video.probe(path), lambda: list(video.read_frames(path))):
        refusal(call, str(path))


def test_the_limit_of_pixels_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "MAX_FRAME_PIXELS", 1000)
    for name, codec in (("a.mp4", "libx264"), ("a.avi", "mjpeg")):
        pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        path = write_video(tmp_path / name, codec=codec, pixels=pixels, options={"g": "1"})
        assert refusal(lambda path=path: video.probe(path), "64x48, 1000 pixels are the most").hint


def test_a_video_that_grows_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    for index, size in enumerate([(48, 64), (480, 640)]):
        part = write_video(tmp_path / f"{index}.h264", container="h264", size=size, options={"g": "1"})
        parts.append(part.read_bytes())
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(parts))
    assert len(list(video.read_frames(path))) >= 10
    monkeypatch.setattr(ffmpeg, "MAX_FRAME_PIXELS", 100 * 100)
    with pytest.raises(MivosError, match="640x480, 10000 pixels are the most"):
        for frame in video.read_frames(path):
            assert frame.image.size <= 3 * 100 * 100


def test_too_many_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4")
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(4):
        (folder / f"{index}.jpg").write_bytes(encoded("JPEG"))
    monkeypatch.setattr(ffmpeg, "MAX_FRAMES", 3)
    monkeypatch.setattr(video, "MAX_FRAMES", 3)
    assert refusal(lambda: list(video.read_frames(path)), "more than 3 frames").hint
    assert refusal(lambda: video.probe(folder), "4 images, 3 are the most").hint


def test_time_stamps_stay_in_64_bits() -> None:
    class Stream:
        time_base = average_rate = guessed_rate = None

    clock = ffmpeg.Clock(Stream())  # type: ignore[arg-type]
    found = [clock.next(pts) for pts in (None, 2**63 - 1, -(2**63), 5, None, 2**62)]
    assert found == sorted(set(found)) and max(found) < 2**61


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile '{}'\n"),
        ("list.mp4", "ffconcat version 1.0\nfile {}\n"),
        ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns={}\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
        ("list.mpd", '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>'),
    ],
)
def test_lists_open_nothing(tmp_path: Path, name: str, text: str, visits: tuple[str, list[str]]) -> None:
    write_video(tmp_path / "real.ts", codec="mpeg2video", options={})
    for target in ("real.ts", str(tmp_path / "real.ts"), f"{visits[0]}/a.ts"):
        path = tmp_path / name
        path.write_text(text.format(target))
        assert "the video file itself" in str(refusal(lambda path=path: video.probe(path), "names other files").hint)
    assert not visits[1]


def test_a_name_with_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "f001.png").write_bytes(encoded("PNG", size=(32, 32)))
    (tmp_path / "f%03d.png").write_bytes(encoded("PNG", size=(16, 16)))
    assert video.probe(tmp_path / "f%03d.png").width == 16


def test_an_address_is_told_from_a_missing_file(tmp_path: Path, visits: tuple[str, list[str]]) -> None:
    for address in (f"{visits[0]}/a.mp4", "rtsp://127.0.0.1/a", "concat:/etc/passwd|/etc/hosts", "file:///etc/passwd"):
        refusal(lambda address=address: video.probe(Path(address)))
    refusal(lambda: video.probe(Path(f"{visits[0]}/a.mp4")), "is an address, not a file")
    assert not visits[1]
