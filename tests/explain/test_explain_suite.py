"""The suite: rules that speak of what is measured, words that claim no more."""

import json
from pathlib import Path

from dlaudit.explain.attribution import Attribution
from dlaudit.explain.self_test import Controls
from dlaudit.explain.shortcut import Shortcut
from dlaudit.explain.suite import SUITE
from dlaudit.reports.wording import overclaims

CHECKS = {
    "explain.attribution": Attribution,
    "explain.controls": Controls,
    "explain.shortcut": Shortcut,
}
CATALOGUE = Path(__file__).parents[2] / "dlaudit" / "catalogues" / "eu_ai_act.json"


def test_every_default_rule_speaks_of_something_measured_and_gives_its_reason():
    assert set(SUITE.runs) == set(CHECKS)
    for rule in SUITE.rules:
        assert rule.measurement in CHECKS[rule.run].measures
        assert len(rule.rationale) > 40
        assert rule.origin == "suite:explain"


def test_requirements_stand_in_the_catalogue():
    known = {item["id"] for item in json.loads(CATALOGUE.read_text(encoding="utf-8"))["items"]}
    assert {name for rule in SUITE.rules for name in rule.requirements} <= known


def test_no_word_says_that_a_map_is_the_reason():
    for text in (SUITE.sentence, SUITE.title, *(rule.rationale for rule in SUITE.rules)):
        assert overclaims(text) == []
    assert "not why" in SUITE.sentence


def test_the_methods_of_a_plan_are_those_of_the_entry_points():
    from dlaudit.audit.registry import Registry
    from dlaudit.explain.methods import SHIPPED

    parts = {
        part.name: part.get() for part in Registry().parts("explainers") if "." not in part.name
    }
    assert parts == dict(SHIPPED)
