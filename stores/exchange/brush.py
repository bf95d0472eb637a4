"""Label Studio's brush masks: RGBA images, packed bit by bit.

The bits: 32 for the number of values N, 5 for the word size - 1, four times 4 for the sizes of length fields - 1; then
items until N values are there: 1 bit (1: one value repeated, 0: values one by one), 2 bits that choose a length field,
the length - 1, and the value or values of one word each. The last byte is filled with zeros. Values go pixel by pixel
along the rows, four channels each; the mask is the fourth, alpha.
Source: the format of @thi.ng/rle-pack, which Label Studio's frontend and `label_studio_sdk.converter.brush` use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stores.exchange.runs import run_lengths

WORD = 8
LENGTHS = (3, 4, 8, 16)  # bits of the length fields
CHANNELS = 4
OPAQUE = 128  # alpha from which on a pixel belongs to the mask; the brush smooths its edges


def pack_mask(mask: np.ndarray) -> list[int]:
    """bool [H, W] -> bytes as integers, 255 in all channels inside the mask."""
    bits = [f"{mask.size * CHANNELS:032b}{WORD - 1:05b}", *(f"{size - 1:04b}" for size in LENGTHS)]
    value = 0
    for pixels in run_lengths(mask.ravel()).tolist():
        left = pixels * CHANNELS
        while left:
            now = min(left, 1 << LENGTHS[-1])
            field = next(i for i, size in enumerate(LENGTHS) if now <= 1 << size)
            bits.append(f"1{field:02b}{now - 1:0{LENGTHS[field]}b}{value:08b}")
            left -= now
        value ^= 255
    text = "".join(bits)
    count = (len(text) + 7) // 8
    return list(int(text.ljust(8 * count, "0"), 2).to_bytes(count, "big"))


def unpack_mask(packed: Sequence[int], height: int, width: int) -> np.ndarray:
    """Inverse of `pack_mask`: bool [height, width].

    Raises:
        ValueError: it is not such a mask of this size; the message continues "has".
    """
    if not all(type(byte) is int and 0 <= byte < 256 for byte in packed):
        raise ValueError("numbers that are not bytes")
    reader = _Bits(bytes(packed))
    total = height * width * CHANNELS
    if (count := reader.take(32)) != total:
        raise ValueError(f"{count} values, but {width}x{height} pixels of {CHANNELS} channels have {total}")
    if (word := reader.take(5) + 1) != WORD:
        raise ValueError(f"words of {word} bits, only {WORD} are known")
    sizes = [reader.take(4) + 1 for _ in LENGTHS]
    values = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        repeated = reader.take(1)
        length = reader.take(sizes[reader.take(2)]) + 1
        if done + length > total:
            raise ValueError(f"more values than its {total}")
        values[done : done + length] = reader.take(WORD) if repeated else reader.words(length)
        done += length
    return values[CHANNELS - 1 :: CHANNELS].reshape(height, width) >= OPAQUE


class _Bits:
    """Reads bits, highest first; ValueError at the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, count: int) -> int:
        """The next `count` bits as a number."""
        start, end = self.position, self.position + count
        if end > 8 * len(self.data):
            raise ValueError("packed values that are cut off")
        self.position = end
        part = int.from_bytes(self.data[start // 8 : (end + 7) // 8], "big")
        return part >> (-end % 8) & ((1 << count) - 1)

    def words(self, count: int) -> np.ndarray:
        """The next `count` words, uint8 [count]."""
        start, end = self.position, self.position + count * WORD
        if end > 8 * len(self.data):
            raise ValueError("packed values that are cut off")
        self.position = end
        part = np.frombuffer(self.data[start // 8 : (end + 7) // 8], np.uint8)
        return np.packbits(np.unpackbits(part)[start % 8 : start % 8 + count * WORD])
