"""Two runs compared, as text and as a page: moved criteria first, then verdicts, samples, measurements.

Knows the struct of ``dlaudit.audit.difference``, and of the records only the pictures of samples that
flipped; what is not compared is not said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dlaudit.audit.record import Artifact, AuditRecord, Measurement, Status
from dlaudit.reports import charts, columns, wording
from dlaudit.reports.language import translated
from dlaudit.reports.pictures import content, data_uri, is_picture

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
    lines = [f"{wording.one_line(one.run)}, {wording.one_line(one.outcome)}: {_told(one)}"]
    if one.flips:
        named = ", ".join(
            f"{wording.one_line(flip.id)} ({flip.before} -> {flip.after})"
            for flip in one.flips[:FLIPS]
        )
        more = f", and {len(one.flips) - FLIPS} more" if len(one.flips) > FLIPS else ""
        lines.append(f"  flipped: {named}{more}")
    return lines


def _told(one: Pairing) -> str:
    """The difference of one outcome with its interval, n, test and flips."""
    width = one.interval.high - one.interval.low
    marks = (0.0,)
    value, low, high = (
        wording.number(end, width=width, landmarks=marks)
        for end in (one.difference, one.interval.low, one.interval.high)
    )
    return (
        f"{value} [{low}, {high}] {wording.level(one.interval.level)}, n = {wording.count(one.n)}, "
        f"p = {one.p:.3g} (McNemar); {one.only_first} yes -> no, {one.only_second} no -> yes"
    )


def _change(one: Change) -> str:
    where = wording.where(one.slice, one.conditions)
    place = f"{one.run} {one.name}" + (f" ({where})" if where else "")
    told = f"{wording.one_line(place)}: {_value(one.before)} -> {_value(one.after)}"
    return wording.told_as_bound(told, one.name)


def _value(one: Measurement | None) -> str:
    return "not measured" if one is None else wording.one_line(wording.measured(one))


class Shot(NamedTuple):
    """A picture of a flipped sample, and in which of the two runs it was taken."""

    sample: str
    side: str
    uri: str
    alt: str


PICTURES = 12
FLIPPED = 200
"""Samples that the page lists for each outcome; ``--json`` names all of them."""


def page(
    difference: Difference,
    sides: Sequence[tuple[AuditRecord, Path]] = (),
    *,
    language: str = "en",
) -> str:
    """The comparison as one HTML file without a script.

    sides: both runs with their folders, for the pictures of samples that flipped. language: ``en``
    or ``de``.
    """
    from dlaudit.reports.html import environment

    template = environment(language).get_template("difference.html.j2")
    told = template.render(words=wording, language=language, **shown(difference, sides))
    return wording.printable(translated(told, language))


def shown(
    difference: Difference,
    sides: Sequence[tuple[AuditRecord, Path]] = (),
    names: Sequence[str] = ("before", "after"),
) -> dict[str, Any]:
    """What the templates need to show a comparison. names: which of the two runs the sides are."""
    ends = [end for one in difference.pairings for end in (one.interval.low, one.interval.high)]
    along = charts.axis([0.0, *ends])
    return {
        "difference": difference,
        "axis": along,
        "strips": [_strip(one, along) for one in difference.pairings],
        "told": [_told(one) for one in difference.pairings],
        "shots": list(_shots(difference, sides, names)),
        "status": _status,
        "value": _value,
        "most": FLIPPED,
    }


def _strip(one: Pairing, along: charts.Axis) -> charts.Strip:
    low, high = along.at(one.interval.low), along.at(one.interval.high)
    return charts.Strip(along.at(one.difference), low, high)


def _shots(
    difference: Difference, sides: Sequence[tuple[AuditRecord, Path]], names: Sequence[str]
) -> Iterable[Shot]:
    """What the runs drew of the samples that flipped, a few."""
    flipped = {flip.id for one in difference.pairings for flip in one.flips}
    left = PICTURES
    for side, (record, folder) in zip(names, sides, strict=False):
        for run in record.runs:
            drawn: dict[str, Artifact] = {
                artifact.sha256: artifact
                for artifact in getattr(run.outcome, "artifacts", ())
                if is_picture(artifact)
            }
            for told in columns.listed(run, "failures", folder):
                shot = drawn.get(str(told.get("picture")))
                if shot is None or str(told.get("sample")) not in flipped or not left:
                    continue
                stored, reason = content(shot, folder)
                if not reason:
                    left -= 1
                    uri = data_uri(shot, stored)
                    yield Shot(str(told["sample"]), side, uri, shot.alt or shot.caption)
