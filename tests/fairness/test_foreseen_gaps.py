"""Before anything runs, the plan says how small a gap the groups' sizes can show."""

import numpy as np
import pytest
from commandline import dlaudit_command
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_effectsize

from dlaudit.fairness import gaps
from dlaudit.fairness.disparity import Disparity
from dlaudit.fairness.groups import Groups
from dlaudit.fairness.rates import Proportion, detectable
from dlaudit.fairness.scores import Scoring

FACTS = {"groups": {"race": {"a": 400, "b": 100, "tiny": 5, "unknown": 900}, "one": {"x": 9}}}


def test_the_gap_of_a_case_computed_by_hand_and_by_statsmodels():
    by_hand = (1.959964 + 0.841621) * (0.25 * (1 / 100 + 1 / 400)) ** 0.5
    # Differences of rates of 100 and of 400 come in steps of 1 / 400; half of one is the correction.
    assert detectable(100, 400) == pytest.approx(by_hand + 0.5 / 400, rel=1e-5)
    effect = NormalIndPower().solve_power(nobs1=100, ratio=4, alpha=0.05, power=0.8)
    reached = proportion_effectsize(0.5 + by_hand / 2, 0.5 - by_hand / 2)
    assert effect == pytest.approx(reached, rel=0.02)


@given(n=st.integers(30, 10**6), m=st.integers(30, 10**6))
def test_more_samples_show_smaller_gaps(n, m):
    assert detectable(n, m) == pytest.approx(detectable(m, n))
    assert detectable(2 * n, m) < detectable(n, m)


def test_four_audits_of_five_see_it():
    rng = np.random.default_rng(1)
    for n, m in ((100, 400), (300, 300)):
        gap = detectable(n, m)
        drawn = zip(
            rng.binomial(n, 0.5 + gap / 2, 1500), rng.binomial(m, 0.5 - gap / 2, 1500), strict=True
        )
        seen = np.mean([
            gaps.difference(Proportion(int(x), n), Proportion(int(y), m)).interval.low > 0
            for x, y in drawn
        ])  # fmt: skip
        print(f"n = {n} and {m}: a gap of {gap:.3f} is seen in {seen:.3f} of audits")
        assert seen == pytest.approx(0.8, abs=0.04)


def test_every_group_is_told_against_its_reference():
    (line,) = Disparity().foreseen(FACTS)
    assert line.startswith("race: smallest gap from a (n = 400) seen in 80% of audits")
    assert "b 0.158 (n = 100)" in line
    assert "tiny none, fewer than the minimum of 30 (n = 5)" in line
    (line,) = Disparity(reference={"race": "b"}).foreseen(FACTS)
    assert "from b (n = 100)" in line
    assert Disparity(reference={"race": "typo"}).foreseen(FACTS) == ()
    assert Disparity(attributes=["one"]).foreseen(FACTS) == ()
    assert Disparity().foreseen({}) == ()
    assert Groups().foreseen(FACTS) == Scoring().foreseen(FACTS) == ()


def test_the_plan_command_prints_it(tmp_path):
    rows = ["y,said,sex"] + [
        f"{i % 2},{(i // 2) % 2},{'f' if i < 100 else 'm'}" for i in range(300)
    ]
    (tmp_path / "d.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "audit.toml").write_text("""
name = "small"
suites = ["fairness"]
[model]
use = "predictions"
args = { column = "said", positive = 1 }
[data]
use = "csv"
args = { path = "d.csv", target = "y", positive = 1, groups = ["sex"] }
""")
    answer = dlaudit_command("plan", "audit.toml", folder=tmp_path)
    assert answer.code == 0
    assert "sex: smallest gap from m (n = 200)" in answer.stdout
    assert "f 0.174 (n = 100)" in answer.stdout
