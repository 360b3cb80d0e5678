"""Requirements as data: reads the catalogues that ship beside this file.

Knows frameworks and their items; never how anything is measured. The texts are paraphrases, not law.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Literal, cast

import msgspec

from dlaudit.audit.record import Requirement

Kind = Literal["T", "D", "P"]


class Item(msgspec.Struct, frozen=True):
    """An item as the catalogue file writes it."""

    id: str
    cite: str
    paraphrase: str
    kind: str
    suites: tuple[str, ...]
    addressee: str
    source: str
    applies_from: str


class Catalogue(msgspec.Struct, frozen=True):
    """A framework, the consolidated text it was read from, and its items."""

    law: str
    consolidated: str
    note: str
    items: tuple[Item, ...]


def eu_ai_act() -> tuple[Requirement, ...]:
    """The items of Regulation (EU) 2024/1689 (AI Act) as amended, paraphrased."""
    raw = (files("dlaudit.catalogues") / "eu_ai_act.json").read_bytes()
    catalogue = msgspec.json.decode(raw, type=Catalogue)
    return tuple(
        Requirement(
            id=item.id,
            framework=catalogue.law,
            cite=item.cite,
            paraphrase=item.paraphrase,
            kind=tuple(cast("list[Kind]", item.kind.split(","))),
            applies_from=item.applies_from,
            addressee=item.addressee,
            suites=item.suites,
        )
        for item in catalogue.items
    )
