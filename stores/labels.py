"""Label maps of data sets, as training and the making of fusion data read them. Needs neither torch nor OpenCV.

What a mask says is decided here alone: the index of a palette PNG is the object and 255 is void, which becomes
background; in a grey PNG (1 or 8 bit) everything above 0 is object 1.

Source: the annotations of DAVIS, YouTube-VOS and BL30K (palette), and of the sets of stills (grey).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from stores.errors import DatasetError
from stores.files import open_regular
from stores.mask_colours import VOID
from stores.png import DECODER_ERRORS, MAX_PIXELS, PICTURE_FORMATS

GREY = ("1", "L")


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image of a data set, to be decoded inside; whatever the decoder says about a damaged file is one line.

    Raises:
        DatasetError: it cannot be opened, or not be decoded to its end.
    """
    try:
        with open_regular(path, DatasetError) as file, Image.open(file, formats=PICTURE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DatasetError(
                    f"{path}: claims {image.width}x{image.height} pixels, {MAX_PIXELS} are the most",
                    hint="remove or replace this image",
                )
            yield image
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        if str(path) in reason or not reason:
            reason = "no image that can be decoded"
        raise DatasetError(
            f"{path}: cannot be read: {reason}", hint="`mivos data check ROOT` finds all such files"
        ) from error


def read_labels(path: Path) -> np.ndarray:
    """uint8 [H, W] object ids of a mask, see the module's text.

    Raises:
        DatasetError: it cannot be read, or holds colours instead of ids.
    """
    with open_image(path) as image:
        mode, values = image.mode, np.asarray(image)
    if mode in GREY:
        return (values > 0).astype(np.uint8)
    if mode != "P":
        raise DatasetError(f"{path}: is a {mode} image, not a mask of ids", hint="save masks as 8-bit palette PNGs")
    return np.where(values == VOID, np.uint8(0), values)
