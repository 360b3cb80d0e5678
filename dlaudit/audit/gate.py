"""Judges a stored run again, without the model: other rules, the same measurements."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dlaudit.audit.catalogues import problem
from dlaudit.audit.engine import judged
from dlaudit.audit.parameters import shown
from dlaudit.audit.plan import source_of
from dlaudit.audit.plan_rules import numbered, read_rules, read_waivers
from dlaudit.audit.record import AuditRecord
from dlaudit.audit.run_folder import stored
from dlaudit.errors import PlanError, nearest


def gate(run: Path, rules: Path | None = None) -> AuditRecord:
    """The run's record judged today, by its own rules or by those of a file.

    rules: TOML with ``[[rules]]`` and, if wanted, ``[waivers]``; replaces the plan's. Raises
    PlanError for an unreadable run or rules that are wrong.
    """
    record = stored(run)
    if rules is None:
        return judged(record)
    source = source_of(rules)
    problems = [
        f"{key}: no such key. {nearest(key, ('rules', 'waivers'))}"
        for key in source.table
        if key not in {"rules", "waivers"}
    ]
    written = source.table.get("rules", [])
    if not isinstance(written, list):
        problems.append(f"rules: expected [[rules]] tables, got {shown(written)}")
        written = []
    read = read_rules(written, problems, origin=rules.name)
    runs = [one.id for one in record.runs]
    known = {one.id: one for one in record.requirements}
    problems += [
        f"rules[{position}].run: no run is called {rule.run!r}. {nearest(rule.run, runs)}"
        for position, rule in read.items()
        if rule.run not in runs
    ]
    problems += [
        f"rules[{position}].requirements: {wrong}"
        for position, rule in read.items()
        for item in rule.requirements
        if (wrong := problem(item, known))
    ]
    waivers = read_waivers(source.table.get("waivers", {}), runs, problems)
    if problems:
        error = PlanError(*problems)
        error.label = rules.name
        raise error
    return judged(
        msgspec.structs.replace(record, rules=tuple(numbered(read.values())), waivers=waivers)
    )
