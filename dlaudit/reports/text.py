"""The verdicts on one screen, worst first, one line each: what a terminal shows at the end of a run.

Knows columns; no colours and no cursor, so that a log file reads like the screen.
"""

from __future__ import annotations

from typing import NamedTuple

from dlaudit.audit.record import AuditRecord
from dlaudit.reports import wording
from dlaudit.reports.outline import NO_RULE, Judged, Outline, Unmeasured

PASSES = 24
"""Passing rules that are listed; more are counted, so that the answer stays on the screen."""
WIDTH = 140
NAME, ASKED = 46, 34


class Line(NamedTuple):
    """One line of the screen: verdict, rule or run, what was asked, what was measured."""

    face: str
    name: str
    asked: str
    told: str


def screen(record: AuditRecord) -> str:
    """Head, one line per rule and per run that no rule tells of, and the exit code in words."""
    outline = Outline(record)
    nothing = Line(_face("not_assessed"), "(no rule)", "", NO_RULE)
    closing = [] if outline.judged else [nothing]
    closing += [_of_rule(one) for one in outline.judged if one.status != "pass"]
    closing += [_of_run(one) for one in outline.unspoken]
    passing = [_of_rule(one) for one in outline.judged if one.status == "pass"]
    shown = [
        Line(*(wording.one_line(part) for part in line)) for line in [*closing, *passing[:PASSES]]
    ]
    face, name, asked = (
        max(len(column) for column in columns) for columns in list(zip(*shown, strict=True))[:3]
    )
    name, asked = min(NAME, name), min(ASKED, asked)
    version = wording.one_line(record.tool.get("version", ""))
    lines = [wording.clipped(f"dlaudit {version}  {wording.one_line(outline.name)}", WIDTH), ""]
    for one in shown:
        line = f"  {one.face:<{face}}  {one.name:<{name}}  {one.asked:<{asked}}  {one.told}"
        lines.append(wording.clipped(line.rstrip(), WIDTH))
    if len(passing) > PASSES:
        lines.append(f"  {'passed':<{face}}  and {len(passing) - PASSES} more")
    bounds = {one.rule.measurement for one in outline.judged if one.rule is not None}
    lines += [f"  {name} is {what}." for name, what in wording.BOUNDS.items() if name in bounds]
    return "\n".join(
        [*lines, "", f"{wording.gate(outline.code)}. {wording.exit_words(outline.code)}."]
    )


def _of_rule(one: Judged) -> Line:
    asked = wording.criterion(one.rule) if one.rule else ""
    if one.rule and one.rule.measurement in one.id:
        asked = asked.removeprefix(f"{one.rule.measurement} ")
    seen = one.verdict.observed
    if one.rule and len(seen) == 1 and one.status != "not_assessed":
        told = wording.measured(seen[0], threshold=one.rule.threshold)
        if any(caveat.voids for caveat in seen[0].caveats):
            # The figure comes last: a line that is cut must not end on one that looks good.
            told = f"void: {one.verdict.reason} It read {told}"
    else:
        told = one.verdict.reason
    if one.waived:
        told = f"{wording.waiver(one.waived)}; {told}"
    return Line(_face(one.status, waived=one.waived is not None), one.id, asked, told)


def _of_run(one: Unmeasured) -> Line:
    told = one.reason
    if one.waiver and not one.blocking:
        told = f"{wording.waiver(one.waiver)}; {told}"
    return Line(_face(one.kind, waived=not one.blocking), one.run.id, "", told)


def _face(status: str, *, waived: bool = False) -> str:
    """Everything but a pass in capitals: it is what somebody must look at."""
    words = wording.VERDICTS.get(status) or wording.OUTCOMES[status]  # type: ignore[call-overload]
    label = words.label if status == "pass" else words.label.upper()
    return f"{label}, waived" if waived else label
