"""What can be worked on in a folder, and where a video's session goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stores.session import Session

VIDEO_SUFFIXES = frozenset(f".{kind}" for kind in "mp4 mov m4v mkv webm avi mpg mpeg mts m2ts ts ogv".split())
SESSION_SUFFIX = ".mivos"


@dataclass(frozen=True)
class Found:
    """A session, or a video that has none yet; `session` is where its session is or would be."""

    path: Path
    kind: str  # "session" or "video"
    session: Path


def session_for(source: Path) -> Path:
    """The session of a video or image folder: beside it, with `.mivos` added to its name."""
    source = Path(source)
    return source.with_name(source.name + SESSION_SUFFIX)


def find_projects(folder: Path) -> list[Found]:
    """Sessions in a folder (also one level down, as `mivos segment` leaves them in OUT/session) and videos without one.

    Raises:
        OSError: the folder cannot be listed.
    """
    sessions, videos = [], []
    for path in sorted(Path(folder).iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found = next((place for place in (path, path / "session") if Session.exists(place)), None)
            if found is not None:
                sessions.append(Found(found, "session", found))
        elif path.suffix.lower() in VIDEO_SUFFIXES and not Session.exists(session_for(path)):
            videos.append(Found(path, "video", session_for(path)))
    return [*sessions, *videos]
