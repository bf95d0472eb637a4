"""The list of projects that a server offers: one video or session, or all of a folder.

Pages name a project by an id, which is looked up here: no path ever comes from a request.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mivos_cli.gui.errors import ApiError
from pipelines.editing.listing import find_projects, session_for
from stores.errors import MivosError, UsageError, VideoError
from stores.session import Session
from stores.source import working_size

THUMB = 180  # pixels, the shorter side


@dataclass(frozen=True)
class Place:
    """A project on disk, opened or not.

    Attributes:
        id: the same in every run; path: what a person would name it by: the session, or the video or image folder
        that was named or has no session yet; session: where the session is or goes.
    """

    id: str
    path: Path
    session: Path

    @classmethod
    def of(cls, path: Path, session: Path) -> Place:
        """The place of a video or session and its session."""
        session = session.resolve()
        digest = hashlib.sha256(str(session).encode(errors="surrogateescape")).hexdigest()
        return cls(digest[:12], path.absolute(), session)

    @property
    def kind(self) -> str:
        """ "session", or "video" while there is none."""
        return "session" if Session.exists(self.session) else "video"

    @property
    def source(self) -> Path | None:
        """What to decode; None if only a session was named."""
        return None if self.path.resolve() == self.session else self.path


class Home:
    """The projects of one server. Any thread.

    Args:
        path: a video, an image folder, a session, or a folder of them; session: where the session of a video goes.

    Raises:
        UsageError: `session` was given for a folder of projects, or there is nothing at `path`.
        VideoError: a video that cannot be used.
    """

    def __init__(self, path: Path, session: Path | None = None) -> None:
        self.folder = path.absolute()
        self.only: Place | None = None
        self._places: dict[str, Place] = {}
        self._facts: dict[str, tuple[float, dict[str, Any], bytes]] = {}
        self._lock = threading.Lock()
        if Session.exists(path):
            if session is not None and session.resolve() != path.resolve():
                raise UsageError(f"{path} is a session itself", hint="drop --session")
            self._only(Place.of(path, path))
        elif not path.is_dir() or (_is_image_folder(path) and not self._found()):
            self._only(Place.of(path, session or session_for(path)))
        elif session is not None:
            raise UsageError(f"{path} is a folder of projects", hint="give --session with a single video")
        self.places()

    def _only(self, place: Place) -> None:
        if place.kind == "video":
            _first_frame(place.path)  # what cannot be used is reported at once
        self.only, self.folder = place, place.path.parent

    def get(self, identity: str) -> Place:
        """The place of an id; ApiError 404 if there is none."""
        with self._lock:
            place = self._places.get(identity)
        if place is None:
            raise ApiError(404, "there is no such project", hint="go back to the list of projects")
        return place

    def places(self) -> list[Place]:
        """What there is now, the one changed last first."""
        places = [self.only] if self.only is not None else self._found()
        with self._lock:
            self._places |= {place.id: place for place in places}
        return sorted(places, key=_modified, reverse=True)

    def facts(self, place: Place) -> dict[str, Any]:
        """A line of the list in JSON types; one that cannot be read has zeros and an `error`."""
        base = {"id": place.id, "name": place.path.name, "path": str(place.path), "kind": place.kind}
        modified, facts, _ = self._read(place)
        return {**base, "modified": modified, **facts}

    def thumbnail(self, place: Place) -> bytes:
        """The first frame as a small JPEG; ApiError 404 where there is none."""
        _, facts, picture = self._read(place)
        if not picture:
            raise ApiError(404, facts.get("error") or "no frame is decoded yet")
        return picture

    def _found(self) -> list[Place]:
        return [Place.of(found.path, found.session) for found in find_projects(self.folder)]

    def _read(self, place: Place) -> tuple[float, dict[str, Any], bytes]:
        modified = _modified(place)
        with self._lock:
            known = self._facts.get(place.id)
        if known is None or known[0] != modified:
            try:
                read = _read_session(place.session) if place.kind == "session" else _read_video(place.path)
            except (MivosError, OSError) as error:
                read = {**_facts(0, 0, 0, 0, 0), "error": " ".join(str(error).split())}, b""
            known = modified, *read
            with self._lock:
                self._facts[place.id] = known
        return known


def _facts(frames: int, objects: int, rounds: int, width: int, height: int) -> dict[str, Any]:
    return {"frames": frames, "objects": objects, "rounds": rounds, "width": width, "height": height}


def _read_session(path: Path) -> tuple[dict[str, Any], bytes]:
    with Session.open(path) as session:
        source = session.source
        counts = session.num_frames, session.num_objects, len(session.rounds)
        return _facts(*counts, source.width, source.height), _jpeg(session.frame(0)) if session.num_frames else b""


def _read_video(path: Path) -> tuple[dict[str, Any], bytes]:
    image, frames = _first_frame(path)
    return _facts(frames, 0, 0, image.shape[1], image.shape[0]), _jpeg(image)


def _first_frame(path: Path) -> tuple[np.ndarray, int]:
    """uint8 [H, W, 3], and how many frames there are by the header; 0 if it is silent."""
    from stores.ffmpeg import open_video, video_stream
    from stores.video import folder_names, read_frames

    with closing(read_frames(path, size=None)) as frames:
        first = next(frames, None)
    if first is None:
        raise VideoError(f"{path}: no frame can be decoded")
    if path.is_dir():
        return first.image, len(folder_names(path))
    with open_video(path) as container:
        return first.image, video_stream(container, path).frames


def _is_image_folder(path: Path) -> bool:
    from stores.video import folder_names

    with suppress(VideoError):
        return bool(folder_names(path))
    return False


def _jpeg(image: np.ndarray) -> bytes:
    height, width = working_size(image.shape[0], image.shape[1], THUMB)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return bytes(encoded)


def _modified(place: Place) -> float:
    """When it was last changed, seconds since 1970; 0 if it is gone."""
    if place.kind == "video":
        candidates = [place.path]
    else:  # a commit changes the repository's folders, an action the drafts
        repository = place.session / "session.icechunk"
        candidates = [place.session, place.session / "desk", *_below(repository), *_below(repository / "refs")]
    latest = 0.0
    for path in candidates:
        with suppress(OSError):
            latest = max(latest, path.stat().st_mtime)
    return latest


def _below(folder: Path) -> list[Path]:
    try:
        return [folder, *folder.iterdir()]
    except OSError:
        return []
