"""What every propagation network offers, so that stages, memory and engines need not know which one they run.

Notation: K objects, h x w padded image size (multiples of 16), H = h / 16, W = w / 16.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class Query(NamedTuple):
    """Everything derived from one image alone.

    Attributes:
        key: [B, Ck, H, W] float, compared with memory keys.
        features: maps only the network itself understands.
    """

    key: Tensor
    features: tuple[Tensor, ...]


class PropagationNetwork(Protocol):
    """Encodes images and masks, and decodes what was read out of memory; reading is not its work (`memory.py`)."""

    def encode_key(self, image: Tensor) -> Query:
        """[1, 3, h, w] float, ImageNet-normalised, to the image's query."""
        ...

    def encode_memory(self, image: Tensor, query: Query, masks: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """What memory keeps of an image with K objects on it.

        Args:
            image: [1, 3, h, w]; query: that image's own; masks: [K, 1, h, w] float probabilities;
            others: [K, 1, h, w] the sum of all other objects' masks.

        Returns:
            Key [G, Ck, H, W] and value [K, Cv, H, W]. Objects share keys where G = 1, and the key then is `query.key`
            itself, the same tensor; otherwise G = K.
        """
        ...

    def decode(self, readout: Tensor, query: Query, previous: Tensor) -> Tensor:
        """Object logits from a memory read-out.

        Args:
            readout: [K, Cv, H, W]; query: of the image to segment; previous: [K, 1, h, w] masks of the frame segmented
                before it.

        Returns:
            [K, 1, h, w] logits.
        """
        ...


class StrokeNetwork(Protocol):
    """Strokes to a mask, in parts, so that clicks can be refined without computing everything again.

    `forward(x)` is `enlarge(head(*features(x)), size of x)`.

    Attributes:
        reach: cells of the first feature map, each way, outside of which it and the others have no influence on what
            `head` and `enlarge` give in the middle of a cell.
    """

    reach: int

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """[N, 6, h, w] (RGB normalised, previous mask, positive, negative strokes) to maps.

        Returns:
            Late maps [N, C_i, H_i, W_i] over the same extent. The first is the coarsest; scaling and shifting its
            channels is what refinement learns.
        """
        ...

    def head(self, *features: Tensor) -> Tensor:
        """What `features` gave, or the same window of each, to logits [N, 1, H', W'] over the same extent."""
        ...

    def enlarge(self, logits: Tensor, size: tuple[int, ...]) -> Tensor:
        """[N, 1, H', W'] of whole images -> [N, 1, *size], bilinear."""
        ...
