"""Every number of a record as CSV (RFC 4180), one a line, with what has no number beside it.

Knows columns; refuses to round, and refuses to leave out a run because it has no number. Text that a
spreadsheet would take for a formula is led by an apostrophe.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlaudit.audit.record import AuditRecord, CheckRun, Errored, Measured, Measurement
from dlaudit.reports import wording
from dlaudit.reports.outline import Outline, kind_of

COLUMNS = (
    "run", "check", "kind", "name", "value", "n", "low", "high", "level", "method", "exact", "unit",
    "slice", "conditions", "void", "caveats", "reason",
)  # fmt: skip


def render(record: AuditRecord, folder: Path | None = None) -> str:
    """One line per measurement and undefined number, one per run that has none."""
    del folder
    written = io.StringIO()
    table = csv.DictWriter(written, COLUMNS, restval="", lineterminator="\r\n")
    table.writeheader()
    for run in Outline(record).record.runs:
        for row in _rows(run):
            table.writerow({key: _cell(value) for key, value in row.items()})
    return written.getvalue()


def _rows(run: CheckRun) -> Iterator[dict[str, Any]]:
    head = {"run": run.id, "check": run.check}
    outcome = run.outcome
    if not isinstance(outcome, Measured):
        error = f"{outcome.error}: {outcome.message}" if isinstance(outcome, Errored) else ""
        reason = error if isinstance(outcome, Errored) else outcome.reason
        yield head | {"kind": kind_of(outcome), "reason": reason}
        return
    for one in outcome.measurements:
        yield head | {"kind": "measurement"} | _measured(one)
    for none in outcome.undefined:
        place = {"slice": _json(none.slice), "conditions": _json(none.conditions)}
        yield head | {"kind": "undefined", "name": none.name, "reason": none.reason} | place
    if not outcome.measurements and not outcome.undefined:
        yield head | {"kind": "measured", "reason": "it yielded no number"}


def _measured(one: Measurement) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": one.name, "value": one.value, "n": one.n, "unit": one.unit or "",
        "slice": _json(one.slice), "conditions": _json(one.conditions),
        "void": "yes" if any(caveat.voids for caveat in one.caveats) else "no",
        "caveats": "; ".join(caveat.message for caveat in one.caveats),
    }  # fmt: skip
    if one.interval is None:
        return row | {"exact": one.exact}
    interval = one.interval
    return row | {
        "low": interval.low, "high": interval.high, "level": interval.level,
        "method": interval.method,
    }  # fmt: skip


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if value else ""


def _cell(value: Any) -> str:
    """Numbers in full; text on one line, and never a formula."""
    if not isinstance(value, str):
        return repr(value)
    text = wording.one_line(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
