"""On what basis an audit looks at special categories of personal data; it refuses where none is said.

Knows names of attributes and what the plan declares; refuses to judge whether a declared basis holds:
that is for the people who declared it. Processing special categories to detect bias is bound to
conditions (AI Act, Article 10(5) of the 2024 text; moved to Article 4a by Regulation (EU) 2026/1744).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dlaudit.audit.record import Caveat
from dlaudit.errors import PlanError

KEY = "special_category_basis"
USUAL = (
    "race", "ethnicity", "race_ethnicity", "ethnic_group", "ethnic_origin", "racial_origin",
    "religion", "religious_belief", "political_opinion", "trade_union", "union_membership", "health",
    "disability", "sexual_orientation", "sex_life", "genetic", "biometric",
)  # fmt: skip
"""What attributes of special categories (GDPR, Article 9) are usually called.

They count as special unless the plan says which attributes are (``special_categories``).
"""


def special(attribute: str, declared: Sequence[str] | None) -> bool:
    """Whether an attribute is of a special category: as the plan says, else by its usual name."""
    if declared is not None:
        return attribute in declared
    return re.sub(r"[^a-z]+", "_", attribute.lower()).strip("_") in USUAL


def problems(
    declared: Sequence[str] | None, context: Mapping[str, Any], groups: Iterable[str]
) -> Iterator[str]:
    """Why attributes may not be looked at, in the words of a plan's list of errors.

    declared: attributes that the plan calls special, None to go by their names. groups: the attributes
    that are looked at.
    """
    said = context.get(KEY)
    if not _readable(said):
        yield (
            f"context.{KEY}: expected a text, or a table with a text per attribute, got {said!r}"
        )
        return
    refused = [name for name in groups if special(name, declared) and _basis(name, said) is None]
    if refused:
        yield (
            f"special_categories: {', '.join(refused)}: expected the plan's context to declare on what "
            f'basis special categories of personal data are used, got none. Write {KEY} = "…" or '
            f'{KEY} = {{ {refused[0]} = "…" }} under [context]: why no other data would do, who may '
            "see them, when they are deleted (AI Act, Article 10(5), from 2026 Article 4a). Where a "
            "column is only called like one: special_categories = []."
        )


def checked(
    declared: Sequence[str] | None, context: Mapping[str, Any], groups: Iterable[str]
) -> dict[str, Caveat]:
    """The declared basis of each attribute of a special category, as it stands beside its counts.

    Raises PlanError with all that ``problems`` says.
    """
    names = list(groups)
    if found := list(problems(declared, context, names)):
        raise PlanError(*found)
    return {
        name: Caveat(
            source="plan", name=KEY,
            message=f"{name}: declared basis, not examined: {_basis(name, context.get(KEY))}",
        )
        for name in names
        if special(name, declared)
    }  # fmt: skip


def _readable(said: Any) -> bool:
    """Whether a basis is a text, or a table of texts, or not declared at all."""
    texts = said.values() if isinstance(said, Mapping) else [said]
    return said is None or all(isinstance(text, str) for text in texts)


def _basis(attribute: str, declared: Any) -> str | None:
    """What is declared for an attribute: one text for all, or a table with a text each."""
    said = declared.get(attribute) if isinstance(declared, Mapping) else declared
    return str(said).strip() or None if said is not None else None
