"""Compiled loops of the fast 3 x 3 convolution: tiles to transformed tiles and back (see `winograd.py`).

Both run over tiles in parallel and over channels in the innermost loop, which the compiler turns into vector
instructions. Their layouts: images [B, h, w, C], transformed tiles [(t + 2)^2, tiles, C] for tiles of t x t outputs.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

CHANNELS = 64  # of one block; two blocks of transformed rows stay in the first-level cache

_inline = numba.njit(inline="always", fastmath=True)
_parallel = numba.njit(parallel=True, fastmath=True, cache=True, nogil=True)


# One dimension of F(4, 3) with the points 0, 1, -1, 2, -1/2 and infinity, which loses the least precision
@_inline
def _enter4(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    half, quarter = np.float32(0.5), np.float32(0.25)
    ce, bd = half * e - c, np.float32(0.75) * (b - d)
    return (
        half * a + bd + ce,
        half * (e - b) - np.float32(1.25) * c - quarter * d,
        half * (b + e) + quarter * c - np.float32(1.25) * d,
        half * (e - c) + quarter * (d - b),
        b - d + half * (e - c),
        half * (b + f) + np.float32(0.75) * (c - e) - d,
    )


@_inline
def _leave4(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    plus, minus = b + c, b - c
    return (
        a + plus + d + e,
        minus + np.float32(2) * d - np.float32(0.5) * e,
        plus + np.float32(4) * d + np.float32(0.25) * e,
        minus + np.float32(8) * d - np.float32(0.125) * e + f,
    )


# One dimension of F(6, 3) with the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity
@_inline
def _enter6(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    quarter, high = np.float32(0.25), np.float32(1.3125)
    even1, odd1 = quarter * (c + g) - np.float32(1.0625) * e, quarter * (b + f) - np.float32(1.0625) * d
    even2 = np.float32(0.03125) * c - np.float32(0.15625) * e + np.float32(0.125) * g
    odd2 = np.float32(0.0625) * b - np.float32(0.3125) * d + quarter * f
    even3 = c - np.float32(1.25) * e + quarter * g
    odd3 = np.float32(0.5) * b - np.float32(0.625) * d + np.float32(0.125) * f
    return (
        quarter * (g - a) + high * (c - e),
        even1 + odd1,
        even1 - odd1,
        even2 + odd2,
        even2 - odd2,
        even3 + odd3,
        even3 - odd3,
        quarter * (h - b) + high * (d - f),
    )


@_inline
def _leave6(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    plus1, minus1, plus2, minus2, plus3, minus3 = b + c, b - c, d + e, d - e, f + g, f - g
    return (
        a + plus1 + plus2 + plus3,
        minus1 + np.float32(2) * minus2 + np.float32(0.5) * minus3,
        plus1 + np.float32(4) * plus2 + np.float32(0.25) * plus3,
        minus1 + np.float32(8) * minus2 + np.float32(0.125) * minus3,
        plus1 + np.float32(16) * plus2 + np.float32(0.0625) * plus3,
        minus1 + np.float32(32) * minus2 + np.float32(0.03125) * minus3 + h,
    )


@_inline
def _load(x: Any, to: Any, image: int, row: int, column: int, first: int, relu: bool) -> None:
    """Copies a block of channels of one pixel; zeros outside the image."""
    if row < 0 or row >= x.shape[1] or column < 0 or column >= x.shape[2]:
        for c in range(CHANNELS):
            to[c] = np.float32(0)
    elif relu:
        for c in range(CHANNELS):
            to[c] = max(x[image, row, column, first + c], np.float32(0))
    else:
        for c in range(CHANNELS):
            to[c] = x[image, row, column, first + c]


@_parallel
def enter4(x: Any, tiles: Any, top: int, rows: int, relu: bool) -> None:
    """Rows `top` ... `top + rows - 1` of tiles of `x` [B, h, w, C] into `tiles` [36, B * rows * columns, C]."""
    across = (x.shape[2] + 3) // 4
    for t in numba.prange(x.shape[0] * rows * across):
        image, row, column = t // (rows * across), (top + t // across % rows) * 4 - 1, t % across * 4 - 1
        pixels = np.empty((6, CHANNELS), np.float32)
        half = np.empty((6, 6, CHANNELS), np.float32)
        for first in range(0, x.shape[3], CHANNELS):
            for j in range(6):
                for i in range(6):
                    _load(x, pixels[i], image, row + i, column + j, first, relu)
                p = pixels
                for c in range(CHANNELS):
                    o = _enter4(p[0, c], p[1, c], p[2, c], p[3, c], p[4, c], p[5, c])
                    half[0, j, c], half[1, j, c], half[2, j, c] = o[0], o[1], o[2]
                    half[3, j, c], half[4, j, c], half[5, j, c] = o[3], o[4], o[5]
            for i in range(6):
                p, k = half[i], 6 * i
                for c in range(CHANNELS):
                    o = _enter4(p[0, c], p[1, c], p[2, c], p[3, c], p[4, c], p[5, c])
                    n = first + c
                    tiles[k, t, n], tiles[k + 1, t, n], tiles[k + 2, t, n] = o[0], o[1], o[2]
                    tiles[k + 3, t, n], tiles[k + 4, t, n], tiles[k + 5, t, n] = o[3], o[4], o[5]


@_parallel
def enter6(x: Any, tiles: Any, top: int, rows: int, relu: bool) -> None:
    """As `enter4`, into [64, B * rows * columns, C]."""
    across = (x.shape[2] + 5) // 6
    for t in numba.prange(x.shape[0] * rows * across):
        image, row, column = t // (rows * across), (top + t // across % rows) * 6 - 1, t % across * 6 - 1
        pixels = np.empty((8, CHANNELS), np.float32)
        half = np.empty((8, 8, CHANNELS), np.float32)
        for first in range(0, x.shape[3], CHANNELS):
            for j in range(8):
                for i in range(8):
                    _load(x, pixels[i], image, row + i, column + j, first, relu)
                p = pixels
                for c in range(CHANNELS):
                    o = _enter6(p[0, c], p[1, c], p[2, c], p[3, c], p[4, c], p[5, c], p[6, c], p[7, c])
                    half[0, j, c], half[1, j, c], half[2, j, c], half[3, j, c] = o[0], o[1], o[2], o[3]
                    half[4, j, c], half[5, j, c], half[6, j, c], half[7, j, c] = o[4], o[5], o[6], o[7]
            for i in range(8):
                p, k = half[i], 8 * i
                for c in range(CHANNELS):
                    o = _enter6(p[0, c], p[1, c], p[2, c], p[3, c], p[4, c], p[5, c], p[6, c], p[7, c])
                    n = first + c
                    tiles[k, t, n], tiles[k + 1, t, n], tiles[k + 2, t, n], tiles[k + 3, t, n] = o[0], o[1], o[2], o[3]
                    tiles[k + 4, t, n], tiles[k + 5, t, n] = o[4], o[5]
                    tiles[k + 6, t, n], tiles[k + 7, t, n] = o[6], o[7]


@_inline
def _store(values: Any, bias: Any, add: Any, out: Any, image: int, row: int, column: int, first: int) -> None:
    """Writes one pixel's block of channels, plus bias, plus the same pixel of `add` if that has any images."""
    if add.shape[0]:
        for c in range(CHANNELS):
            n = first + c
            out[image, row, column, n] = values[c] + bias[n] + add[image, row, column, n]
    else:
        for c in range(CHANNELS):
            out[image, row, column, first + c] = values[c] + bias[first + c]


