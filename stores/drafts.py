"""What was drawn in a session and is not yet part of a round, kept beside it so that nothing is lost.

::

    SESSION/desk/desk.json       which actions there are, in order of work, undone, and in rounds; objects' names
    SESSION/desk/<serial>.json   one action
    SESSION/desk/<serial>.png    what the objects of its frame were after it: K planes below one another

An action is written before the list that names it, the list replaces the one before in one step, and files that no
list names are removed on opening. Only the holder of the session's writer lock may use this.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import google_crc32c
import numpy as np

from stores.arrays import sealed, unsealed
from stores.errors import StoreError
from stores.files import atomic_file, make_folder, read_limited, remove_abandoned

FOLDER, LIST = "desk", "desk.json"
MAX_LIST_BYTES = 512 * 2**20
FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


@dataclass(frozen=True)
class Entry:
    """One action and what it made of its frame; equal to those with the same serial.

    Attributes:
        serial: names its result; frame: where it was done; base: the session's commit when it was done or undone last;
        ids: objects of the result, in the order of its planes; action: its JSON form;
        sums: CRC-32C of its two files, action first; None for those of an earlier mivos.
    """

    serial: int
    frame: int = field(compare=False)
    base: str = field(compare=False)
    ids: tuple[int, ...] = field(compare=False)
    action: dict[str, Any] = field(compare=False)
    sums: tuple[int, int] | None = field(compare=False, default=None)


@dataclass(frozen=True)
class Look:
    """How an object is shown. `deleted` ones keep their number, so that it is not given again."""

    name: str
    colour: str
    deleted: bool = False


@dataclass(frozen=True)
class _Lists:
    entries: tuple[Entry, ...] = ()
    undone: tuple[Entry, ...] = ()
    begun: tuple[int, ...] = ()  # serials of the entries that the round in progress began with
    rounds: dict[int, tuple[Entry, ...]] = field(default_factory=dict)
    looks: dict[int, Look] = field(default_factory=dict)
    next_serial: int = 1


class Drafts:
    """The actions of a session that wait to be propagated; every change is on disk when the method returns."""

    def __init__(self, session: Path) -> None:
        """
        Args:
            session: the session's folder.

        Raises:
            StoreError: what is there cannot be read.
        """
        self.folder = session / FOLDER
        self._lists = self._read()
        self._sweep()

    # ---- reading

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All actions in order of work."""
        return self._lists.entries

    @property
    def undone(self) -> tuple[Entry, ...]:
        """Actions that `redo` can bring back, the next one last."""
        return self._lists.undone

    @property
    def begun(self) -> tuple[int, ...]:
        """Serials of the entries that the round in progress began with."""
        return self._lists.begun

    @property
    def looks(self) -> dict[int, Look]:
        """Object id -> its name and colour."""
        return dict(self._lists.looks)

    def of_round(self, number: int) -> tuple[Entry, ...]:
        """The actions that a round came from; empty if they are not known here."""
        return self._lists.rounds.get(number, ())

    def of(self, frame: int) -> tuple[Entry, ...]:
        """The draft of a frame."""
        return tuple(entry for entry in self._lists.entries if entry.frame == frame)

    def frames(self) -> list[int]:
        """Frames with a draft, by their first action."""
        return list(dict.fromkeys(entry.frame for entry in self._lists.entries))

    def result(self, entry: Entry) -> np.ndarray:
        """uint8 or uint16 [K, h, w], quantised probabilities of the objects `entry.ids`."""
        path = self._path(entry.serial, ".png")
        content = read_limited(path, MAX_LIST_BYTES, StoreError)
        fits = entry.sums is None or google_crc32c.value(content) == entry.sums[1]
        planes = cv2.imdecode(np.frombuffer(content, np.uint8), -1) if fits and content else None
        if planes is None or len(planes) % len(entry.ids):
            raise StoreError(f"{path}: is damaged", hint="undo the last action of this frame and draw it again")
        return planes.reshape(len(entry.ids), -1, planes.shape[-1])

    # ---- changing

    def add(self, frame: int, base: str, action: dict[str, Any], ids: Iterable[int], planes: np.ndarray) -> Entry:
        """A new action; what had been undone is forgotten.

        Args:
            planes: uint8 or uint16 [K, h, w], K >= 1, as `result` gives back.
        """
        lists = self._lists
        encoded = cv2.imencode(".png", np.ascontiguousarray(planes.reshape(-1, planes.shape[-1])), FAST)[1].tobytes()
        written = json.dumps(action).encode()
        sums = (google_crc32c.value(written), google_crc32c.value(encoded))
        entry = Entry(lists.next_serial, frame, base, tuple(ids), action, sums)
        make_folder(self.folder)
        for suffix, content in ((".png", encoded), (".json", written)):
            with atomic_file(self._path(entry.serial, suffix)) as file:
                file.write(content)
        self._write(
            replace(lists, entries=(*lists.entries, entry), undone=(), next_serial=entry.serial + 1), lists.undone
        )
        return entry

    def undo(self, base: str) -> Entry:
        """Takes the last action back, at the commit `base`, where `redo` belongs; IndexError if there is none."""
        lists = self._lists
        last = replace(lists.entries[-1], base=base)
        self._write(replace(lists, entries=lists.entries[:-1], undone=(*lists.undone, last)))
        return last

    def redo(self) -> Entry:
        """Brings the action undone last back; IndexError if there is none."""
        lists = self._lists
        last = lists.undone[-1]
        self._write(replace(lists, entries=(*lists.entries, last), undone=lists.undone[:-1]))
        return last

    def begin(self, frame: int) -> None:
        """The draft of a frame starts a round."""
        self._write(replace(self._lists, begun=tuple(entry.serial for entry in self.of(frame))))

    def abandon(self) -> None:
        """The round in progress is over without having been committed."""
        if self._lists.begun:
            self._write(replace(self._lists, begun=()))

    def commit(self, number: int) -> None:
        """Round `number` was committed: the entries that it began with belong to it now."""
        lists = self._lists
        into = tuple(entry for entry in lists.entries if entry.serial in lists.begun)
        rest = tuple(entry for entry in lists.entries if entry.serial not in lists.begun)
        rounds = {n: entries for n, entries in lists.rounds.items() if n < number}
        dropped = [entry for n, entries in lists.rounds.items() if n >= number for entry in entries]
        self._write(
            replace(lists, entries=rest, undone=(), begun=(), rounds={**rounds, number: into}),
            [entry for entry in (*dropped, *lists.undone) if entry not in into],
        )

    def bring_back(self, number: int) -> None:
        """Round `number` was undone: its actions are a draft again (and stay known as the round's)."""
        missing = [entry for entry in self.of_round(number) if entry not in self._lists.entries]
        if missing:
            self._write(replace(self._lists, entries=(*missing, *self._lists.entries)))

    def take_away(self, number: int) -> None:
        """Round `number` was redone: its actions are part of it again."""
        into = self.of_round(number)
        self._write(replace(self._lists, entries=tuple(entry for entry in self._lists.entries if entry not in into)))

    def set_look(self, object_id: int, look: Look) -> None:
        """Names or colours an object."""
        self._write(replace(self._lists, looks={**self._lists.looks, object_id: look}))

    # ---- disk

    def _path(self, serial: int, suffix: str) -> Path:
        return self.folder / f"{serial}{suffix}"

    def _write(self, lists: _Lists, dropped: Iterable[Entry] = ()) -> None:
        make_folder(self.folder)
        with atomic_file(self.folder / LIST) as file:
            file.write(json.dumps(sealed(json.loads(json.dumps(_to_json(lists))))).encode())
        self._lists = lists
        still = self._named()  # an undone action can be a round's, too
        for entry in dropped:
            if entry.serial in still:
                continue
            for suffix in (".json", ".png"):
                with suppress(OSError):
                    self._path(entry.serial, suffix).unlink(missing_ok=True)

    def _read(self) -> _Lists:
        path = self.folder / LIST
        if not path.exists():
            return _Lists()
        try:
            data = _load(path)
            if data["version"] != 1:
                raise StoreError(f"{path}: a newer mivos made it", hint="install a newer mivos")
            if "crc32c" in data:  # an earlier mivos wrote none
                data = unsealed(data)
            return _Lists(
                self._entries(data["entries"]),
                self._entries(data["undone"]),
                tuple(data["begun"]),
                {int(number): self._entries(entries) for number, entries in data["rounds"].items()},
                {int(number): Look(**look) for number, look in data["looks"].items()},
                int(data["next_serial"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{path}: is damaged ({error})",
                hint=f"run `mivos session repair {shlex.quote(str(self.folder.parent))}`: it moves damaged drafts away",
            ) from error

    def _sweep(self) -> None:
        """Removes results of a process that was killed between a result and its list."""
        named = self._named()
        remove_abandoned(self.folder)
        for path in self.folder.glob("*.*"):
            if path.stem.isdigit() and int(path.stem) not in named:
                with suppress(OSError):
                    path.unlink()

    def _named(self) -> set[int]:
        """Serials of all entries that a list has."""
        lists = self._lists
        rounds = (entry for entries in lists.rounds.values() for entry in entries)
        return {entry.serial for entry in (*lists.entries, *lists.undone, *rounds)}

    def _entries(self, data: list[dict[str, Any]]) -> tuple[Entry, ...]:
        return tuple(self._entry(item) for item in data)

    def _entry(self, item: dict[str, Any]) -> Entry:
        path = self._path(item["serial"], ".json")
        content = read_limited(path, MAX_LIST_BYTES, StoreError)
        sums = item.get("sums")
        if sums is not None and google_crc32c.value(content) != sums[0]:
            raise ValueError(f"{path.name} does not fit its checksum")
        values = {"ids": tuple(item["ids"]), "sums": None if sums is None else (sums[0], sums[1])}
        return Entry(**{**item, **values}, action=json.loads(content))


def _load(path: Path) -> dict[str, Any]:
    return json.loads(read_limited(path, MAX_LIST_BYTES, StoreError))


def _to_json(lists: _Lists) -> dict[str, Any]:
    def short(entries: Iterable[Entry]) -> list[dict[str, Any]]:
        return [{"serial": e.serial, "frame": e.frame, "base": e.base, "ids": e.ids, "sums": e.sums} for e in entries]

    return {
        "version": 1,
        "entries": short(lists.entries),
        "undone": short(lists.undone),
        "begun": lists.begun,
        "rounds": {number: short(entries) for number, entries in lists.rounds.items()},
        "looks": {number: asdict(look) for number, look in lists.looks.items()},
        "next_serial": lists.next_serial,
    }
