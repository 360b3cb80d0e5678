"""The public edition of a record: what may be shown to everybody.

Knows which parts of a record speak of single rows or of groups of people, and refuses to show them; never
what they mean. Names of attributes and groups are replaced everywhere alike, so that links between
rules, runs and measurements hold. Verdicts stay: nothing is made to look better by leaving out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from dlaudit.audit.record import AuditRecord, Errored, Measured, Undefined
from dlaudit.reports.wording import counted

Edition = Literal["auditor", "public"]
EDITIONS: tuple[Edition, ...] = ("auditor", "public")

OPEN = frozenset({"class"})
"""Slices over these are shown: the classes that the model tells apart."""
NAMING = re.compile(
    r"group|attribut|sensitive|protected|feature|column|bins|immutable|special", re.IGNORECASE
)
"""Arguments and facts under such names tell attributes of people."""
FACTS = ("n", "kind", "classes", "parameters", "airlock", "shape", "task")
WITHHELD = "withheld in the public edition"


def published(record: AuditRecord) -> tuple[AuditRecord, int]:
    """The record without rows, pictures and groups of people; and how many measurements that took."""
    masked = _Mask(names_in(record))
    runs, withheld = [], 0
    for run in record.runs:
        outcome = run.outcome
        match outcome:
            case Measured(measurements=measurements, undefined=undefined):
                kept = tuple(one for one in measurements if shown(one))
                withheld += len(measurements) - len(kept)
                outcome = Measured(
                    measurements=kept, undefined=tuple(_anonymous(one) for one in undefined)
                )
            case Errored():
                outcome = Errored(error=outcome.error, message=WITHHELD)
        params = {key: value for key, value in run.params.items() if not NAMING.search(key)}
        runs.append(msgspec.structs.replace(run, outcome=outcome, params=params))
    verdicts = []
    for verdict in record.verdicts:
        observed = tuple(one for one in verdict.observed if shown(one))
        reason = verdict.reason
        if len(observed) < len(verdict.observed):
            told = counted(len(verdict.observed) - len(observed), "number")
            reason = f"judged on {told} about groups of people, {WITHHELD}"
        verdicts.append(msgspec.structs.replace(verdict, observed=observed, reason=reason))
    bare = msgspec.structs.replace(
        record,
        runs=tuple(runs),
        verdicts=tuple(verdicts),
        rules=tuple(
            one if shown(one) else msgspec.structs.replace(one, slice={"group": WITHHELD})
            for one in record.rules
        ),
        answers=(),
        plan=_plan(record.plan),
        model=_card(record.model),
        data=_card(record.data),
        models={role: _card(card) for role, card in record.models.items()},
    )
    plain = masked.tree(msgspec.to_builtins(bare))
    plain["plan_sha256"] = record.plan_sha256
    return msgspec.convert(plain, AuditRecord), withheld


def shown(one: Any) -> bool:
    """Whether a number or a rule speaks of everybody or of the model's classes, not of groups."""
    return not set(one.slice) - OPEN


def names_in(record: AuditRecord) -> list[str]:
    """Every name of an attribute and of a group of people that the record tells, in its order."""
    found: dict[str, None] = {}
    for one in _sliced(record):
        for key, value in one.slice.items():
            if key not in OPEN:
                found |= dict.fromkeys((key, value))
    told: list[Any] = [record.data.facts, record.plan.get("data"), record.plan.get("runs")]
    told += [card.facts for card in record.data.splits.values()] + [
        run.params for run in record.runs
    ]
    for tree in told:
        found |= dict.fromkeys(_naming(tree))
    found = {name: None for name in found if name not in {"class", "group"}}
    return [name for name in found if not re.fullmatch(r"[\d.,\s+-]*", name) and len(name) > 1]


def _sliced(record: AuditRecord) -> Iterator[Any]:
    yield from record.rules
    for run in record.runs:
        if isinstance(run.outcome, Measured):
            yield from run.outcome.measurements
            yield from run.outcome.undefined
    for verdict in record.verdicts:
        yield from verdict.observed


def _naming(tree: Any, *, inside: bool = False) -> Iterator[str]:
    """Every text below a key that names attributes."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if inside:
                yield str(key)
            yield from _naming(value, inside=inside or bool(NAMING.search(str(key))))
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _naming(value, inside=inside)
    elif inside and isinstance(tree, str):
        yield tree


def _anonymous(one: Undefined) -> Undefined:
    if shown(one):
        return one
    return Undefined(name=one.name, reason=WITHHELD, slice={"group": WITHHELD})


def _card(card: Any) -> Any:
    facts = {key: value for key, value in card.facts.items() if key in FACTS}
    splits = {name: _card(one) for name, one in card.splits.items()}
    return msgspec.structs.replace(card, facts=facts, splits=splits)


def _plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What the plan says that names no file, no column and no row."""
    kept = ("name", "seed", "suites", "context", "declarations", "catalogues")
    return {key: plan[key] for key in kept if key in plan}


class _Mask:
    """Replaces names in every text of a tree, the same name always by the same word."""

    def __init__(self, names: Iterable[str]) -> None:
        found = list(dict.fromkeys(names))
        self._words = {name.lower(): f"name-{k}" for k, name in enumerate(found, 1)}
        # The longest first, so that a name inside another one leaves no remains.
        ordered = sorted(self._words, key=len, reverse=True)
        self._found = re.compile(
            "|".join(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])" for name in ordered) or r"(?!)",
            re.IGNORECASE,
        )

    def text(self, text: str) -> str:
        """The text with every name replaced."""
        return self._found.sub(lambda match: self._words[match.group().lower()], text)

    def tree(self, tree: Any) -> Any:
        """The same in every text, also in the keys of conditions, but not in the names of fields."""
        if isinstance(tree, str):
            return self.text(tree)
        if isinstance(tree, list | tuple):
            return [self.tree(one) for one in tree]
        if isinstance(tree, dict):
            return {key: self._field(key, value) for key, value in tree.items()}
        return tree

    def _field(self, key: str, value: Any) -> Any:
        if key in {"status", "applicable", "kind", "schema", "until", "unit", "direction"}:
            return value
        if key in {"params", "conditions", "slice", "facts", "context"} and isinstance(value, dict):
            return {self.text(inner): self.tree(one) for inner, one in value.items()}
        return self.tree(value)
