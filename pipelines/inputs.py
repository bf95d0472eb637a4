"""From the files that a person gives to the interactions of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from pipelines.engine import Networks
from pipelines.requests import Request, annotation_requests, choose_frames, mask_requests, scribble_requests
from stores.errors import MaskError, StoreError, UsageError
from stores.exchange import Timeline, is_annotations, read_annotations
from stores.exchange.selection import check_rule
from stores.files import open_regular
from stores.png import DECODER_ERRORS
from stores.scribbles import read_scribbles
from stores.session import Session


def check_inputs(nets: Networks, scribbles: Path | None, masks: Path | None) -> None:
    """Looks, before any work, whether there is what the interactions of a file need.

    Raises:
        UsageError: neither or both inputs. ScribbleError: a file that cannot be used. ModelError: weights are missing.
    """
    if (scribbles is None) == (masks is None):
        raise UsageError("give either scribbles or masks", hint="--scribbles FILE.json, or --masks FILE|FOLDER")
    several = scribbles is not None and len(read_scribbles(scribbles).interactions) > 1
    nets.check(
        "propagation",
        *(("s2m",) if scribbles else ()),
        *(("fusion",) if several and nets.choice.fusion != "off" else ()),
    )


def session_requests(
    store: Session, scribbles: Path | None, masks: Path | None, snap: bool, import_frames: str
) -> Callable[[], Iterator[Request]]:
    """What reads the interactions, in the order of work, from their beginning each time it is called.

    Args:
        import_frames: which frames of an annotation file are interactions: "all", "keyframes" or at most a number.

    Raises:
        UsageError: neither or both inputs. StoreError: the session lacks frames. MaskError, also while reading, and
        ScribbleError, while reading: the input cannot be used.
    """
    if (scribbles is None) == (masks is None):
        raise UsageError("give either scribbles or masks", hint="--scribbles FILE.json, or --masks FILE|FOLDER")
    check_rule(import_frames)
    if not store.decoded:
        raise StoreError(f"session {store.path} is not decoded to the end", hint="run `mivos decode` again")
    if scribbles is not None:
        return partial(scribble_requests, scribbles, store.num_frames)
    assert masks is not None
    names = [store.source.frame_name(i) for i in range(store.num_frames)] if store.source.kind == "folder" else None
    if not is_annotations(masks):
        return partial(mask_requests, masks, store.num_frames, names, _mask_size(masks, store), snap)
    sizes = ((store.source.height, store.source.width), (store.height, store.width))
    found = read_annotations(masks, Timeline(store.num_frames, names, Path(store.source.path).stem, sizes))
    frames = choose_frames(found, import_frames)
    return partial(annotation_requests, found, frames)


def _mask_size(path: Path, store: Session) -> tuple[int, int]:
    """Masks come at the source's size, or at the working size if the first one is of that size."""
    first = min(path.glob("*.png"), default=path) if path.is_dir() else path
    try:
        with open_regular(first, MaskError) as file, Image.open(file, formats=("PNG",)) as image:
            if image.size == (store.width, store.height):
                return store.height, store.width
    except (MaskError, *DECODER_ERRORS, Image.DecompressionBombError):
        pass  # reported properly where the masks are read
    return store.source.height, store.source.width
