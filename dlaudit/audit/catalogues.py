"""Opens catalogues by name and says what is wrong with them or old about them.

Knows names, ids and dates of catalogues; never what an item asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

import msgspec

from dlaudit.audit.record import Catalogue, CatalogueCard, Requirement
from dlaudit.audit.registry import ImportFailed, Registry
from dlaudit.errors import nearest

FRESH = 90
"""Days after which a catalogue of law should be looked at again before it is relied on."""


def opened(name: str, registry: Registry) -> Catalogue:
    """The catalogue called so. Raises UnknownName, or ImportFailed if it cannot be had."""
    part = registry.find("catalogues", name)
    make = part.get()
    try:
        made = make()
    except Exception as error:  # a guest's function may raise anything
        message = f"{name} ({part.origin}) cannot be read: {type(error).__name__}: {error}"
        raise ImportFailed(message) from error
    if not isinstance(made, Catalogue):
        message = f"{name} ({part.origin}) returned a {type(made).__name__}, expected a Catalogue"
        raise ImportFailed(message)
    return made


def problem(item: str, known: Mapping[str, Requirement]) -> str:
    """Why a rule or declaration cannot name this requirement, or nothing."""
    if item not in known:
        hint = nearest(item, known)  # the nearest out of many, or none: a list of 280 helps nobody
        hint = (
            hint
            if hint.startswith("Did you")
            else "`dlaudit list catalogues` names the catalogues."
        )
        return f"no requirement is called {item!r}. {hint}"
    if successor := known[item].replaced_by:
        return f"{known[item].cite} was deleted. Its place was taken by {successor}."
    return ""


def doubled(catalogues: Iterable[Catalogue]) -> list[str]:
    """Ids that two items share, within one catalogue or between two."""
    seen: set[str] = set()
    twice = []
    for item in (one for catalogue in catalogues for one in catalogue):
        if item.id in seen:
            twice.append(item.id)
        seen.add(item.id)
    return twice


def aged(card: CatalogueCard, today: date) -> CatalogueCard:
    """The card with a warning if the catalogue is older than ``FRESH`` days."""
    days = (today - card.dated).days
    warning = (
        f"{card.framework}: the catalogue is of {card.dated}, {days} days before this was judged; "
        f"what it says may have changed since. It should be looked at every {FRESH} days."
        if days > FRESH
        else ""
    )
    return msgspec.structs.replace(card, warning=warning)
