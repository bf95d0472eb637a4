from __future__ import annotations

import dataclasses
import errno
import itertools
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stores.errors import StorageFullError, StoreError, UsageError
from stores.video import SourceInfo, probe, read_frames
from stores.video_writer import VideoWriter, storage_errors
from tests.stores.media import VFR, picture, warnings_of, write_video

OUTPUTS = [("h264", "mp4"), ("vp9-alpha", "webm"), ("prores4444", "mov")]


def source_like(width: int = 64, height: int = 48, **changes: Any) -> SourceInfo:
    info = SourceInfo(
        path="/nowhere.mp4", kind="video", sha256="", width=width, height=height,
        time_base=(1, 30), average_rate=(30, 1),
    )  # fmt: skip
    return dataclasses.replace(info, **changes)


def read_alpha(path: Path) -> list[np.ndarray]:
    """Alpha planes as float [H, W] in 0..1."""
    planes = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder: Any = stream.codec_context
        if decoder.name == "vp9":  # FFmpeg's own decoder drops alpha
            decoder = av.CodecContext.create("libvpx-vp9", "r")
        for packet in container.demux(stream):
            for frame in decoder.decode(packet):
                plane: Any = frame.planes[3]
                bits = frame.format.components[3].bits
                values = np.frombuffer(plane, dtype=np.uint8 if bits == 8 else "<u2")
                planes.append(values.reshape(plane.height, -1)[:, : plane.width] / (2**bits - 1))
    return planes


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """What a full disk does, for this process only: writes beyond `size` bytes in a file fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("codec", "suffix"), OUTPUTS)
@pytest.mark.parametrize("time_base", [Fraction(1, 30), Fraction(1, 90000), Fraction(1001, 30000)])
def test_variable_frame_rate_is_kept(tmp_path: Path, codec: str, suffix: str, time_base: Fraction) -> None:
    scale = round(Fraction(1, 30) / time_base)
    source = source_like(time_base=time_base.as_integer_ratio())
    path = tmp_path / f"a.{suffix}"
    with VideoWriter(path, codec=codec, width=64, height=48, source=source) as writer:
        for index, pts in enumerate(VFR):
            writer.write(picture(index), pts * scale)
    written = [pts * scale * time_base for pts in VFR]
    read_base = Fraction(*probe(path).time_base)
    read = [f.pts * read_base for f in read_frames(path, size=None)]
    if suffix == "webm":  # milliseconds
        assert [round(float(t), 3) for t in read] == [round(float(t), 3) for t in written]
    else:
        assert read == written
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("codec", "suffix"), OUTPUTS[1:])
def test_alpha_is_straight_and_comes_back(tmp_path: Path, codec: str, suffix: str) -> None:
    alpha = np.zeros((48, 64), np.uint8)
    alpha[8:40, 8:32] = 255
    alpha[8:40, 32:56] = 128
    path = tmp_path / f"a.{suffix}"
    with VideoWriter(path, codec=codec, width=64, height=48, source=source_like()) as writer:
        for index in range(4):
            writer.write(np.dstack([picture(0), alpha]), index)
        writer.write(picture(0), 4)  # RGB is opaque
    planes = read_alpha(path)
    assert len(planes) == 5
    for plane in planes[:4]:
        assert np.abs(plane - alpha / 255).max() < 0.02
        assert plane[20, 20] == 1.0 and plane[2, 2] == 0.0
    assert (planes[4] == 1.0).all()
    colour = next(read_frames(path, size=None)).image  # straight: not darkened where alpha is low
    assert np.abs(colour[12:20, 4:28].mean((0, 1)) - picture(0)[12:20, 4:28].mean((0, 1))).max() < 4


@pytest.mark.parametrize(("codec", "suffix"), OUTPUTS)
def test_odd_sizes(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    image = picture(0, 47, 63)
    with VideoWriter(path, codec=codec, width=63, height=47, source=source_like(63, 47)) as writer:
        for index in range(3):
            writer.write(image, index)
    (first, *_) = read_frames(path, size=None)
    assert first.image.shape[:2] == ((48, 64) if codec == "h264" else (47, 63))
    assert np.abs(first.image[:47, :63].astype(int) - image).mean() < 8


@pytest.mark.parametrize(("codec", "suffix"), OUTPUTS)
@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1},
        {"colorspace": 6, "color_primaries": 6, "color_trc": 6, "color_range": 2},
        {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1},
        {"colorspace": 0, "color_range": 2},
        {"kind": "folder"},
    ],
)
def test_colours_and_tags(tmp_path: Path, codec: str, suffix: str, tags: dict[str, Any]) -> None:
    source = source_like(**tags)
    path = tmp_path / f"a.{suffix}"
    with VideoWriter(path, codec=codec, width=64, height=48, source=source) as writer:
        for index in range(3):
            writer.write(picture(0), index)
    info = probe(path)
    invented = source.kind == "folder" or source.colorspace == 0
    assert info.colorspace == (1 if invented else source.colorspace)
    if suffix != "webm":  # libvpx says nothing of transfer curves
        assert info.color_trc == (1 if invented else source.color_trc)
    assert (info.color_range == 2) == (source.color_range == 2 and not invented and codec != "prores4444")
    (first, *_) = read_frames(path, size=None)
    assert np.abs(first.image.mean((0, 1)) - picture(0).mean((0, 1))).max() < 2


@pytest.mark.parametrize(("codec", "suffix"), OUTPUTS)
def test_round_trip_of_real_video(tmp_path: Path, bikes_video: Path, codec: str, suffix: str) -> None:
    info = probe(bikes_video)
    frames = list(itertools.islice(read_frames(bikes_video, size=None), 8))
    path = tmp_path / f"a.{suffix}"
    with VideoWriter(path, codec=codec, width=info.width, height=info.height, source=info) as writer:
        for frame in frames:
            writer.write(frame.image, frame.pts)
    for before, after in zip(frames, read_frames(path, size=None), strict=True):
        assert np.abs(before.image.mean((0, 1)) - after.image.mean((0, 1))).max() < 2
        assert np.abs(before.image.astype(int) - after.image).mean() < 6


def test_pixel_shape_is_kept(tmp_path: Path, carphone_video: Path) -> None:
    info = probe(carphone_video)
    path = tmp_path / "a.mp4"
    with VideoWriter(path, codec="h264", width=info.width, height=info.height, source=info) as writer:
        writer.write(next(read_frames(carphone_video)).image, 0)
    assert probe(path).sample_aspect_ratio == info.sample_aspect_ratio == (128, 117)


def copy_with_sound(source: Path, path: Path) -> SourceInfo:
    info = probe(source)
    with VideoWriter(
        path, codec="h264", width=info.width, height=info.height, source=info, audio_from=source
    ) as writer:
        for frame in read_frames(source, size=None):
            writer.write(frame.image, frame.pts)
    return info


def packets_of_sound(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        packets: Any = container.demux(audio=0)
        return [(float(p.pts * p.time_base), bytes(p)) for p in packets if p.size]


@pytest.mark.parametrize(("suffix", "sound"), [("mp4", "aac"), ("mkv", "libopus"), ("mkv", "flac")])
def test_sound_is_copied(tmp_path: Path, suffix: str, sound: str) -> None:
    source = write_video(tmp_path / f"a.{suffix}", pts=range(30), sound=sound)
    path = tmp_path / "out.mp4"
    info = copy_with_sound(source, path)
    before, after = packets_of_sound(source), packets_of_sound(path)
    assert [data for _, data in before] == [data for _, data in after]
    assert np.allclose([t for t, _ in before], [t for t, _ in after], atol=0.002)
    base, base_out = Fraction(*info.time_base), Fraction(*probe(path).time_base)
    assert [f.pts * base for f in read_frames(source)] == [f.pts * base_out for f in read_frames(path)]


@pytest.mark.parametrize(("suffix", "sound"), [("mov", "pcm_s16le"), ("avi", "pcm_mulaw")])
def test_sound_that_mp4_does_not_take_is_encoded(tmp_path: Path, suffix: str, sound: str) -> None:
    source = write_video(tmp_path / f"a.{suffix}", pts=range(30), sound=sound)
    path = tmp_path / "out.mp4"
    copy_with_sound(source, path)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        samples = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert abs(len(samples) - 8000) < 2200 and np.abs(samples).max() > 0.1


def test_transport_stream_starts_at_zero_with_its_sound(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.ts", pts=range(3000, 3030), sound="aac", options={"bf": "0"})
    path = tmp_path / "out.mp4"
    info = copy_with_sound(source, path)
    assert info.origin > 0
    base, base_out = Fraction(*info.time_base), Fraction(*probe(path).time_base)
    expected = [(f.pts - info.origin) * base for f in read_frames(source)]
    assert [f.pts * base_out for f in read_frames(path)] == expected
    before, after = packets_of_sound(source), packets_of_sound(path)
    assert len(before) == len(after)  # the packet headers of a transport stream are gone, the times are not
    shift = float(info.origin * base)
    assert np.allclose([t - shift for t, _ in before], [t for t, _ in after], atol=0.002)


def test_damaged_sound_costs_only_the_sound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(b"no sound here")
    path = tmp_path / "out.mp4"
    with VideoWriter(path, codec="h264", width=64, height=48, source=source_like(), audio_from=noise) as writer:
        writer.write(picture(0), 0)
    assert len(list(read_frames(path))) == 1
    assert "sound" in warnings_of(caplog)[0]


@pytest.mark.parametrize(("codec", "suffix"), OUTPUTS)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_nothing(tmp_path: Path, codec: str, suffix: str, error: type[BaseException]) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text("old")
    with (
        pytest.raises(error),
        VideoWriter(path, codec=codec, width=64, height=48, source=source_like()) as writer,
    ):
        writer.write(picture(0), 0)
        raise error
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "old"


@pytest.mark.parametrize(("codec", "suffix"), OUTPUTS)
@pytest.mark.parametrize("limit", [0, 3000])
def test_full_disk(tmp_path: Path, codec: str, suffix: str, limit: int) -> None:
    noise = np.random.default_rng(0)
    with (
        pytest.raises(StorageFullError, match="no room"),
        file_size_limit(limit),
        VideoWriter(tmp_path / f"a.{suffix}", codec=codec, width=64, height=48, source=source_like()) as writer,
    ):
        for index in range(60):
            writer.write(noise.integers(0, 256, (48, 64, 4), np.uint8), index)
    assert not list(tmp_path.iterdir())


def test_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "missing"):
        with (
            pytest.raises(StorageFullError, match="cannot write"),
            VideoWriter(folder / "a.mp4", codec="h264", width=64, height=48, source=source_like()) as writer,
        ):
            writer.write(picture(0), 0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_errors_of_the_system(number: int) -> None:
    with pytest.raises(StorageFullError), storage_errors(Path("a")):
        raise OSError(number, "no")


def test_misuse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown video codec"):
        VideoWriter(tmp_path / "a.mp4", codec="mpeg1", width=64, height=48, source=source_like())
    with (
        pytest.raises(StoreError, match="no frames"),
        VideoWriter(tmp_path / "a.mp4", codec="h264", width=64, height=48, source=source_like()),
    ):
        pass
    with (
        pytest.raises(ValueError, match="frame is"),
        VideoWriter(tmp_path / "a.mp4", codec="h264", width=64, height=48, source=source_like()) as writer,
    ):
        writer.write(picture(0, 20, 20), 0)
    assert not list(tmp_path.iterdir())
