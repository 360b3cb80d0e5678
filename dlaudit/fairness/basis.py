"""On what basis an audit looks at special categories of personal data; it refuses where none is said.

Knows names of attributes and what the plan declares; refuses to judge whether a declared basis holds:
that is for the people who declared it. Processing special categories to detect bias is bound to
conditions (AI Act, Article 10(5) of the 2024 text; moved to Article 4a by Regulation (EU) 2026/1744).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dlaudit.audit.record import Caveat
from dlaudit.errors import PlanError, UnknownName

KEY = "special_category_basis"
USUAL = (
    "race", "ethnicity", "race_ethnicity", "religion", "political_opinion", "trade_union",
    "health", "disability", "sexual_orientation", "sex_life", "genetic", "biometric",
)  # fmt: skip
"""Names that attributes of special categories often have: they raise a doubt, never a refusal."""


def checked(
    declared: Iterable[str], context: Mapping[str, Any], groups: Iterable[str]
) -> dict[str, Caveat]:
    """The remark that stands beside the counts of each attribute of a special category.

    declared: attributes that the plan calls special. Raises PlanError if one of them has no basis,
    UnknownName if one does not exist. An attribute that is only called like one gets a doubt.
    """
    special, names = list(declared), list(groups)
    for attribute in special:
        if attribute not in names:
            raise UnknownName(attribute, "group attribute", names)
    basis = {name: _basis(name, context.get(KEY)) for name in names}
    refused = [name for name in special if basis[name] is None]
    if refused:
        message = (
            f"special_categories: {', '.join(refused)}: expected the plan's context to declare on what "
            f'basis special categories of personal data are used, got none. Write {KEY} = "…" or '
            f'{KEY} = {{ {refused[0]} = "…" }} under [context]: why no other data would do, who may '
            "see them, when they are deleted (AI Act, Article 10(5), from 2026 Article 4a)."
        )
        raise PlanError(message)
    remarks = {}
    for name in names:
        is_special = name in special or name.lower() in USUAL
        if is_special and (said := basis[name]) is not None:
            remarks[name] = Caveat(
                source="plan", name=KEY, message=f"{name}: declared basis, not examined: {said}"
            )
        elif is_special:
            message = (
                f"{name} is called like a special category of personal data (GDPR, Article 9), and the "
                f"plan declares no basis for using it: see context.{KEY}"
            )
            remarks[name] = Caveat(source="plan", name=f"no-{KEY}", message=message)
    return remarks


def _basis(attribute: str, declared: Any) -> str | None:
    """What is declared for an attribute: one text for all, or a table with a text each."""
    said = declared.get(attribute) if isinstance(declared, Mapping) else declared
    if said is None or (isinstance(said, str) and not said.strip()):
        return None
    if not isinstance(said, str):
        message = (
            f"context.{KEY}: expected a text, or a table with a text per attribute, got {said!r}"
        )
        raise PlanError(message)
    return said.strip()
