"""Slices that nobody declared: a planted one is found, and noise confirms nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from dlaudit.audit.record import Undefined
from dlaudit.audit.statistics import clopper_pearson
from dlaudit.errors import PlanError
from dlaudit.fairness import features, slice_search
from dlaudit.fairness.slices import Slices

SEEDS = range(1000, 1020)
N = 4000


def population(seed, *, planted):
    """Eight columns, two groups, one error in ten; in the planted slice three in ten."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 7))
    job = rng.integers(0, 3, N)
    sex = rng.choice(["f", "m"], N)
    inside = (sex == "f") & (job == 2)
    y = rng.integers(0, 2, N)
    wrong = rng.random(N) < np.where(inside & planted, 0.3, 0.1)
    facts = {
        "features": ["predicted", *"bcdefgh", "job"],
        "codes": {"job": ["clerk", "cook", "nurse"]},
    }
    return y, np.where(wrong, 1 - y, y), {"sex": sex}, np.c_[x, job], facts


def sliced(bench_of, told, seed, *, planted, check=None):
    y, predicted, groups, x, facts = population(seed, planted=planted)
    bench = bench_of(
        y,
        np.zeros(N) + predicted,
        groups,
        features=x,
        facts=facts,
        run="fairness.slices",
        seed=seed,
    )
    return told(check or Slices(), bench)


def test_a_planted_slice_is_found_in_words_and_its_clean_twin_is_not_accused(bench_of, told):
    found = {True: 0, False: 0}
    for seed in SEEDS:
        for planted in found:
            told_of = sliced(bench_of, told, seed, planted=planted)
            regions = [key[1] for key in told_of if key[0] == "slice_gap"]
            assert told_of["slices_found", None].value == len(regions) <= 10
            if planted:
                found[planted] += "sex is f and job is nurse" in regions
            else:
                found[planted] += len(regions) > 0
    for planted, count in found.items():
        bounds = clopper_pearson(count, len(SEEDS))
        print(f"planted={planted}: {count} of 20 [{bounds.low:.2f}, {bounds.high:.2f}]")
    assert found[True] >= 19
    assert found[False] <= 1


def test_the_gap_is_measured_in_the_half_that_did_not_search(bench_of, told):
    one = sliced(bench_of, told, 0, planted=True)
    gap = one["slice_gap", "sex is f and job is nurse"]
    assert gap.n == N / 2
    assert gap.interval.low < 0.2 < gap.interval.high
    assert one["slice_p", "sex is f and job is nurse"].value <= 0.01
    rate = one["slice_rate", "sex is f and job is nurse"]
    assert rate.interval.low < 0.3 < rate.interval.high
    assert one == sliced(bench_of, told, 0, planted=True)


def test_the_p_is_fishers():
    counts = slice_search.Counts(12, 40, 20, 160)
    reference = fisher_exact([[12, 28], [20, 140]], alternative="greater").pvalue
    assert slice_search._p(counts) == pytest.approx(reference)
    assert counts.gap == pytest.approx(12 / 40 - 20 / 160)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_counts_of_both_halves_add_up_and_no_slice_is_smaller_than_the_minimum(seed):
    rng = np.random.default_rng(seed)
    n = 600
    conditions = features.conditions_of_groups(
        {name: rng.choice(list("uvw"), n) for name in "abc"}, most=5
    )
    outcome = rng.random(n) < np.where(conditions[0].member, 0.6, 0.2)
    first = rng.random(n) < 0.5
    found = slice_search.search(conditions, outcome, first, minimum=20, most=5, rate=0.05)
    assert len(found.slices) <= 5
    assert found.tried <= 9 + 27
    for one in found.slices:
        assert one.searched.n + one.searched.rest == first.sum()
        assert one.confirmed.n + one.confirmed.rest == (~first).sum()
        assert one.confirmed.inside + one.confirmed.outside == outcome[~first].sum()
        assert min(one.searched.n, one.confirmed.n) >= 20
        assert (one.interval is not None) == (one.p <= 0.05)
    assert any("a is u" in one.words for one in found.slices)


