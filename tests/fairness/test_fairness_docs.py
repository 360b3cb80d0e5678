"""The page on groups tells what the code does: its power table is computed, its checks exist."""

import importlib.util
import re
from itertools import product
from math import comb
from pathlib import Path

import pytest
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_effectsize

from dlaudit.audit.registry import Registry
from dlaudit.fairness import gaps
from dlaudit.fairness.rates import Proportion

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("power", ROOT / "benchmarks/fairness_power.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs" / "fairness.md").read_text()


def test_the_power_table_is_computed(script, page):
    for n in script.SIZES[:5]:
        shown = re.search(rf"^\| {n} \| (.*) \|$", page, re.MULTILINE)[1].split(" | ")
        assert shown == [f"{100 * one:.1f} %" for one in script.row(n)]


def test_the_power_is_that_of_the_interval_used_and_of_an_independent_formula(script):
    chance = [
        [comb(3, x) * p**x * (1 - p) ** (3 - x) for x in range(4)] for p in (0.7, 0.2)
    ]  # fmt: skip
    by_hand = 0.0
    for x, y in product(range(4), repeat=2):
        found = gaps.difference(Proportion(x, 3), Proportion(y, 3)).interval
        by_hand += chance[0][x] * chance[1][y] * (found.low > 0 or found.high < 0)
    assert script.power(3, 3, 0.7, 0.2) == pytest.approx(by_hand)
    effect = proportion_effectsize(0.55, 0.45)
    reference = NormalIndPower().power(effect, nobs1=300, alpha=0.05)
    assert script.power(300, 300, 0.55, 0.45) == pytest.approx(reference, abs=0.02)


def test_every_check_of_the_suite_is_on_the_page(page):
    names = [part.name for part in Registry().parts("checks") if part.name.startswith("fairness.")]
    assert len(names) >= 8
    for name in names:
        assert f"| `{name}` |" in page
