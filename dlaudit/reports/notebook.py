"""The verdicts as a fragment for a notebook cell. Knows inline styles only: a cell has no head."""

from __future__ import annotations

from dlaudit.audit.record import AuditRecord
from dlaudit.reports import wording
from dlaudit.reports.html import environment
from dlaudit.reports.outline import NO_RULE, Outline

ROWS = 60
"""Rules that a cell shows, worst first; more are counted."""


def summary(record: AuditRecord) -> str:
    """HTML for ``_repr_html_``: the gate's answer and one row per rule, worst first."""
    outline = Outline(record)
    fragment = (
        environment()
        .get_template("notebook.html.j2")
        .render(record=record, outline=outline, words=wording, no_rule=NO_RULE, most=ROWS)
    )
    return wording.printable(fragment)
