"""The tables of Local Law 144: rates, impact ratios, small categories and unknown ones."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.audit.record import Undefined
from dlaudit.audit.statistics import wilson
from dlaudit.errors import PlanError
from dlaudit.fairness.local_law_144 import LocalLaw144


def applicants(counts):
    """{category: (selected, applicants)} -> decisions and categories, one entry per applicant."""
    decided = [[1] * s + [0] * (n - s) for s, n in counts.values()]
    group = [[name] * n for name, (_, n) in counts.items()]
    return np.concatenate(decided), np.concatenate(group)


@pytest.mark.truth
def test_the_ratios_of_the_rule_text(truths, bench_of, told):
    counts = pd.read_csv(truths / "ll144" / "constructed_counts.csv")
    for table, rows in counts.groupby("table"):
        of = {row.category: (row.selected, row.applicants) for row in rows.itertuples()}
        decided, group = applicants(of)
        found = told(LocalLaw144(race=table), bench_of(decided, decided, {table: group}))
        for row in rows.itertuples():
            one = found["selection_impact_ratio", row.category]
            assert round(one.value, 2) == row.expected_impact_ratio
            rate = found["selection_rate", row.category]
            assert rate.value == pytest.approx(row.selected / row.applicants)


def test_the_scoring_rate_is_the_share_above_the_median_of_the_full_sample(bench_of, told):
    """Scores 1 to 200, median 100.5: a holds 1..60 and 161..200, b the rest."""
    score = np.arange(1.0, 201.0)
    sex = np.where((score <= 60) | (score > 160), "a", "b")
    found = told(LocalLaw144(), bench_of(score > 100, score > 100, {"sex": sex}, score=score))
    assert found["scoring_rate", "a"].value == pytest.approx(40 / 100)
    assert found["scoring_rate", "b"].value == pytest.approx(60 / 100)
    assert found["scoring_impact_ratio", "a"].value == pytest.approx(40 / 60)
    assert found["scoring_impact_ratio", "b"].value == 1.0
    assert (
        found["scoring_impact_ratio", "a"].interval.low
        < 2 / 3
        < found["scoring_impact_ratio", "a"].interval.high
    )


def test_small_categories_keep_their_rate_but_get_no_ratio_and_are_not_the_highest(bench_of, told):
    decided, race = applicants({"a": (50, 100), "b": (40, 100), "tiny": (3, 3), "unknown": (5, 9)})
    found = told(LocalLaw144(), bench_of(decided, decided, {"race": race}))
    assert found["selection_rate", "tiny"].value == 1.0
    assert "below 2%" in found["selection_impact_ratio", "tiny"].reason
    assert "below 2%" in found["applicants", "tiny"].caveats[0].message
    assert found["selection_impact_ratio", "b"].value == pytest.approx(0.8)
    assert found["unknown", "race"].value == 9
    assert found["applicants_share", "a"].value == pytest.approx(100 / 203)
    assert ("selection_impact_ratio", "unknown") not in found
    assert found["selection_rate", "unknown"].n == 9
    kept = told(LocalLaw144(exclude_below=0), bench_of(decided, decided, {"race": race}))
    assert kept["selection_impact_ratio", "b"].value == pytest.approx(0.4)


def test_both_attributes_make_a_third_table(bench_of, told):
    rng = np.random.default_rng(0)
    decided = rng.integers(0, 2, 900)
    groups = {"gender": rng.choice(["f", "m"], 900), "ethnicity": rng.choice(list("xyz"), 900)}
    found = told(LocalLaw144(), bench_of(decided, decided, groups))
    cells = [one for one in found.values() if len(one.slice) == 2 and one.name == "applicants"]
    assert sum(one.value for one in cells) == 900
    assert len(cells) == 6
    here = (groups["gender"] == "f") & (groups["ethnicity"] == "y")
    assert found["selection_rate", "f", "y"].value == pytest.approx(decided[here].mean())
    assert found["scoring_rate", "f", "y"].reason.startswith("the model gives decisions only")
    assert {key[0] for key in found} == set(LocalLaw144.measures)


@settings(max_examples=30)
@given(counts=st.lists(st.integers(1, 50), min_size=2, max_size=5))
def test_the_highest_rate_has_ratio_one_and_no_ratio_is_above_it(counts):
    from dlaudit.fairness import gaps
    from dlaudit.fairness.rates import Proportion

    rates = [Proportion(count, 50) for count in counts]
    ratios = [
        gaps.ratio_to_best(one, gaps.Best(rates[:i] + rates[i + 1 :], "highest"), is_candidate=True)
        for i, one in enumerate(rates)
    ]
    assert max(one.value for one in ratios) == 1
    assert all(one.value == pytest.approx(x / max(counts)) for one, x in zip(ratios, counts))  # noqa: B905


def test_categories_nobody_is_selected_from_or_nobody_belongs_to_have_a_reason(bench_of, told):
    decided, sex = applicants({"a": (50, 100), "b": (0, 100)})
    facts = {"groups": {"sex": {"a": 1, "b": 1, "x": 0}}}
    found = told(LocalLaw144(), bench_of(decided, decided, {"sex": sex}, facts=facts))
    zero = found["selection_impact_ratio", "b"]
    assert (zero.value, zero.interval.low) == (0.0, 0.0)
    # Wilson's upper end of 0 of 100 over the lower confidence bound of a half (Donner & Zou 2012).
    upper, lower = wilson(0, 100).high, wilson(50, 100).low
    assert zero.interval.high == pytest.approx(upper / (lower * (1 - lower)) ** 0.5)
    assert found["selection_rate", "b"].value == 0.0
    assert found["selection_rate", "x"].reason == "0 applicants"
    assert "below 2%" in found["selection_impact_ratio", "x"].reason
    alone = applicants({"a": (50, 100)})
    found = told(LocalLaw144(), bench_of(alone[0], alone[0], {"sex": alone[1]}))
    assert "no other category" in found["selection_impact_ratio", "a"].reason


def test_what_cannot_be_meant_is_undefined_or_an_error(bench_of, told):
    decided, group = applicants({"a": (50, 100), "b": (20, 100)})
    bench = bench_of(decided, decided, {"site": group})
    found = list(LocalLaw144().measure(bench))
    assert {one.name for one in found} == set(LocalLaw144.measures)
    assert all(
        "neither sex nor race/ethnicity among the attributes site" in one.reason for one in found
    )
    with pytest.raises(PlanError, match=r"no group attribute is called 'sit'\. Did you mean site"):
        list(LocalLaw144(race="sit").measure(bench))
    three = bench_of(decided, decided, {"sex": group}, classes=("x", "y", "z"))
    assert all("set the parameter positive" in one.reason for one in LocalLaw144().measure(three))
    crowd = bench_of(decided, decided, {"sex": np.arange(200).astype(str)})
    assert all(isinstance(one, Undefined) for one in told(LocalLaw144(), crowd).values())
