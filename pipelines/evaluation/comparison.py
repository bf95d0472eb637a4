"""What changed between two runs of a benchmark, from their records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.evaluation.records import Data, RunRecord, plain_means
from stores.errors import UsageError


@dataclass(frozen=True)
class Difference:
    """One number of both runs; `sequence` is "" for a mean. `change` is later minus earlier."""

    measure: str
    sequence: str
    before: float
    after: float

    @property
    def change(self) -> float:
        return self.after - self.before

    @property
    def percent(self) -> float | None:
        """Change in percent of the earlier value, None if that is 0."""
        return 100 * self.change / abs(self.before) if self.before else None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "change": self.change, "percent": self.percent}


@dataclass(frozen=True)
class Comparison:
    """What changed from one run to another.

    Attributes:
        settings, code, machine: name -> (before, after) of what differs, None where a run lacks it.
        means: of all measures both have; over the sequences of both runs only, if those differ.
        sequences: by measure, then the largest change first.
        only_before, only_after: sequences that only one run has; notes: what to keep in mind, a line each.
    """

    kind: str
    settings: dict[str, tuple[Any, Any]]
    code: dict[str, tuple[Any, Any]]
    machine: dict[str, tuple[Any, Any]]
    means: tuple[Difference, ...]
    sequences: tuple[Difference, ...]
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        rows = {name: [item.to_json() for item in getattr(self, name)] for name in ("means", "sequences")}
        return {**asdict(self), **rows}


def compare(
    before: RunRecord, after: RunRecord, *, any_data: bool = False, measures: Collection[str] | None = None
) -> Comparison:
    """What changed between two runs.

    Args:
        any_data: compare although sequences of one name have different content.
        measures: only these; None: all that both runs have.

    Raises:
        UsageError: the runs are of different kinds, read other data, or have no sequence or measure (asked for) in
            common.
    """
    if before.kind != after.kind:
        raise UsageError(
            f"a run of {before.kind!r} and a run of {after.kind!r} cannot be compared",
            hint="give two records of one benchmark",
        )
    shared = [name for name in before.scores if name in after.scores]
    if not shared and (before.scores or after.scores):
        raise UsageError("the two runs have no sequence in common", hint="run both on the same sequences")
    notes = _same_data(before.data, after.data, any_data)
    rows = [
        Difference(measure, name, old, new)
        for name in shared
        for measure, old, new in _pairs(before.scores[name], after.scores[name])
    ]
    only_before = tuple(name for name in before.scores if name not in after.scores)
    only_after = tuple(name for name in after.scores if name not in before.scores)
    old_means, new_means = before.means, after.means
    if only_before or only_after:
        old_means, new_means = (plain_means({name: run.scores[name] for name in shared}) for run in (before, after))
        notes.append(f"the runs share {len(shared)} sequences; means are plain means over these")
    means = tuple(Difference(measure, "", old, new) for measure, old, new in _pairs(old_means, new_means))
    if measures is not None:
        known = {item.measure for item in (*means, *rows)}
        if lacking := [name for name in measures if name not in known]:
            raise UsageError(
                f"the runs do not share a measure {lacking[0]!r}", hint=f"choose from: {', '.join(sorted(known))}"
            )
        means = tuple(item for item in means if item.measure in measures)
        rows = [item for item in rows if item.measure in measures]
    if not rows and not means:
        raise UsageError("the two runs have no measure in common", hint="give two records of one benchmark")
    order = list(dict.fromkeys([*(item.measure for item in means), *(item.measure for item in rows)]))
    rows.sort(key=lambda item: (order.index(item.measure), -abs(item.change), item.sequence))
    for name, run in (("first", before), ("second", after)):
        if run.code.get("changed"):
            notes.append(f"the {name} run's code had changes that are not committed")
    return Comparison(
        kind=before.kind,
        settings=_differing(before.settings, after.settings),
        code=_differing(before.code, after.code),
        machine=_differing(before.machine, after.machine),
        means=means,
        sequences=tuple(rows),
        only_before=only_before,
        only_after=only_after,
        notes=tuple(notes),
    )


def _same_data(before: Data | None, after: Data | None, any_data: bool) -> list[str]:
    if before is None or after is None:
        return ["at least one run does not say which data it read"]
    other = [name for name, content in before.parts.items() if after.parts.get(name, content) != content]
    if not other:
        return []
    named = f"{', '.join(other[:3])}{' and others' if len(other) > 3 else ''}"
    if any_data:
        return [f"the content of {named} differs between the runs"]
    raise UsageError(
        f"the two runs read different data: the content of {named} differs",
        hint="run both on the same files, or add --any-data",
    )


def _pairs(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> Iterable[tuple[str, float, float]]:
    for measure, old in before.items():
        new = after.get(measure)
        if old is not None and new is not None:
            yield measure, old, new


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*before, *after])
    return {n: (before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n)}
