"""Groups verdicts by requirement: what the evidence says about each item of a framework.

Knows requirements, verdicts and statements; never how anything was measured. A requirement is
never "passed": it is supported in the scope that was tested, contradicted, or not shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Literal

from dlaudit.audit.declared import Scope, people
from dlaudit.audit.judge import WORST_FIRST
from dlaudit.audit.record import (
    Feed,
    Finding,
    FindingStatus,
    Requirement,
    Rule,
    Statement,
    Status,
    Verdict,
)

Applicable = Literal["now", "not-yet", "contested"]

_OF_WORST: dict[Status, FindingStatus] = {
    "fail": "contradicted",
    "not_assessed": "no-evidence",
    "inconclusive": "inconclusive",
    "pass": "supported-in-scope",
}
_WORDS: Mapping[Status, str] = {
    "fail": "failed",
    "not_assessed": "not assessed",
    "inconclusive": "inconclusive",
    "pass": "passed",
}
MOST = 4
"""Scopes that a finding's limits spell out; more are counted."""


def find(
    requirements: Sequence[Requirement],
    rules: Iterable[Rule],
    verdicts: Iterable[Verdict],
    statements: Iterable[Statement],
    *,
    today: date,
    scope: Scope | None = None,
    checks: Mapping[str, str] | None = None,
    feeds: Mapping[str, Feed] | None = None,
) -> tuple[Finding, ...]:
    """One finding per requirement, in the catalogue's order.

    scope: role and annex that the plan declares; the annex decides which date of application
    counts. checks: run -> its check. feeds: suite of the catalogue -> the checks that feed it, to
    say what nothing spoke of.
    """
    scope = scope or Scope()
    by_rule = {verdict.rule: verdict for verdict in verdicts}
    speaking: dict[str, list[tuple[Rule, Verdict]]] = {}
    for rule in rules:
        if rule.id in by_rule:
            for requirement in dict.fromkeys(rule.requirements):
                speaking.setdefault(requirement, []).append((rule, by_rule[rule.id]))
    stated: dict[str, list[Statement]] = {}
    for statement in statements:
        stated.setdefault(statement.what, []).append(statement)
    return tuple(
        finding(
            requirement,
            [verdict for _, verdict in speaking.get(requirement.id, [])],
            [*stated.get(requirement.id, []), *_facts(requirement, stated, scope)],
            applicable=applies_to(requirement, today, annex_iii=scope.annex_iii),
            scope=scope,
            rules={rule.id: rule for rule, _ in speaking.get(requirement.id, [])},
            silent=unspoken(
                requirement, speaking.get(requirement.id, []), checks or {}, feeds or {}
            ),
        )
        for requirement in requirements
    )


def _facts(
    requirement: Requirement, stated: Mapping[str, list[Statement]], scope: Scope
) -> list[Statement]:
    """What the plan's context states of an item, if the item speaks of what it states."""
    if not requirement.fact or scope.leaves_out(requirement):
        return []
    return [
        one for one in stated.get(f"context.{requirement.fact}", []) if one.statement != "false"
    ]


def finding(
    requirement: Requirement,
    verdicts: Sequence[Verdict],
    statements: Sequence[Statement],
    *,
    applicable: Applicable,
    scope: Scope | None = None,
    rules: Mapping[str, Rule] | None = None,
    silent: Sequence[str] = (),
) -> Finding:
    """What is known about one requirement: tests first, the worst of them; then what people state.

    A test supports nothing that no test can feed, but it can contradict it. Statements of which all
    are stale make the finding stale. A declared role or annex that leaves the item out comes last:
    it never hides what was measured or said.
    """
    outside = (scope or Scope()).leaves_out(requirement)
    live = [one for one in statements if not one.stale]
    testable = not requirement.kind or "T" in requirement.kind
    decisive = [v for v in verdicts if testable or v.status == "fail"]
    status: FindingStatus
    if requirement.replaced_by:
        status, limits = "not-applicable", f"Deleted. See {requirement.replaced_by}."
    elif decisive:
        status, limits = _tested(requirement, verdicts, rules or {}, silent)
        limits = f"{limits} {outside}".rstrip()
    elif excluded := [one for one in live if one.not_applicable]:
        status, limits = "not-applicable", _excluded(excluded)
    elif live:
        status = "attested" if any(one.document_sha256 for one in live) else "declared"
        limits = f"Stated by {_by(live)}; not tested."
    elif statements:
        told = "; ".join(dict.fromkeys(one.stale for one in statements))
        status, limits = "stale", f"Stated by {_by(statements)}, but {told}."
    elif outside:
        status, limits = "not-applicable", outside
    elif requirement.kind[:1] == ("P",):
        status, limits = "human-process-needed", _process(requirement)
    else:
        status, limits = "no-evidence", "Nothing in this audit speaks of it."
    if verdicts and not decisive:
        limits = f"{_counted(verdicts)} No test can feed this item. {limits}"
    return Finding(
        requirement=requirement.id,
        status=status,
        applicable="not-yet" if requirement.replaced_by else applicable,
        verdicts=tuple(verdict.rule for verdict in verdicts),
        documents=tuple(one.document_sha256 for one in statements if one.document_sha256),
        limits=limits,
    )


