"""Write the catalogues that ship with dlaudit, from what stands in docs/sources.

``eu_ai_act_given.json`` is the catalogue as it was given; ``eu_ai_act.toml`` holds what it lacks and
what is corrected. The other catalogues are each one TOML file. Every item says how its text was
read; every file carries its date and the digest of everything in it.

    python docs/make_catalogues.py
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from dlaudit.audit.record import Requirement
from dlaudit.catalogues.load import filled

SOURCES = Path(__file__).parent / "sources"
SHIPPED = Path(__file__).parents[1] / "dlaudit" / "catalogues"
NAMES = ("eu_ai_act", "nist_ai_rmf", "nist_ai_100_2", "iso_iec")
FACTS = {
    "aia:anx-iii-": "annex_iii",
    "aia:art13-3-b-i": "intended_purpose",
    "aia:art13-3-a": "provider",
}
"""Beginnings of ids -> the key of the plan's context that states the item."""


def main() -> None:
    """Write every catalogue into the package."""
    for name in NAMES:
        (SHIPPED / f"{name}.json").write_text(text_of(name), encoding="utf-8")


def text_of(name: str) -> str:
    """The catalogue's file, sealed."""
    written = source(name)
    like = written.pop("like", None)
    if like:
        written["feeds"] = source(like)["feeds"]
    corrections = written.pop("corrections", [])
    given = SOURCES / f"{name}_given.json"
    items = written["items"]
    if given.exists():
        items = joined([of_given(one) for one in json.loads(given.read_text())["items"]], items)
        for one in items:
            settle(one)
    for correction in corrections:
        correct(items, correction)
    written["items"] = items
    written["dated"] = str(written["dated"])
    catalogue = filled(written)
    plain = {**msgspec.to_builtins(catalogue), "items": [short(one) for one in catalogue.items]}
    return json.dumps({**plain, "sha256": catalogue.sha256}, indent=1, ensure_ascii=True) + "\n"


def source(name: str) -> dict[str, Any]:
    """One TOML file of the sources."""
    return tomllib.loads((SOURCES / f"{name}.toml").read_text(encoding="utf-8"))


def of_given(one: dict[str, Any]) -> dict[str, Any]:
    """An item of the given catalogue, its kinds as a list."""
    return {**one, "kind": one["kind"].split(","), "addressee": one["addressee"].strip("-")}


def settle(one: dict[str, Any]) -> None:
    """Give an item its confidence, the point of Annex III that it is, and the fact that states it."""
    if one.get("applies_from"):
        one.setdefault("confidence", "settled")
    if one["id"].startswith("aia:anx-iii-"):
        one["concerns"] = [one["id"].removeprefix("aia:anx-iii-").replace("-", "")]
    for beginning, fact in FACTS.items():
        if one["id"] == beginning or (beginning.endswith("-") and one["id"].startswith(beginning)):
            one["fact"] = fact


def joined(items: list[dict[str, Any]], more: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items with those that were missing, each after the one it names. Raises ValueError."""
    for one in more:
        place = [item["id"] for item in items].index(one["after"])
        items.insert(place + 1, {key: value for key, value in one.items() if key != "after"})
    return items


def correct(items: list[dict[str, Any]], correction: dict[str, Any]) -> None:
    """Overwrite fields of all items whose id begins like this. Raises ValueError for no item."""
    changed = {key: value for key, value in correction.items() if key != "ids"}
    for beginning in correction["ids"]:
        found = [
            one for one in items
            if one["id"] == beginning or (beginning.endswith("-") and one["id"].startswith(beginning))
        ]  # fmt: skip
        if not found:
            message = f"no item is called {beginning}"
            raise ValueError(message)
        for one in found:
            one.update(changed)


def short(item: Requirement) -> dict[str, Any]:
    """An item without its framework and without what is empty."""
    plain = msgspec.to_builtins(item)
    always = {"id", "cite", "paraphrase", "kind", "suites", "addressee", "source", "applies_from"}
    return {
        key: plain[key] for key in plain if key != "framework" and (key in always or plain[key])
    }


if __name__ == "__main__":
    main()
