"""Masks in the formats of annotation tools: reading what they export, and the codes that both directions share.

`read_annotations` recognises a file by its content; `pipelines/stages/exports` writes the same formats.
"""

from stores.exchange.annotations import Annotations, Timeline
from stores.exchange.reading import is_annotations, read_annotations

__all__ = ["Annotations", "Timeline", "is_annotations", "read_annotations"]
