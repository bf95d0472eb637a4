"""Query features of a frame, computed once for all references of a video: most of the work of small networks."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from torch import Tensor

from pipelines.engine import Networks
from pipelines.networks.protocol import Query

KEPT_BYTES = 2**29


class SharedKeys(Networks):
    """The same networks, with a memory of `encode_key`. What fits is kept until `forget`; nothing makes room."""

    def __init__(self, networks: Networks, *, mem_every: int | None = None) -> None:
        """
        Args:
            networks: whose weights are used, not copied; mem_every: frames between permanent memory frames, None for
                the model's own rule.
        """
        self.__dict__.update(networks.__dict__)
        self.rules = replace(networks.rules, every=mem_every or networks.rules.every)
        self._kept: dict[bytes, Query] = {}
        self._room = KEPT_BYTES

    def forget(self) -> None:
        """Another video begins."""
        self._kept.clear()
        self._room = KEPT_BYTES

    def encode_key(self, image: Tensor) -> Query:
        """As in `Networks`; an image is known by its content."""
        name = hashlib.blake2b(image.contiguous().numpy().data, digest_size=16).digest()
        query = self._kept.get(name)
        if query is None:
            query = super().encode_key(image)
            size = sum(part.numel() * part.element_size() for part in (query.key, *query.features))
            if size <= self._room:
                self._kept[name] = query
                self._room -= size
        return query
