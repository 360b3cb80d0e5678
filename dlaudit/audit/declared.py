"""What people state in a plan: who they are, what the system is for, and facts about requirements.

Knows who said what, when, and whether it still counts; never whether it is true.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, NamedTuple

import msgspec

from dlaudit.audit.record import Day, Requirement, Statement
from dlaudit.errors import nearest

ROLES = {
    "provider": "the provider",
    "deployer": "the deployer",
    "gpai_provider": "the provider of a general-purpose model",
}
"""Whom the AI Act addresses that an audit can speak for; other addressees are authorities."""
OTHERS = {
    "member_state": "the member states",
    "commission": "the Commission",
    "ai_office": "the AI Office",
}
DIGEST = re.compile(r"[0-9a-f]{64}")
DECLARER = ("declared_by", "declared_role", "declared_on")
"""Keys of the context that say who stands behind the others."""
FACT = {"value", "by", "role", "date", "document_sha256"}
"""Keys of a fact that names its own declarer; ``value`` makes it one."""


class Declaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody states a fact about a requirement. With a document's digest it is attested.

    until: the last day on which it counts. subject: the fingerprint of the model or data it was
    made about; of another one it says nothing. not_applicable: the statement is why the
    requirement does not apply.
    """

    requirement: str
    who: str
    role: str
    statement: str
    date: Day
    document_sha256: str = ""
    until: Day | None = None
    subject: str = ""
    not_applicable: bool = False

    def __post_init__(self) -> None:
        """Refuse a digest that is none. Raises ValueError."""
        if self.document_sha256 and not DIGEST.fullmatch(self.document_sha256):
            message = f"document_sha256 needs 64 hexadecimal digits, got {self.document_sha256!r}"
            raise ValueError(message)


class Scope(NamedTuple):
    """Whom and what the plan declares the audit to be about; empty where it declares nothing.

    points: of Annex III, such as ``5b``; None if not declared, () if declared to be none.
    annex_iii: True under Annex III, False under Annex I, None if neither is declared.
    """

    roles: tuple[str, ...] = ()
    points: tuple[str, ...] | None = None
    annex_iii: bool | None = None

    def leaves_out(self, item: Requirement) -> str:
        """Why an item is not asked of whom and what the plan declares, or nothing."""
        asked = {one for one in item.addressee.split(",") if one in ROLES or one in OTHERS}
        if self.roles and asked and not asked & set(self.roles):
            declared = " and ".join(ROLES[one] for one in self.roles)
            return f"It is asked of {people(item.addressee)}; the plan declares the role of {declared}."
        if self.points is not None and item.concerns and not self._concerned(item.concerns):
            declared = ", ".join(self.points) or "none"
            told = ", ".join(item.concerns)
            return f"It speaks of Annex III, {told}; the plan declares {declared}."
        return ""

    def _concerned(self, concerns: tuple[str, ...]) -> bool:
        return any(
            one.startswith(point) or point.startswith(one)
            for one in concerns
            for point in self.points or ()
        )


def people(addressee: str) -> str:
    """Who bears an item, in words: ``the provider or the deployer``; empty for nobody."""
    words = {**ROLES, **OTHERS, "anyone": "anyone"}
    return " or ".join(words.get(one, one) for one in addressee.split(",") if one not in {"", "-"})


def scope_of(context: Mapping[str, Any]) -> Scope:
    """What the context declares of roles and annexes; what is wrong in it is left out."""
    roles = tuple(one for one in listed(value_of(context.get("role"))) if one in ROLES)
    declared = value_of(context.get("annex_iii"))
    points = tuple(dict.fromkeys(point for one in listed(declared) if (point := point_of(one))))
    if declared is None or declared is True:
        return Scope(roles, None, route(context))
    return Scope(roles, points, route(context))


def route(context: Mapping[str, Any]) -> bool | None:
    """Whether the plan declares an Annex III class, an Annex I product, or neither."""
    if value_of(context.get("annex_iii")):
        return True
    return False if value_of(context.get("annex_i")) else None


def value_of(written: Any) -> Any:
    """A fact's value, whether it names its declarer or not."""
    return written["value"] if isinstance(written, dict) and "value" in written else written


def listed(value: Any) -> list[Any]:
    """One or several: as a list; nothing, true and false are none."""
    if value is None or isinstance(value, bool):
        return []
    return value if isinstance(value, list) else [value]


def point_of(written: Any) -> str:
    """A point of Annex III, ``5b``, from ``5b`` or ``5(b)``; empty if it is none."""
    plain = re.sub(r"[\s().]|point", "", str(written).lower())
    return plain if re.fullmatch(r"[1-8][a-e]?", plain) else ""


def problems(context: Mapping[str, Any]) -> list[str]:
    """What is wrong with the context's words that dlaudit itself reads."""
    wrong = [
        f"context.role: no role is called {one!r}. {nearest(str(one), ROLES)}"
        for one in listed(value_of(context.get("role")))
        if one not in ROLES
    ]
    wrong += [
        f'context.annex_iii: expected a point of Annex III such as "5b", got {one!r}'
        for one in listed(value_of(context.get("annex_iii")))
        if not point_of(one)
    ]
    for key, written in context.items():
        if not (isinstance(written, dict) and "value" in written):
            continue
        wrong += [
            f"context.{key}.{name}: no such key. {nearest(name, FACT)}"
            for name in written
            if name not in FACT
        ]
        sha256 = written.get("document_sha256", "")
        if sha256 and not DIGEST.fullmatch(str(sha256)):
            wrong.append(
                f"context.{key}.document_sha256: expected 64 hexadecimal digits, got {sha256!r}"
            )
        if day(written.get("date")) is None and "date" in written:
            wrong.append(f"context.{key}.date: expected a date, got {written['date']!r}")
    if "declared_on" in context and day(context["declared_on"]) is None:
        wrong.append(f"context.declared_on: expected a date, got {context['declared_on']!r}")
    return wrong


def day(written: Any) -> date | None:
    """A date as a plan holds it, None if it is none."""
    try:
        return date.fromisoformat(str(written))
    except ValueError:
        return None


def statements(
    context: Mapping[str, Any],
    declarations: Iterable[Declaration],
    *,
    today: date,
    subjects: frozenset[str],
) -> tuple[Statement, ...]:
    """Everything that the plan states, each with who stands behind it and whether it still counts.

    subjects: the fingerprints of what is audited.
    """
    facts = [_fact(key, context) for key in context if key not in DECLARER]
    return (*facts, *(_statement(one, today, subjects) for one in declarations))


def _fact(key: str, context: Mapping[str, Any]) -> Statement:
    written = context[key]
    own = written if isinstance(written, dict) and "value" in written else {}
    value = value_of(written)
    return Statement(
        what=f"context.{key}",
        statement=value if isinstance(value, str) else msgspec.json.encode(value).decode(),
        who=str(own.get("by", context.get("declared_by", ""))),
        role=str(own.get("role", context.get("declared_role", ""))),
        date=day(own.get("date", context.get("declared_on"))),
        document_sha256=str(own.get("document_sha256", "")),
    )


def _statement(one: Declaration, today: date, subjects: frozenset[str]) -> Statement:
    stale = ""
    if one.until is not None and one.until < today:
        stale = f"it counted until {one.until}"
    elif one.subject and one.subject not in subjects:
        stale = f"it was made about {one.subject[:12]}, which is not what was audited"
    return Statement(
        what=one.requirement, statement=one.statement, who=one.who, role=one.role, date=one.date,
        document_sha256=one.document_sha256, not_applicable=one.not_applicable, stale=stale,
    )  # fmt: skip
