"""The suite binds rules to what is measured, names its requirements, and claims too much nowhere."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dlaudit.audit.record import Measurement, Undefined
from dlaudit.catalogues import load
from dlaudit.fairness import disparity, gaps, groups, rates
from dlaudit.fairness.amplification import Amplification
from dlaudit.fairness.disparity import Disparity
from dlaudit.fairness.groups import Groups
from dlaudit.fairness.local_law_144 import LocalLaw144
from dlaudit.fairness.proxies import Proxies
from dlaudit.fairness.scores import Scoring
from dlaudit.fairness.slices import Slices
from dlaudit.fairness.suite import AMPLIFICATION, RUN, SUITE
from dlaudit.fairness.what_if import WhatIf

MODULES = (
    "amplification", "disparity", "groups", "local_law_144", "proxies", "scores", "slices", "what_if",
)  # fmt: skip
CLAIMS = re.compile(
    r"\b(un)?fair\b|\bunbiased\b|\bnon-?discriminatory\b|\b(un)?lawful\b", re.IGNORECASE
)


def test_every_default_rule_judges_something_that_its_run_measures():
    assert {rule.run for rule in SUITE.rules} <= set(SUITE.runs)
    for rule in SUITE.rules:
        measured = {RUN: Disparity.measures, AMPLIFICATION: Amplification.measures}
        assert rule.measurement in measured[rule.run]
        assert rule.origin == "suite:fairness"
    assert len({rule.id for rule in SUITE.rules}) == len(SUITE.rules)


def test_every_default_rule_says_why_and_that_it_is_contested():
    for rule in SUITE.rules:
        assert "contested" in rule.rationale
        assert "replaced" in rule.rationale


def test_every_requirement_is_in_the_catalogue():
    known = {item.id for item in load.eu_ai_act()}
    assert {name for rule in SUITE.rules for name in rule.requirements} <= known


def test_no_output_calls_a_system_what_no_test_can_show(bench_of, rows_of):
    rows = {
        "a": (90, 400, 30, 500),
        "b": (600, 20, 90, 60),
        "c": (1, 1, 1, 1),
        "unknown": (40,) * 4,
    }
    y, predicted, group = rows_of(rows)
    checks = (
        Groups(), Disparity(), Disparity(reference="best"), Amplification(feedback=True), Scoring(),
        Slices(), Proxies(), LocalLaw144(), WhatIf(), Disparity(cluster="id", intersections=True),
    )  # fmt: skip
    texts = [SUITE.title, SUITE.sentence, *(rule.rationale for rule in SUITE.rules)]
    texts += [module.__doc__ for module in (disparity, gaps, groups, rates)]
    texts += [check.__doc__ for check in checks]
    pages = Path(__file__).parents[2] / "docs" / "fairness.md"
    texts.append(pages.read_text())
    data = {"score": predicted * 0.7, "columns": {"id": np.arange(len(y)).astype(str)}}
    for check in checks:
        for one in check.measure(bench_of(y, predicted, {"sex": group}, **data)):
            match one:
                case Measurement():
                    texts += [one.name, one.exact or "", *(doubt.message for doubt in one.caveats)]
                case Undefined():
                    texts += [one.name, one.reason]
                case _:
                    texts += [one.name, one.caption, one.alt]
    assert len(texts) > 100
    assert [text for text in texts if CLAIMS.search(text)] == []


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import dlaudit.fairness.suite", "torch numpy fairlearn sklearn pandas scipy"),
        (
            f"from dlaudit.fairness import {', '.join(MODULES)}",
            "torch numpy fairlearn sklearn pandas scipy",
        ),
        (
            "import dlaudit.fairness.via_fairlearn as v, dlaudit.fairness.gaps; v._metrics(1)",
            "torch",
        ),
    ],
)
def test_listing_the_suite_loads_nothing_heavy_and_measuring_loads_no_torch(code, forbidden):
    check = f"{code}; import sys; print([n for n in {forbidden.split()!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
