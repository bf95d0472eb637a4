"""Undo and redo over actions and rounds, as one line of steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipelines.editing.actions import Action
from stores.drafts import Drafts, Entry
from stores.history import STEPS
from stores.session import HistoryEntry, Session


@dataclass(frozen=True)
class Step:
    """What undo or redo did; `frame` is where to look, None for all over the video."""

    frame: int | None
    what: str


class Steps:
    """Actions that are not in a round yet come first; then rounds, whose actions become a draft again."""

    def __init__(self, session: Session, drafts: Drafts) -> None:
        self.session, self.drafts = session, drafts

    def undo(self) -> Step | None:
        """Takes the last action back, else the last round or deletion; None: nothing to undo."""
        if self.drafts.entries:
            return self._of_action(self.drafts.undo(self.session.commit_id))
        if self.last_commit() is None:
            return None
        drawn = self._is_ours(self.last_commit())
        undone = self.session.undo()
        if undone.round is not None and drawn:
            self.drafts.bring_back(undone.round)
        return _of_commit(undone)

    def redo(self) -> Step | None:
        """Brings back what `undo` took; None: nothing to redo."""
        if self.next_action() is not None:
            return self._of_action(self.drafts.redo())
        if self.next_commit() is None:
            return None
        redone = self.session.redo()
        if redone.round is not None and self._is_ours(redone):
            self.drafts.take_away(redone.round)
        elif (look := self.drafts.looks.get(redone.facts.get("object", 0))) is not None:
            self.drafts.set_look(redone.facts["object"], replace(look, deleted=True))
        return _of_commit(redone)

    def describe(self) -> dict[str, str | None]:
        """What `undo` and `redo` would do next, in words."""
        entries, commit = self.drafts.entries, self.last_commit()
        undo = self._words(entries[-1]) if entries else None if commit is None else commit.message
        action, later = self.next_action(), self.next_commit()
        redo = self._words(action) if action is not None else None if later is None else later.message
        return {"undo": undo, "redo": redo}

    def last_commit(self) -> HistoryEntry | None:
        """The round or deletion that comes next in undoing."""
        steps = [item for item in self.session.history() if item.state != "undone" and item.kind in STEPS]
        return steps[-1] if steps else None

    def next_action(self) -> Entry | None:
        """The action that comes next in redoing."""
        undone = self.drafts.undone
        return undone[-1] if undone and undone[-1].base == self.session.commit_id else None

    def next_commit(self) -> HistoryEntry | None:
        """The round or deletion that comes next in redoing: none while something else is drawn since it was undone."""
        undone = [item for item in self.session.history() if item.state == "undone" and item.kind in STEPS]
        if not undone:
            return None
        own = self.drafts.of_round(undone[0].round) if undone[0].round is not None else ()
        return undone[0] if all(entry in own for entry in self.drafts.entries) else None

    def _is_ours(self, commit: HistoryEntry | None) -> bool:
        """Whether the session's last round came from the actions known under its number: others may have made it."""
        if commit is None or commit.round is None:
            return False
        own = [entry.action["id"] for entry in self.drafts.of_round(commit.round)]
        return own == [action.get("id") for action in self.session.rounds[commit.round - 1].strokes]

    def _words(self, entry: Entry) -> str:
        return Action.from_json(entry.action, num_frames=self.session.num_frames).describe()

    def _of_action(self, entry: Entry) -> Step:
        return Step(entry.frame, self._words(entry))


def _of_commit(entry: HistoryEntry) -> Step:
    return Step(entry.facts.get("frame"), entry.message)