@pytest.mark.slow
def test_intervals_of_confirmed_slices_hold_the_truth():
    rng = np.random.default_rng(3)
    held = []
    for _ in range(500):
        n = 1200
        groups = {name: rng.choice(list("uv"), n) for name in "abcd"}
        conditions = features.conditions_of_groups(groups, most=5)
        chance = np.where(groups["a"] == "u", 0.3, 0.15)
        outcome, first = rng.random(n) < chance, rng.random(n) < 0.5
        found = slice_search.search(conditions, outcome, first, minimum=30, most=10, rate=0.05)
        held += [
            one.interval.low <= 0.15 <= one.interval.high
            for one in found.slices
            if one.interval is not None and one.words == "a is u"
        ]
    print(f"confirmed slices: coverage {np.mean(held):.3f} over {len(held)}")
    assert np.mean(held) >= 0.945


def test_columns_are_told_by_value_quarter_and_gap():
    values = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [np.nan, 4.0]] * 10)
    values[:, 1] = np.arange(40)
    made = features.Features(values, ("few", "many"), {})
    words = [one.words for one in features.conditions_of(made, np.ones(40, dtype=bool))]
    assert words == [
        "few is missing", "few is 0", "few is 1", "few is 2",
        "many below 9.75", "many from 9.75 below 19.5", "many from 19.5 below 29.25",
        "many from 29.25",
    ]  # fmt: skip
    empty = features.Features(np.full((4, 1), np.nan), ("none",), {"none": ["a"]})
    assert [one.words for one in features.conditions_of(empty, np.ones(4, dtype=bool))] == [
        "none is missing"
    ]


class TestNothingToSearch:
    def reasons(self, found):
        assert {key[0] for key in found} == set(Slices.measures)
        assert all(isinstance(one, Undefined) for one in found.values())
        return {one.reason for one in found.values()}

    def test_no_groups_and_no_table(self, bench_of, told):
        y = np.tile([0, 1], 200)
        check = Slices(most_features=0)
        (reason,) = self.reasons(told(check, bench_of(y, 1 - y, {})))
        assert "neither groups nor a table" in reason

    def test_too_few_samples_and_no_errors(self, bench_of, rows_of, told):
        y, predicted, group = rows_of({"a": (20, 3, 3, 20), "b": (20, 3, 3, 20)})
        (reason,) = self.reasons(told(Slices(), bench_of(y, predicted, {"sex": group})))
        assert reason.startswith("92 samples, fewer than 4 x")
        y = np.tile([0, 1], 200)
        (reason,) = self.reasons(
            told(Slices(), bench_of(y, y, {"sex": np.repeat(["a", "b"], 200)}))
        )
        assert reason.startswith("0 of 400")


def test_false_positives_are_searched_among_negatives_alone(bench_of, told):
    rng = np.random.default_rng(4)
    y, sex = rng.integers(0, 2, N), rng.choice(["f", "m"], N)
    # Errors of positives are everywhere; those of negatives in one group.
    wrong = rng.random(N) < np.where(y == 1, 0.2, np.where(sex == "f", 0.3, 0.05))
    bench = bench_of(y, np.where(wrong, 1 - y, y), {"sex": sex})
    check = Slices(outcome="false_positive", most_features=0)
    found = told(check, bench)
    assert found["slice_gap", "sex is f"].value == pytest.approx(0.25, abs=0.06)
    assert found["slices_found", None].n == (y == 0).sum()
    others = told(Slices(outcome="false_negative", most_features=0), bench)
    assert others["slices_found", None].value == 0
    three = bench_of(y, y, {"sex": sex}, classes=("x", "y", "z"))
    with pytest.raises(PlanError, match="set the parameter positive"):
        list(check.measure(three))
