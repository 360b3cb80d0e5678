"""Rules and waivers as they are written in TOML, in a plan or in a file of rules alone.

Knows their words; whether a run of that name exists is asked by those who know the runs.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable
from datetime import date
from typing import Any

import msgspec

from dlaudit.audit.parameters import converted, shown
from dlaudit.audit.parts import Epsilon
from dlaudit.audit.record import Rule, Scalar, Waiver
from dlaudit.errors import nearest

RULE_KEYS = (
    "id", "run", "measurement", "at_least", "at_most", "slice", "conditions", "level",
    "requirements", "rationale",
)  # fmt: skip


def read_rules(written: list[Any], problems: list[str], *, origin: str) -> dict[int, Rule]:
    """The rules of a TOML list by their position; what is wrong is appended to ``problems``."""
    rules: dict[int, Rule] = {}
    for position, table in enumerate(written):
        place = f"rules[{position}]"
        if not isinstance(table, dict):
            problems.append(f"{place}: expected a table, got {shown(table)}")
            continue
        before = len(problems)
        problems += [
            f"{place}.{key}: no such key. {nearest(key, RULE_KEYS)}"
            for key in table
            if key not in RULE_KEYS
        ]
        problems += [
            f"{place}.{key}: is required" for key in ("run", "measurement") if key not in table
        ]
        conditions = table.get("conditions", {})
        if isinstance(conditions, dict) and isinstance(conditions.get("epsilon"), str):
            try:
                conditions = {**conditions, "epsilon": Epsilon(conditions["epsilon"]).values[0]}
            except ValueError as error:
                problems.append(f"{place}.conditions.epsilon: {error}")
        values = {**table, "conditions": conditions}
        kinds = typing.get_type_hints(Rule)
        for key, value in values.items():
            if key in RULE_KEYS:
                kind = dict[str, Scalar] if key == "conditions" else kinds[key]
                _, problem = converted(value, kind)
                if problem:
                    problems.append(f"{place}.{key}: {problem}")
        if ("at_least" in table) == ("at_most" in table):
            problems.append(f"{place}: expected exactly one of at_least and at_most")
        if len(problems) == before:
            rule, problem = converted({"id": "", "origin": origin, **values}, Rule)
            if problem:
                problems.append(f"{place}: {problem}")
            else:
                rules[position] = rule
    return rules


def read_waivers(written: Any, runs: Iterable[str], problems: list[str]) -> tuple[Waiver, ...]:
    """The waivers of a table keyed by run id; what is wrong is appended to ``problems``."""
    if not isinstance(written, dict):
        problems.append(f"waivers: expected a table, got {shown(written)}")
        return ()
    waivers = []
    for run, table in written.items():
        place = f'waivers."{run}"'
        if run not in runs:
            problems.append(f"{place}: no run is called so. {nearest(run, runs)}")
        if not isinstance(table, dict):
            problems.append(
                f"{place}: expected a table with owner, reason and until, got {shown(table)}"
            )
            continue
        kinds = {"owner": str, "reason": str, "until": date}
        wrong = [
            f"{place}.{key}: no such key. {nearest(key, kinds)}"
            for key in table
            if key not in kinds
        ]
        values: dict[str, Any] = {}
        for key, kind in kinds.items():
            if table.get(key) in {None, ""}:
                wrong.append(f"{place}.{key}: is required")
                continue
            values[key], problem = converted(table[key], kind)
            if problem:
                wrong.append(f"{place}.{key}: {problem}")
        problems += wrong
        if not wrong:
            waivers.append(Waiver(run=run, **values))
    return tuple(waivers)


def numbered(rules: Iterable[Rule]) -> list[Rule]:
    """Give each rule without an id one: ``<run>.<measurement>``, then ``-2``, ``-3``, …."""
    taken: set[str] = set()
    result = []
    for rule in rules:
        wanted = rule.id or f"{rule.run}.{rule.measurement}"
        name, count = wanted, 1
        while name in taken:
            count += 1
            name = f"{wanted}-{count}"
        taken.add(name)
        result.append(msgspec.structs.replace(rule, id=name))
    return result
