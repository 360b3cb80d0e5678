"""Groups verdicts by requirement: what the evidence says about each item of a framework.

Knows requirements, verdicts and declarations; never how anything was measured. A requirement is
never "passed": it is supported in the scope that was tested, contradicted, or not shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Literal

import msgspec

from dlaudit.audit.judge import WORST_FIRST
from dlaudit.audit.record import Finding, FindingStatus, Requirement, Rule, Status, Verdict

Applicable = Literal["now", "not-yet", "contested"]

_OF_WORST: dict[Status, FindingStatus] = {
    "fail": "contradicted",
    "not_assessed": "no-evidence",
    "inconclusive": "inconclusive",
    "pass": "supported-in-scope",
}


class Declaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody states a fact about a requirement. With a document's digest it is attested."""

    requirement: str
    who: str
    role: str
    statement: str
    date: date
    document_sha256: str = ""


def find(
    requirements: Sequence[Requirement],
    rules: Iterable[Rule],
    verdicts: Iterable[Verdict],
    declarations: Iterable[Declaration],
    *,
    today: date,
    annex_iii: bool | None = None,
) -> tuple[Finding, ...]:
    """One finding per requirement, in the catalogue's order.

    annex_iii: whether the system is declared to fall under Annex III (True), under Annex I (False),
    or neither is declared (None); it decides which date of application counts.
    """
    by_rule = {verdict.rule: verdict for verdict in verdicts}
    speaking: dict[str, list[Verdict]] = {}
    for rule in rules:
        if rule.id in by_rule:
            for requirement in dict.fromkeys(rule.requirements):
                speaking.setdefault(requirement, []).append(by_rule[rule.id])
    declared: dict[str, list[Declaration]] = {}
    for declaration in declarations:
        declared.setdefault(declaration.requirement, []).append(declaration)
    return tuple(
        finding(
            requirement,
            speaking.get(requirement.id, []),
            declared.get(requirement.id, []),
            applicable=applies(requirement.applies_from, today, annex_iii=annex_iii),
        )
        for requirement in requirements
    )


def finding(
    requirement: Requirement,
    verdicts: Sequence[Verdict],
    declarations: Sequence[Declaration],
    *,
    applicable: Applicable,
) -> Finding:
    """What is known about one requirement: tests first, the worst of them; then declarations."""
    documents = tuple(one.document_sha256 for one in declarations if one.document_sha256)
    if verdicts:
        status, limits = _tested(requirement, verdicts)
    elif documents:
        status, limits = "attested", _by(declarations)
    elif declarations:
        status, limits = "declared", _by(declarations)
    elif requirement.kind[:1] == ("P",):
        who = f" of the {requirement.addressee}" if requirement.addressee else ""
        status, limits = "human-process-needed", f"A process{who}; no test can show it."
    else:
        status, limits = "no-evidence", "Nothing in this audit speaks of it."
    return Finding(
        requirement=requirement.id,
        status=status,
        applicable=applicable,
        verdicts=tuple(verdict.rule for verdict in verdicts),
        documents=documents,
        limits=limits,
    )


def _tested(requirement: Requirement, verdicts: Sequence[Verdict]) -> tuple[FindingStatus, str]:
    """The worst verdict decides; the limits say how many rules spoke and what they leave open."""
    worst = min((verdict.status for verdict in verdicts), key=WORST_FIRST.index)
    counts = {status: sum(v.status == status for v in verdicts) for status in WORST_FIRST}
    said = ", ".join(
        f"{counts[status]} {_WORDS[status]}" for status in WORST_FIRST if counts[status]
    )
    waived = sum(verdict.waived is not None for verdict in verdicts)
    limits = [f"{len(verdicts)} rule{'s' * (len(verdicts) > 1)}: {said}."]
    if waived:
        limits.append(f"{waived} waived for the gate, which changes nothing here.")
    if set(requirement.kind) - {"T"}:
        limits.append(
            "A test shows only part of this item: declarations or processes are asked too."
        )
    return _OF_WORST[worst], " ".join(limits)


_WORDS: Mapping[Status, str] = {
    "fail": "failed",
    "not_assessed": "not assessed",
    "inconclusive": "inconclusive",
    "pass": "passed",
}


def _by(declarations: Sequence[Declaration]) -> str:
    people = ", ".join(f"{one.who} ({one.role}, {one.date})" for one in declarations)
    return f"Stated by {people}; not tested."


def applies(applies_from: str, today: date, *, annex_iii: bool | None) -> Applicable:
    """Whether a requirement applies on a day, read from the catalogue's free text of dates.

    Text that calls a date formal or contested stays contested from that date on. Of two routes
    (``annex_iii:<date>;annex_i:<date>``) the declared one counts, else the earlier; of two dates of
    one route the earlier, because the later one speaks of exceptions (legacy systems).
    """
    dates: dict[str, date] = {}
    for route, written in re.findall(r"(?:(annex_\w+):)?(\d{4}-\d{2}-\d{2})", applies_from):
        day = date.fromisoformat(written)
        dates[route] = min(day, dates.get(route, day))
    if not applies_from:  # a framework without dates, such as a voluntary one
        return "now"
    if not dates:
        return "contested"
    route = {True: "annex_iii", False: "annex_i", None: ""}[annex_iii]
    if today < dates.get(route, min(dates.values())):
        return "not-yet"
    doubtful = "formal" in applies_from or "contested" in applies_from or "/" in applies_from
    return "contested" if doubtful else "now"