@_parallel
def leave4(tiles: Any, bias: Any, add: Any, out: Any, top: int, rows: int) -> None:
    """Transformed products [36, B * rows * columns, C] to pixels of `out` [B, h, w, C], with `bias` [C] and `add`."""
    height, width = out.shape[1], out.shape[2]
    across = (width + 3) // 4
    for t in numba.prange(out.shape[0] * rows * across):
        image, row, column = t // (rows * across), (top + t // across % rows) * 4, t % across * 4
        half = np.empty((4, 6, CHANNELS), np.float32)
        line = np.empty((4, CHANNELS), np.float32)
        for first in range(0, out.shape[3], CHANNELS):
            for j in range(6):
                for c in range(CHANNELS):
                    n = first + c
                    o = _leave4(
                        tiles[j, t, n], tiles[6 + j, t, n], tiles[12 + j, t, n],
                        tiles[18 + j, t, n], tiles[24 + j, t, n], tiles[30 + j, t, n],
                    )  # fmt: skip
                    half[0, j, c], half[1, j, c], half[2, j, c], half[3, j, c] = o[0], o[1], o[2], o[3]
            for i in range(min(4, height - row)):
                p = half[i]
                for c in range(CHANNELS):
                    o = _leave4(p[0, c], p[1, c], p[2, c], p[3, c], p[4, c], p[5, c])
                    line[0, c], line[1, c], line[2, c], line[3, c] = o[0], o[1], o[2], o[3]
                for j in range(min(4, width - column)):
                    _store(line[j], bias, add, out, image, row + i, column + j, first)


@_parallel
def leave6(tiles: Any, bias: Any, add: Any, out: Any, top: int, rows: int) -> None:
    """As `leave4`, from [64, B * rows * columns, C]."""
    height, width = out.shape[1], out.shape[2]
    across = (width + 5) // 6
    for t in numba.prange(out.shape[0] * rows * across):
        image, row, column = t // (rows * across), (top + t // across % rows) * 6, t % across * 6
        half = np.empty((6, 8, CHANNELS), np.float32)
        line = np.empty((6, CHANNELS), np.float32)
        for first in range(0, out.shape[3], CHANNELS):
            for j in range(8):
                for c in range(CHANNELS):
                    n = first + c
                    o = _leave6(
                        tiles[j, t, n], tiles[8 + j, t, n], tiles[16 + j, t, n], tiles[24 + j, t, n],
                        tiles[32 + j, t, n], tiles[40 + j, t, n], tiles[48 + j, t, n], tiles[56 + j, t, n],
                    )  # fmt: skip
                    half[0, j, c], half[1, j, c], half[2, j, c] = o[0], o[1], o[2]
                    half[3, j, c], half[4, j, c], half[5, j, c] = o[3], o[4], o[5]
            for i in range(min(6, height - row)):
                p = half[i]
                for c in range(CHANNELS):
                    o = _leave6(p[0, c], p[1, c], p[2, c], p[3, c], p[4, c], p[5, c], p[6, c], p[7, c])
                    line[0, c], line[1, c], line[2, c] = o[0], o[1], o[2]
                    line[3, c], line[4, c], line[5, c] = o[3], o[4], o[5]
                for j in range(min(6, width - column)):
                    _store(line[j], bias, add, out, image, row + i, column + j, first)
