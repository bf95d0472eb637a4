"""How sure a result is of itself: the expected overlap of a mask with the truth, from the probabilities alone.

If each pixel belongs to the object with the stored probability p, and the mask M is where p > 1/2, then the expected
intersection is the sum of p over M and the expected union that plus everything else in M or likely: |M| + the sum of p
outside M. Their ratio needs no truth. A frame is as sure as its least sure object.
"""

from __future__ import annotations

import numpy as np

SMOOTH = 5e-4  # of the frame, added to both areas: an object that is absent, or a few pixels large, is not a failure
UNKNOWN = -1


def expected_overlap(planes: np.ndarray) -> int:
    """Confidence of a frame in percent.

    Args:
        planes: uint8 or uint16 [K, H, W], quantised probabilities of the objects.

    Returns:
        0..100, of the least sure object; 100 without objects.
    """
    levels = int(np.iinfo(planes.dtype).max)
    fractions = np.arange(256) / 255.0
    worst = 1.0
    for plane in planes:
        coarse = plane if levels == 255 else (plane >> 8).astype(np.uint8)
        counts = np.bincount(coarse.ravel(), minlength=256)
        inside, outside = fractions[128:] @ counts[128:], fractions[:128] @ counts[:128]
        slack = SMOOTH * plane.size
        worst = min(worst, (inside + slack) / (counts[128:].sum() + outside + slack))
    return round(100 * worst)
