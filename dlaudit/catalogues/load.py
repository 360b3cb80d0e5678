"""Requirements as data: reads the catalogues that ship beside this file.

Knows frameworks and their items; never how anything is measured. The texts are paraphrases, not law.
"""

from __future__ import annotations

from importlib.resources import files

import msgspec

from dlaudit.audit.record import Requirement


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
            kind=tuple(item.kind.split(",")),  # type: ignore[arg-type]  (the decoder of records checks it)
            applies_from=item.applies_from,
            addressee=item.addressee,
            suites=item.suites,
        )
        for item in catalogue.items
    )
