"""A skeleton of the technical documentation of Annex IV, filled with what the record knows.

Knows the points of Annex IV as the record's catalogue words them, and which facts of the record
belong to which; refuses to write what only the provider can: every gap is marked. The catalogue's
own words stand in quotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dlaudit.audit.record import AuditRecord, Card, Measured, Statement
from dlaudit.reports import wording
from dlaudit.reports.markdown import quoted
from dlaudit.reports.outline import Outline, Shown
from dlaudit.reports.shortfalls import shortfalls

GAP = "**[gap]**"
BEGINNING = "aia:anx-iv-"
MOST = 200
"""Lines of one list; what is beyond is counted, and stands in the record."""
SUITES = {
    "2-h": ("attacks", "backdoors"),
    "3": ("performance", "overfitting", "fairness", "attacks", "explain"),
}
"""Point -> the suites whose numbers belong there; 2(g) holds every rule."""


def render(record: AuditRecord, folder: Path | None = None) -> str:
    """The skeleton; a record whose catalogues hold no Annex IV says so."""
    del folder
    outline = Outline(record)
    points = [one for one in outline.findings if one.requirement.id.startswith(BEGINNING)]
    order = [one.id for one in outline.record.requirements]
    points.sort(key=lambda one: order.index(one.requirement.id))
    lines = [*_head(outline), ""]
    for point in points:
        lines += [*_point(outline, point), ""]
    if not points:
        lines += [f"{GAP} The catalogues of this audit hold no point of Annex IV.", ""]
    lines += ["## What this audit did not show", ""]
    lines += [f"- {quoted(one.line)}" for one in shortfalls(outline)]
    return "\n".join(lines) + "\n"


def _head(outline: Outline) -> Iterator[str]:
    record = outline.record
    yield f"# Technical documentation (Annex IV), skeleton: {quoted(outline.name)}"
    yield ""
    yield (
        f"Written by dlaudit {quoted(record.tool.get('version', ''))} from the audit of "
        f"{wording.moment(record.started)}, plan `{record.plan_sha256}`. {GAP} marks what only the "
        "provider can write. Numbers hold in the scope beside them. This is no legal advice."
    )
    for card in record.catalogues:
        yield ""
        yield (
            f"Catalogue: {quoted(card.framework)}, {quoted(card.version)}, of {card.dated} "
            f"(`{card.sha256[:12]}`). {quoted(card.note)}"
        )
        if card.warning:
            yield f"**{quoted(card.warning)}**"


def _point(outline: Outline, point: Shown) -> Iterator[str]:
    item, finding = point.requirement, point.finding
    key = item.id.removeprefix(BEGINNING)
    yield f"## {quoted(wording.cite(item.cite))}"
    yield ""
    yield f"> {quoted(item.paraphrase)}"
    yield ""
    label = wording.FINDINGS[point.status].label
    limits = " ".join(text for text in (point.doubt, finding.limits) if text)
    yield f"Evidence: {label}. {quoted(limits, 2000)} ({wording.APPLICABLE[finding.applicable]})"
    known = [*_facts(outline, key), *_stated(outline, item.id)]
    if known:
        yield ""
        yield from _listed(known, escaped=True)
    yield ""
    yield f"{GAP} {'What is listed above is not the whole point.' if known else 'To be written.'}"


def _facts(outline: Outline, key: str) -> list[str]:
    """What the record itself knows of a point, as Markdown."""
    record = outline.record
    match key:
        case "1-a":
            stated = [one for one in record.statements if one.what in _ABOUT]
            return [*map(_told, stated), f"Model: {_card(record.model)}"]
        case "1-c":
            packages = record.environment.get("packages") or {}
            return [f"{quoted(name)} {quoted(str(found))}" for name, found in packages.items()]
        case "1-e":
            names = ("system", "machine", "device")
            return [
                f"Audited on {name}: {quoted(wording.plain(record.environment[name]))}"
                for name in names
                if record.environment.get(name)
            ]
        case "2-c":
            return [
                f"{quoted(k)}: {quoted(wording.plain(v))}" for k, v in record.model.facts.items()
            ]
        case "2-d":
            cards = {"test": record.data, **record.data.splits}
            return [
                f"{quoted(split)}: {_card(card)}"
                + "".join(
                    f"; {quoted(k)}: {quoted(wording.plain(v))}" for k, v in card.facts.items()
                )
                for split, card in cards.items()
            ]
        case "2-g":
            return list(_rules(outline))
        case _:
            return list(_numbers(outline, SUITES.get(key, ())))


_ABOUT = {"context.provider", "context.intended_purpose", "context.system", "context.version",
          "context.role", "context.annex_iii"}  # fmt: skip


def _card(card: Card) -> str:
    return f"{quoted(card.name)} `{quoted(card.fingerprint)}`"


def _rules(outline: Outline) -> Iterator[str]:
    """Each rule with its criterion and verdict: the thresholds were fixed before the first check."""
    yield f"Criteria sealed {wording.moment(outline.record.started)}, before the first check."
    for one in outline.judged:
        asked = f"{quoted(wording.criterion(one.rule))}: " if one.rule else ""
        label = wording.VERDICTS[one.status].label
        waived = f" ({quoted(wording.waiver(one.waived))})" if one.waived else ""
        seen = "; ".join(quoted(wording.result(seen)) for seen in one.verdict.observed[:3])
        told = f" {seen}" if seen else ""
        yield f"{quoted(one.id)}: {asked}{label}{waived}.{told} {quoted(one.reason)}"


def _numbers(outline: Outline, suites: tuple[str, ...]) -> Iterator[str]:
    for part in outline.suites:
        if part.name not in suites:
            continue
        yield f"{quoted(part.words.title)}: {quoted(part.words.limit)}"
        for run in part.runs:
            if isinstance(run.outcome, Measured):
                for one in run.outcome.measurements:
                    where = wording.where(one.slice, one.conditions)
                    told = f"{one.name} {wording.result(one)}" + (f" ({where})" if where else "")
                    yield f"{quoted(run.id)}: {quoted(told)}"


def _stated(outline: Outline, requirement: str) -> Iterator[str]:
    for one in outline.record.statements:
        if one.what == requirement:
            yield _told(one)


def _told(one: Statement) -> str:
    """A statement with who stands behind it."""
    person = ", ".join(str(told) for told in (one.role, one.date) if told)
    who = quoted(f"{one.who or 'nobody named'}{f' ({person})' if person else ''}")
    what = quoted(re.sub(r"^context\.", "", one.what))
    document = f", document `{one.document_sha256}`" if one.document_sha256 else ""
    stale = f"; it does not count any more: {quoted(one.stale)}" if one.stale else ""
    return f"{what}: {quoted(one.statement)} (stated by {who}{document}; not tested{stale})"


def _listed(lines: list[str], *, escaped: bool = False) -> list[str]:
    shown = [f"- {line if escaped else quoted(line, 2000)}" for line in lines[:MOST]]
    if len(lines) > MOST:
        shown.append(f"- {wording.counted(len(lines) - MOST, 'more line')} in the record")
    return shown