def _tested(
    requirement: Requirement,
    verdicts: Sequence[Verdict],
    rules: Mapping[str, Rule],
    silent: Sequence[str],
) -> tuple[FindingStatus, str]:
    """The worst verdict decides; the limits say how many rules spoke, of what, and what is left."""
    worst = min((verdict.status for verdict in verdicts), key=WORST_FIRST.index)
    waived = sum(verdict.waived is not None for verdict in verdicts)
    limits = [_counted(verdicts)]
    status = _OF_WORST[worst]
    if worst == "pass" and not any(one.interval for said in verdicts for one in said.observed):
        # A count of what one search found says nothing of how far that reaches: no support from it.
        status = "inconclusive"
        limits.append(
            "Passed on exact counts alone, without any interval: that supports nothing yet."
        )
    if waived:
        limits.append(f"{waived} waived for the gate, which changes nothing here.")
    scopes = list(dict.fromkeys(
        told for one in verdicts if one.rule in rules for told in _scope(rules[one.rule], one)
    ))  # fmt: skip
    if scopes:
        more = f"; and {len(scopes) - MOST} more" if len(scopes) > MOST else ""
        limits.append(f"Tested in this scope only: {'; '.join(scopes[:MOST])}{more}.")
    if silent:
        limits.append(f"Nothing spoke of: {', '.join(silent)}.")
    if set(requirement.kind) - {"T"}:
        limits.append(
            "A test shows only part of this item: declarations or processes are asked too."
        )
    return status, " ".join(limits)


def _counted(verdicts: Sequence[Verdict]) -> str:
    counts = {status: sum(v.status == status for v in verdicts) for status in WORST_FIRST}
    said = ", ".join(
        f"{counts[status]} {_WORDS[status]}" for status in WORST_FIRST if counts[status]
    )
    return f"{len(verdicts)} rule{'s' * (len(verdicts) > 1)}: {said}."


def _scope(rule: Rule, verdict: Verdict) -> Iterable[str]:
    """What one verdict saw: run, measurement, norm and budgets, and on how many samples."""
    if not verdict.observed:
        return
    sizes = sorted({one.n for one in verdict.observed})
    n = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}"
    told = [f"{rule.run} {rule.measurement}"]
    for key in ("norm", "epsilon"):
        seen = {one.conditions[key] for one in verdict.observed if key in one.conditions}
        if seen:
            told.append(f"{key} {' and '.join(sorted(_short(one) for one in seen))}")
    yield f"{', '.join(told)}, {n}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def unspoken(
    requirement: Requirement,
    speaking: Iterable[tuple[Rule, Verdict]],
    checks: Mapping[str, str],
    feeds: Mapping[str, Feed],
) -> tuple[str, ...]:
    """The suites that could feed an item and of which no rule spoke that was assessed."""
    heard = {
        checks.get(rule.run, rule.run) for rule, said in speaking if said.status != "not_assessed"
    }
    return tuple(
        feed.title
        for suite in requirement.suites
        if (feed := feeds.get(suite)) and not any(fed_by(feed, check) for check in heard)
    )


def fed_by(feed: Feed, check: str) -> bool:
    """Whether a check feeds a suite of the catalogue."""
    return check.startswith(feed.checks) and not (feed.but and check.startswith(feed.but))


def _process(requirement: Requirement) -> str:
    who = f" of {people(requirement.addressee)}" if people(requirement.addressee) else ""
    part = "a test can show only part of it" if "T" in requirement.kind else "no test can show it"
    return f"A process{who}; {part}."


def _by(statements: Sequence[Statement]) -> str:
    return ", ".join(_person(one) for one in statements)


def _person(one: Statement) -> str:
    more = ", ".join(str(told) for told in (one.role, one.date) if told)
    return f"{one.who or 'nobody named'}{f' ({more})' if more else ''}"


def _excluded(statements: Sequence[Statement]) -> str:
    told = "; ".join(f"{one.statement} ({_person(one)})" for one in statements)
    return f"Declared not to apply, not tested: {told}."


def applies_to(item: Requirement, today: date, *, annex_iii: bool | None) -> Applicable:
    """Whether an item applies on a day; a date that the catalogue doubts is contested from then on."""
    when = applies(item.applies_from, today, annex_iii=annex_iii)
    doubtful = item.confidence in {"unsettled", "contested"}
    return "contested" if when == "now" and doubtful else when


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
