"""Two runs compared, as plain text: moved criteria first, then verdicts, samples and measurements.

Knows the struct of ``dlaudit.audit.difference`` and no record; what is not compared is not said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlaudit.audit.record import Measurement, Status
from dlaudit.reports import wording

if TYPE_CHECKING:
    from dlaudit.audit.difference import Change, Difference, Pairing, Turn

FLIPS = 10
"""Samples that are named for each outcome; ``--json`` names all of them."""
CHANGES = 60


def text(difference: Difference) -> str:
    """The comparison in words; says "nothing differs" only where that was looked at."""
    same = {"plan": difference.same_plan, "model": difference.same_model}
    same["data"] = difference.same_data
    lines = [
        f"{wording.one_line(difference.first)}  ->  {wording.one_line(difference.second)}",
        ", ".join(f"{what} {'the same' if is_ else 'DIFFERENT'}" for what, is_ in same.items()),
    ]
    lines += _part("Criteria that moved", [wording.one_line(one) for one in difference.criteria])
    lines += _part("Verdicts that turned", [_turn(one) for one in difference.turns])
    flipped = [line for one in difference.pairings for line in _pairing(one)]
    title = "Samples, paired by id (second minus first)"
    lines += _part(title, flipped) if difference.pairings else ["", "No sample is in both runs."]
    changes = [_change(one) for one in difference.changes[:CHANGES]]
    if len(difference.changes) > CHANGES:
        changes.append(f"and {len(difference.changes) - CHANGES} more")
    lines += _part("Measurements that differ", changes)
    return "\n".join(lines)


def _part(title: str, lines: list[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in lines or ["none"])]


def _turn(one: Turn) -> str:
    return f"{wording.one_line(one.rule)}: {_status(one.before)} -> {_status(one.after)}"


def _status(status: Status | None) -> str:
    return "no such rule" if status is None else wording.VERDICTS[status].label


def _pairing(one: Pairing) -> list[str]:
    width = one.interval.high - one.interval.low
    marks = (0.0,)
    value, low, high = (
        wording.number(end, width=width, landmarks=marks)
        for end in (one.difference, one.interval.low, one.interval.high)
    )
    outcome = (
        f"{wording.one_line(one.run)}, {wording.one_line(one.outcome)}: {value} [{low}, {high}] "
        f"{wording.level(one.interval.level)}, n = {wording.count(one.n)}, p = {one.p:.3g} "
        f"(McNemar); {one.only_first} yes -> no, {one.only_second} no -> yes"
    )
    lines = [outcome]
    if one.flips:
        named = ", ".join(
            f"{wording.one_line(flip.id)} ({flip.before} -> {flip.after})"
            for flip in one.flips[:FLIPS]
        )
        more = f", and {len(one.flips) - FLIPS} more" if len(one.flips) > FLIPS else ""
        lines.append(f"  flipped: {named}{more}")
    return lines


def _change(one: Change) -> str:
    where = wording.where(one.slice, one.conditions)
    place = f"{one.run} {one.name}" + (f" ({where})" if where else "")
    told = f"{wording.one_line(place)}: {_value(one.before)} -> {_value(one.after)}"
    return wording.told_as_bound(told, one.name)


def _value(one: Measurement | None) -> str:
    return "not measured" if one is None else wording.one_line(wording.measured(one))
