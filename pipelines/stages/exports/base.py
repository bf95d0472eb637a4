"""A sink: one output of a run of `encode`, fed one frame at a time."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import numpy as np

from stores.video import SourceInfo
from stores.video_writer import storage_errors

NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Item:
    """One frame on its way out.

    Attributes:
        index: position in the video, from 0.
        name: stem of its files.
        pts: time in the source's time base.
        labels: uint8 [H, W] object ids; None = this frame was never computed.
        image: uint8 [H, W, 3] RGB; None if no sink of the run asked for pictures.
    """

    index: int
    name: str
    pts: int
    labels: np.ndarray | None
    image: np.ndarray | None


@dataclass(frozen=True)
class Job:
    """What all sinks of a run share.

    Attributes:
        source: the video.
        object_ids: the ids people gave, which labels show.
        computed: bool [T], frames that have a mask.
        audio_from: file to take the sound from, None = silent.
        names: object id -> what people call it, all different.
    """

    source: SourceInfo
    object_ids: tuple[int, ...]
    computed: np.ndarray
    audio_from: Path | None
    names: dict[int, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The video's name without folder and suffix."""
        return Path(self.source.path).stem

    def name(self, object_id: int) -> str:
        """What an object is called, the same in all formats."""
        return xml_text(self.names.get(object_id, f"object {object_id}"))

    def file_name(self, index: int) -> str:
        """File name of a frame: the image's own in a folder, else 00012.png."""
        source = self.source
        return source.files[index] if index < len(source.files) else f"{source.frame_name(index)}.png"

    def seconds_per_frame(self) -> float | None:
        """On average; None if the source does not say."""
        frames, seconds = self.source.average_rate
        return seconds / frames if frames > 0 and seconds > 0 else None


class Sink(AbstractContextManager["Sink"], ABC):
    """One output of a run: a context manager that makes exactly one file or folder."""

    target: ClassVar[str]  # its path inside the output folder
    wants_images: ClassVar[bool] = False

    def __init__(self, path: Path, job: Job) -> None:
        self.path, self.job = path, job
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        with storage_errors(self.path), ExitStack() as undo:
            undo.push(self.stack)
            self.start()
            undo.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        with storage_errors(self.path):  # closing a file writes what is left of it
            try:
                if error[0] is None:
                    self.finish()
            finally:
                self.stack.__exit__(*error)

    @classmethod
    def needs_images(cls, source: SourceInfo) -> bool:
        """Whether frames of this source must come with their pictures."""
        return cls.wants_images

    @abstractmethod
    def start(self) -> None:
        """Open files; what must be closed goes on `self.stack`."""

    @abstractmethod
    def write(self, item: Item) -> None:
        """Take the next frame."""

    def finish(self) -> None:
        """After the last frame, if all went well."""


class JsonList:
    """Entries of a JSON list, written as they come."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.count = file, 0
        file.write("[")

    def add(self, entry: Any) -> None:
        """One more entry."""
        self.file.write((",\n" if self.count else "\n") + json.dumps(entry))
        self.count += 1

    def extend(self, entries: Iterable[Any]) -> JsonList:
        """More entries."""
        for entry in entries:
            self.add(entry)
        return self

    def close(self) -> None:
        """No more entries."""
        self.file.write("\n]")


def xml_text(text: str) -> str:
    """Text without the characters that XML cannot hold: a file's name may have any."""
    return NOT_XML.sub("\ufffd", text)


def spans(computed: np.ndarray) -> list[list[int]]:
    """bool [T] -> [[first, last], ...] of its runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], computed.astype(np.int8), [0]])))
    return [[int(first), int(end) - 1] for first, end in edges.reshape(-1, 2)]
