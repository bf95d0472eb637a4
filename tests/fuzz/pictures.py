"""Strategies: PNG files built chunk by chunk, with everything in them that can be wrong."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from stores.mask_colours import davis_palette
from tests.fuzz.damage import damaged

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# colour type and depth; the last ones do not exist
PIXELS = [
    (3, 8), (3, 4), (3, 2), (3, 1), (0, 8), (0, 1), (0, 16), (2, 8), (2, 16), (4, 8), (6, 8), (6, 16), (0, 2), (0, 4),
    (1, 8), (7, 8), (3, 16), (2, 3),
]  # fmt: skip
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
SIZES = [0, 1, 2, 8, 33, 8192, 8193, 60_000, 2**31 - 1, 2**31, 2**32 - 1]


def chunk(name: bytes, data: bytes, crc: int | None = None) -> bytes:
    """One chunk of a PNG, with its checksum unless another one is given."""
    sum_ = zlib.crc32(name + data) if crc is None else crc
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", sum_)


def bomb(size: int) -> bytes:
    """Zlib data that unpacks to `size` zeros."""
    return zlib.compress(bytes(size), 9)


def header(width: int, height: int, depth: int = 8, kind: int = 3, interlaced: int = 0) -> bytes:
    """The IHDR chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced))


PALETTE = chunk(b"PLTE", davis_palette().tobytes())
EXTRAS = [
    chunk(b"tRNS", bytes(range(20))),
    chunk(b"tRNS", bytes(300)),
    chunk(b"PLTE", bytes(7)),
    chunk(b"PLTE", b""),
    chunk(b"PLTE", bytes(3 * 300)),
    chunk(b"zTXt", b"a\0\0" + bomb(2 * 2**20)),
    chunk(b"iCCP", b"a\0\0" + bomb(2 * 2**20)),
    chunk(b"iTXt", b"a\0\1\0\0\0" + bomb(2 * 2**20)),
    chunk(b"acTL", struct.pack(">II", 2**31, 0)),
    chunk(b"acTL", struct.pack(">II", 2, 0)),
    chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 0, 0, 0)),
    chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 2**31, 8, 5, 5, 0, 0, 9, 9)),
    chunk(b"fdAT", bytes(4) + bomb(100)),
    chunk(b"eXIf", b"MM\0*" + bytes(20)),
    chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"),
    chunk(b"gAMA", bytes(3)),
    chunk(b"pHYs", b"\xff" * 9),
    chunk(b"cHRM", bytes(4)),
    chunk(b"sBIT", b""),
    chunk(b"tIME", bytes(99)),
    chunk(b"IDAT", b""),
    chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 6, 0, 0, 0)),
    chunk(b"IEND", b""),
    chunk(b"ABCD", b"critical"),
    chunk(b"\0\xff\x1b[", b"odd"),
    chunk(b"tEXt", b"k\0v", crc=0),
    struct.pack(">I", 2**31 - 1) + b"tEXt",
]


@st.composite
def built(draw: Callable[..., Any]) -> bytes:
    """A PNG of any kind of pixels; sizes, data, extra chunks and checksums may be wrong."""
    kind, depth = draw(st.sampled_from(PIXELS))
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    line = (width * depth * CHANNELS.get(kind, 1) + 7) // 8 + 1
    pixels = draw(st.sampled_from(["zero", "few", "any"]))
    raw = bytearray(line * height)
    if pixels != "zero":
        rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        raw[:] = rng.integers(0, 4 if pixels == "few" else 256, len(raw), np.uint8).tobytes()
        raw[::line] = bytes(draw(st.sampled_from([0, 0, 1, 2, 4, 9])) for _ in range(1)) * height
    wrong = draw(st.sampled_from([""] * 8 + ["size", "data"]))
    claimed = (width, height)
    if wrong == "size":
        claimed = (draw(st.sampled_from(SIZES)), draw(st.sampled_from(SIZES)))
    data = zlib.compress(bytes(raw)) if wrong != "data" else bomb(draw(st.sampled_from([0, 1, 10**6, 5 * 10**7])))
    chunks = [header(*claimed, depth, kind, draw(st.sampled_from([0, 0, 0, 1, 2])))]
    if kind == 3 or draw(st.integers(0, 9)) == 9:
        chunks.append(PALETTE)
    half = len(data) // 2
    parts = [data] if draw(st.booleans()) else [data[:half], data[half:]]
    chunks += [chunk(b"IDAT", part, crc=0 if draw(st.integers(0, 30)) == 30 else None) for part in parts]
    chunks.append(chunk(b"IEND", b""))
    for extra in draw(st.lists(st.sampled_from(EXTRAS), max_size=draw(st.sampled_from([0, 1, 1, 3])))):
        chunks.insert(draw(st.integers(0, len(chunks))), extra)
    if draw(st.integers(0, 9)) == 9:
        del chunks[draw(st.integers(0, len(chunks) - 1))]
    return SIGNATURE + b"".join(chunks)


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (24, 16)) -> bytes:
    """A sound picture in a format of Pillow."""
    values = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(values).convert(mode)
    file = io.BytesIO()
    image.save(file, format=kind)
    return file.getvalue()


SOUND = [encoded("PNG", mode) for mode in ("P", "L", "RGB", "RGBA", "LA", "1", "I;16")]
PICTURES = [
    ("jpg", encoded("JPEG")),
    ("png", SOUND[0]),
    ("bmp", encoded("BMP")),
    ("webp", encoded("WEBP")),
    ("tif", encoded("TIFF")),
    ("ppm", encoded("PPM")),
    ("jp2", encoded("JPEG2000")),
    ("png", encoded("GIF")),
]
mask_files = st.one_of(
    built(), built().flatmap(damaged), st.sampled_from(SOUND).flatmap(damaged), st.binary(max_size=60)
)
picture_files = st.one_of(
    st.sampled_from(PICTURES).flatmap(lambda kind: damaged(kind[1], ends=True).map(lambda data: (kind[0], data))),
    built().map(lambda data: ("png", data)),
)
