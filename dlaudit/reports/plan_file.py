"""Writes the resolved plan of a record back as an ``audit.toml`` that runs the same again.

Knows TOML and the plan's keys; never what they mean. Every run and every rule is written out, so
that the file does not depend on what a suite holds in some later version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_RULE_KEYS = (
    "id", "run", "measurement", "at_least", "at_most", "slice", "conditions", "level",
    "requirements", "rationale",
)  # fmt: skip
_SCALARS = ("keep_samples", "block", "max_samples", "train_budget")


def plan_toml(plan: Mapping[str, Any]) -> str:
    """The plan as TOML: same runs, parameters, seed, rules, waivers and declared facts."""
    lines = [f"name = {_value(plan.get('name', 'audit'))}", f"seed = {_value(plan.get('seed', 0))}"]
    lines.append("default_rules = false  # every rule stands below")
    lines += [f"{key} = {_value(plan[key])}" for key in _SCALARS if plan.get(key) is not None]
    if plan.get("catalogues"):
        lines.append(f"catalogues = {_value(plan['catalogues'])}")
    lines += _table("model", plan.get("model") or {})
    for name, loader in (plan.get("models") or {}).items():
        lines += _table(f"models.{_key(name)}", loader)
    for split, loader in (plan.get("data") or {}).items():
        lines += _table("data" if split == "test" else f"data.{_key(split)}", loader)
    if plan.get("train"):
        lines += _table("train", plan["train"])
    for run in plan.get("runs") or ():
        lines += _table(f"checks.{_key(run['id'])}", {"use": run["check"], **run.get("params", {})})
    for rule in plan.get("rules") or ():
        wanted = {
            key: rule[key] for key in _RULE_KEYS if rule.get(key) not in (None, {}, [], (), "")
        }
        lines += _table("rules", wanted, array=True)
    if plan.get("context"):
        lines += _table("context", plan["context"])
    for declaration in plan.get("declarations") or ():
        lines += _table("declarations", declaration, array=True)
    for waiver in plan.get("waivers") or ():
        kept = {key: value for key, value in waiver.items() if key not in {"run", "expired"}}
        lines += _table(f"waivers.{_key(waiver['run'])}", kept)
    return "\n".join(lines) + "\n"


def _table(name: str, values: Mapping[str, Any], *, array: bool = False) -> Iterable[str]:
    yield ""
    yield f"[[{name}]]" if array else f"[{name}]"
    for key, value in values.items():
        if value is not None:
            yield f"{_key(key)} = {_value(value, day=key in {'until', 'date'})}"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but TOML also refuses a bare DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any, *, day: bool = False) -> str:
    if isinstance(value, str):
        return value if day and _DAY.fullmatch(value) else _string(value)
    if isinstance(value, Mapping):
        inside = ", ".join(
            f"{_key(str(key))} = {_value(one)}" for key, one in value.items() if one is not None
        )
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    return json.dumps(value)
