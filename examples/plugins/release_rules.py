"""A catalogue: what a house asks of every release, so that rules can say what they are evidence of.

catalogues = ["eu_ai_act", "release_rules.house"]   # in audit.toml
"""

from datetime import date

from dlaudit import Catalogue, Requirement

NAME = "Release rules of the house"
ITEMS = {
    "house:1": ("Rule 1", "Accuracy is told on data that nobody trained on", "T"),
    "house:2": ("Rule 2", "Somebody outside the team has read the report", "P"),
    "house:3": ("Rule 3", "The intended purpose is written down", "D"),
}


def house() -> Catalogue:
    """What the house asks of every release."""
    items = [
        Requirement(id=id_, framework=NAME, cite=cite, paraphrase=text, kind=(kind,))
        for id_, (cite, text, kind) in ITEMS.items()
    ]
    return Catalogue(framework=NAME, version="3", dated=date(2026, 11, 1), items=tuple(items))
