"""What people call the objects of a session; kept beside it, where the page keeps names and colours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stores.drafts import FOLDER, LIST, MAX_LIST_BYTES, Drafts, Look
from stores.errors import StoreError
from stores.exchange.annotations import id_in_label
from stores.files import read_limited

MAX_NAME = 80


def object_names(session: Path, ids: Sequence[int]) -> dict[int, str]:
    """Object id -> a name that no other object has; "object 3" if nobody gave one.

    Args:
        session: its folder; nothing is written.
    """
    given = _given(session)
    names: dict[int, str] = {}
    for number in ids:
        name = " ".join(given.get(number, "").split())
        if not name or id_in_label(name) is not None:
            name = f"object {number}"
        while name in names.values():
            name = f"{name} ({number})"
        names[number] = name
    return names


def keep_names(session: Path, names: Mapping[int, str], colour_of: Callable[[int], str]) -> None:
    """Name objects that have no name yet. The session must be open for writing here.

    Args:
        colour_of: "#rrggbb" of an object that had none.
    """
    named = {number: " ".join(name.split())[:MAX_NAME] for number, name in names.items()}
    named = {number: name for number, name in named.items() if name and id_in_label(name) is None}
    if not named:
        return
    try:
        drafts = Drafts(session)
    except StoreError:
        return  # what is damaged there is the page's to report; masks do not depend on it
    for number, name in named.items():
        if number not in drafts.looks:
            drafts.set_look(number, Look(name, colour_of(number)))


def _given(session: Path) -> dict[int, str]:
    path = session / FOLDER / LIST
    if not path.is_file():
        return {}
    try:
        looks: dict[str, Any] = json.loads(read_limited(path, MAX_LIST_BYTES, StoreError))["looks"]
        return {int(number): str(look["name"]) for number, look in looks.items()}
    except (StoreError, ValueError, KeyError, TypeError, AttributeError):
        return {}
