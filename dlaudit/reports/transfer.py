"""The transfer matrix: what examples made on one model do to another.

Knows the measurements ``transfer_rate``, with its conditions ``source`` and ``judged``, and
``source_success``, which stands on the diagonal; never how examples are made. Pairs without a number
are shown as such, never as 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from dlaudit.audit.record import Measured, Measurement, Scalar, Undefined
from dlaudit.reports import wording
from dlaudit.reports.outline import Outline

RATE, OWN = "transfer_rate", "source_success"
PAIR = ("source", "judged")
LEVELS = 5


class Pair(NamedTuple):
    """Examples made on one model and shown to another. measurement: None if there is no number."""

    measurement: Measurement | None
    level: int
    reason: str

    @property
    def void(self) -> bool:
        """Whether a caveat voids the number."""
        return self.measurement is not None and any(c.voids for c in self.measurement.caveats)


class Transfer(NamedTuple):
    """Rows: the models on which examples were made; columns: those that judged them."""

    run: str
    common: dict[str, Scalar]
    judged: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Pair | None, ...]], ...]


def transfers(outline: Outline) -> tuple[Transfer, ...]:
    """One matrix for each run and each set of otherwise equal conditions."""
    found = []
    for run in outline.record.runs:
        if not isinstance(run.outcome, Measured):
            continue
        both: tuple[Measurement | Undefined, ...] = (
            *run.outcome.measurements, *run.outcome.undefined
        )  # fmt: skip
        numbers = [one for one in both if place_of(one) is not None]
        if not any(one.name == RATE for one in numbers):
            continue
        alike: dict[tuple[tuple[str, Scalar], ...], list[Measurement | Undefined]] = {}
        for one in numbers:
            rest = {k: v for k, v in one.conditions.items() if k not in PAIR}
            key = (*sorted(rest.items()), *sorted(one.slice.items()))
            alike.setdefault(key, []).append(one)
        found += [_transfer(run.id, dict(key), same) for key, same in alike.items()]
    return tuple(found)


def _transfer(
    run: str, common: dict[str, Scalar], numbers: list[Measurement | Undefined]
) -> Transfer:
    placed = [(place, one) for one in numbers if (place := place_of(one)) is not None]
    sources = tuple(dict.fromkeys(source for (source, _), _ in placed))
    judged = tuple(dict.fromkeys(other for (_, other), _ in placed))
    pairs: dict[tuple[str, str], Pair] = {}
    for place, one in placed:
        if isinstance(one, Undefined):
            pairs[place] = Pair(None, 0, one.reason)
        else:
            level = min(LEVELS, max(0, math.ceil(LEVELS * one.value)))
            pairs[place] = Pair(one, level, "")
    rows = tuple(
        (source, tuple(pairs.get((source, other)) for other in judged)) for source in sources
    )
    return Transfer(run, common, judged, rows)


def place_of(one: Measurement | Undefined) -> tuple[str, str] | None:
    """(source, judged) of a number, or None if it has no place in a matrix."""
    source, judged = one.conditions.get("source"), one.conditions.get("judged")
    if source is None:
        return None
    if one.name == OWN:
        return str(source), str(source)
    return (str(source), str(judged)) if one.name == RATE and judged is not None else None


def words(pair: Pair) -> wording.Shown:
    """A pair's number and interval."""
    return wording.shown(pair.measurement) if pair.measurement else wording.Shown("undefined", "")
