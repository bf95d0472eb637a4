"""PNG files to raw pixels, before anybody has decided what the values mean."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from stores.errors import MaskError
from stores.files import read_limited
from stores.mask_colours import davis_palette

MAX_PIXELS = 2**26  # 8192 x 8192; an 8K frame has half of that
MAX_BYTES = 2**28  # of a file
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What pictures of a data set may be. Pillow knows many more; some of them start other programs.
PICTURE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF", "JPEG2000")
# Damaged files make the decoder fail in many ways; none of them is worth a traceback.
DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
)


class Pixels(NamedTuple):
    """Decoded pixels.

    Attributes:
        kind: "index", "grey" or "colour".
        values: index uint8 [H, W]; grey uint8 or uint16 [H, W]; colour uint8 [H, W, 4] RGBA, straight.
        palette: uint8 [256, 3] RGB of an index image, else None.
        mode: what to call the image in messages.
    """

    kind: str
    values: np.ndarray
    palette: np.ndarray | None
    mode: str


def decode_png(path: Path, size: tuple[int, int] | None) -> Pixels:
    """Decode a PNG after its header has been found sane and of the right size.

    Args:
        path: the file.
        size: (height, width) that it must have, None for any.

    Raises:
        MaskError: missing, not a PNG, damaged, too large or of another size.
    """
    if not os.path.lexists(path):
        raise MaskError(f"{path}: there is no such file")
    data = read_limited(path, MAX_BYTES, MaskError)
    try:
        _check_header(path, data[:26], size)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.load()
            return _pixels(image)
    except MemoryError as error:
        raise MaskError(f"{path}: needs more memory than there is") from error
    except DECODER_ERRORS as error:
        if isinstance(error, OSError) and error.strerror:
            raise MaskError(f"{path}: cannot be read: {error.strerror}") from error
        unknown = isinstance(error, UnidentifiedImageError) or not str(error)
        reason = "broken chunks" if unknown else str(error).splitlines()[0]
        raise MaskError(f"{path}: is a damaged PNG image ({reason})") from error
    except Image.DecompressionBombError as error:
        raise MaskError(
            f"{path}: claims more pixels than any mask has", hint="masks have the size of the frames"
        ) from error


def _check_header(path: Path, head: bytes, size: tuple[int, int] | None) -> None:
    """Look at signature and IHDR, so that nothing is decompressed for a file that is refused anyway."""
    if len(head) < 26 or not head.startswith(PNG_SIGNATURE) or head[12:16] != b"IHDR":
        raise MaskError(f"{path}: is {'not a PNG image' if head else 'an empty file'}")
    width, height, depth, colour_type = struct.unpack(">IIBB", head[16:26])
    if width * height > MAX_PIXELS:
        raise MaskError(
            f"{path}: claims {width}x{height} pixels, {MAX_PIXELS} are the most",
            hint="masks have the size of the frames",
        )
    if size is not None and (height, width) != tuple(size):
        raise MaskError(
            f"{path}: is {width}x{height} (width x height), but the frames are {size[1]}x{size[0]}",
            hint="masks are never resized: save the mask at the size of the frames",
        )
    if depth == 16 and colour_type != 0:
        raise MaskError(f"{path}: is a 16-bit colour image", hint="save it as a palette PNG of object ids")


def _pixels(image: Image.Image) -> Pixels:
    if image.mode == "P":
        colours = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
        # A file may hold only the colours it uses; the ids above them get their DAVIS colours.
        palette = np.concatenate([colours, davis_palette()[len(colours) :]])[:256]
        return Pixels("index", np.array(image), palette, "palette")
    if image.mode in ("1", "L"):
        return Pixels("grey", np.asarray(image.convert("L")), None, "grey")
    if image.mode.startswith("I"):
        return Pixels("grey", np.asarray(image).astype(np.uint16), None, "16-bit grey")
    if image.mode == "LA":
        values = np.asarray(image)
        if (values[..., 1] == 255).all():
            return Pixels("grey", values[..., 0], None, "grey")
    return Pixels("colour", np.asarray(image.convert("RGBA")), None, image.mode)
