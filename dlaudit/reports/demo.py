"""The first page of the demo: both audits side by side, what was planted and what was found.

Knows two records and words for the defects; never how a defect is planted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dlaudit.audit.record import AuditRecord
from dlaudit.reports import wording
from dlaudit.reports.html import environment
from dlaudit.reports.outline import Judged, Outline

TWINS = ("planted", "clean")


class Row(NamedTuple):
    """One criterion in both audits. planted: the defect in words, empty for one that is none."""

    rule: str
    planted: str
    verdicts: tuple[Judged | None, ...]


def demo_index(records: Mapping[str, AuditRecord], defects: Mapping[str, str] | None = None) -> str:
    """The page; it links to ``planted/report.html`` and ``clean/report.html``.

    records: by ``planted`` and ``clean``. defects: rule id -> what was planted for it to find.
    """
    outlines = {twin: Outline(records[twin]) for twin in TWINS}
    known = defects or {}
    ids = dict.fromkeys([*known, *(one.id for o in outlines.values() for one in o.judged)])
    found = {twin: {one.id: one for one in outline.judged} for twin, outline in outlines.items()}
    rows = [
        Row(id_, known.get(id_, ""), tuple(found[twin].get(id_) for twin in TWINS)) for id_ in ids
    ]
    page = (
        environment()
        .get_template("demo.html.j2")
        .render(outlines=outlines, rows=rows, words=wording)
    )
    return wording.printable(page)
