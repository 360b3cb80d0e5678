"""The seventeen sections of a report, in the order an auditor reads them.

Knows which suites answer which section and how a citation is cut to its article; never what a suite
measures. A suite that nobody here knows by name still has its place: nothing is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dlaudit.audit.record import FindingStatus
from dlaudit.reports.outline import Outline, Shown, SuitePart
from dlaudit.reports.wording import FINDINGS

TITLES = {
    "scope": "Scope, limits, not covered",
    "findings": "Findings, worst first",
    "matrix": "Coverage matrix",
    "system": "System and purpose",
    "data": "Data",
    "performance": "Performance and generalisation",
    "robustness": "Robustness",
    "poisoning": "Poisoning and backdoors",
    "bias": "Bias",
    "explanations": "Explanations",
    "compute": "Energy and compute",
    "declarations": "Declarations and human processes",
    "changes": "Changes since the last report",
    "criteria": "Criteria and deviations",
    "annex": "Traceability annex",
    "reproduce": "Reproduce, manifest, signatures",
    "glossary": "Glossary and sources",
}
"""Section id -> title; the number of a section is its place here."""

HOMES = {
    "data": ("data_quality", "data", "leakage"),
    "performance": ("overfitting", "performance", "calibration", "uncertainty", "privacy"),
    "robustness": ("attacks", "robustness", "corruptions", "faults"),
    "poisoning": ("backdoors", "poisoning"),
    "bias": ("fairness", "bias"),
    "explanations": ("explain", "explanations"),
    "compute": ("operations", "energy"),
}
HOME = {suite: section for section, suites in HOMES.items() for suite in suites}


class Section(NamedTuple):
    """A section with its number and the suites that stand in it."""

    id: str
    number: int
    title: str
    suites: tuple[SuitePart, ...]
    untouched: tuple[str, ...]


def sections(outline: Outline) -> dict[str, Section]:
    """Every section by its id, in order. Suites that no section names are ``further``'s."""
    return {
        id_: Section(
            id_,
            number,
            title,
            tuple(part for part in outline.suites if HOME.get(part.name) == id_),
            tuple(name for name in outline.untouched if HOME.get(name) == id_),
        )
        for number, (id_, title) in enumerate(TITLES.items(), 1)
    }


def further(outline: Outline) -> tuple[SuitePart, ...]:
    """The suites of guests, which stand after the numbered ones under their own names."""
    return tuple(part for part in outline.suites if part.name not in HOME)


class MatrixRow(NamedTuple):
    """One article: for each status in ``COLUMNS`` the items that have it."""

    framework: str
    article: str
    cells: tuple[tuple[str, ...], ...]


COLUMNS: tuple[FindingStatus, ...] = tuple(FINDINGS)


def matrix(findings: Iterable[Shown]) -> tuple[MatrixRow, ...]:
    """Articles against statuses, as ids of items; articles in the order of their names."""
    found: dict[tuple[str, str], dict[FindingStatus, list[str]]] = {}
    for one in findings:
        place = (one.requirement.framework, article(one.requirement.cite))
        found.setdefault(place, {}).setdefault(one.status, []).append(one.requirement.id)
    return tuple(
        MatrixRow(framework, name, tuple(tuple(cells.get(status, ())) for status in COLUMNS))
        for (framework, name), cells in sorted(found.items(), key=lambda item: _ordered(*item[0]))
    )


def article(cite: str) -> str:
    """What a citation is a part of: ``Article 15`` for ``Article 15(5)#3``; else its beginning."""
    match = re.match(r"(?:Article|Annex)\s+\w+", cite)
    return match.group() if match else re.split(r"[(#,.;]", cite, maxsplit=1)[0].strip() or cite


def _ordered(framework: str, name: str) -> tuple[str, bool, int, str]:
    digits = re.search(r"\d+", name)
    return framework, name.startswith("Annex"), int(digits.group()) if digits else 0, name


STRIP: Sequence[tuple[str, tuple[FindingStatus, ...]]] = (
    ("supported by tests", ("supported-in-scope",)),
    ("contradicted", ("contradicted",)),
    ("undecided or stale", ("inconclusive", "stale")),
    ("declared or attested", ("declared", "attested")),
    ("open human process", ("human-process-needed",)),
    ("no evidence", ("no-evidence",)),
    ("not applicable", ("not-applicable",)),
)


class Count(NamedTuple):
    """One mark of the coverage strip.

    shape: the status that lends its face. first: the status in the annex that it leads to.
    """

    told: str
    shape: str
    n: int
    first: FindingStatus | None


def strip(findings: Sequence[Shown]) -> tuple[Count, ...]:
    """The coverage strip: counts, never shares, each with the first of its groups in the annex."""
    statuses = [one.status for one in findings]
    return tuple(
        Count(
            told,
            FINDINGS[group[0]].shape,
            sum(status in group for status in statuses),
            next((status for status in group if status in statuses), None),
        )
        for told, group in STRIP
    )
