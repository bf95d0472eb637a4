"""Run lengths: binary masks as the lengths of their runs, background first, as COCO and CVAT write them.

COCO counts down the columns and may compress the counts into text: groups of five bits from the lowest on, 48 added
to each, the sixth bit says that more follow; from the third count on it is the difference to the count two before.
CVAT counts along the rows of a box.
Source: the COCO API's `maskApi.c` (rleToString, rleFrString); CVAT's documentation of its XML format.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_GROUPS = 7  # groups of five bits of one count; more than any image needs


def run_lengths(flat: np.ndarray) -> np.ndarray:
    """bool [N], N >= 1 -> int64 lengths of its runs that sum to N; the first one counts False and may be 0."""
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], changes, [flat.size]]))
    return np.concatenate([[0], lengths]) if flat[0] else lengths


def from_run_lengths(lengths: Sequence[int], size: int) -> np.ndarray:
    """Inverse of `run_lengths`: bool [size].

    Raises:
        ValueError: a length is no integer or negative, or they do not sum to `size`; the message continues "has".
    """
    if not all(type(length) is int for length in lengths):
        raise ValueError("run lengths that are not integers")
    if min(lengths, default=0) < 0:
        raise ValueError("a run of negative length")
    total = sum(lengths)  # Python's integers do not overflow
    if total != size:
        raise ValueError(f"runs of {total} pixels in all, but there are {size}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def counts_of_text(text: str, size: int) -> list[int]:
    """Decompress COCO's text form of counts.

    Args:
        size: pixels of the image; no count may be larger.

    Raises:
        ValueError: it is not such a text; the message continues "has".
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"a character {character!r} that COCO's compression does not use")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            if shift >= 5 * MAX_GROUPS:
                raise ValueError("a run longer than any image")
            continue
        if code & 16:
            value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        if not 0 <= value <= size:
            raise ValueError(f"a run of {value} pixels, but there are {size}")
        counts.append(value)
        value = shift = 0
    if shift:
        raise ValueError("compressed counts that are cut off")
    return counts
