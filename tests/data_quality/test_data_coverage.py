"""Every interval of the suite holds the truth as often as it says, in a simulation with a known truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from dlaudit.audit import statistics
from dlaudit.data_quality import intervals

DRAWS = 2000
COUNTS = st.integers(0, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def covers(interval, truth):
    return interval.low <= truth <= interval.high


def test_what_copies_give_to_accuracy_by_hand_and_against_statsmodels():
    found = intervals.share_of_gain(18, 20, 60, 80)
    low, high = confint_proportions_2indep(18, 20, 60, 80, method="newcomb")
    assert (found.low, found.high) == (pytest.approx(0.2 * low), pytest.approx(0.2 * high))


@pytest.mark.parametrize(("out", "of"), [((20, 0.95), (180, 0.8)), ((50, 0.9), (50, 0.9))])
def test_the_interval_of_what_copies_give_covers(out, of):
    rng = np.random.default_rng(0)
    (n, p), (m, q) = out, of
    a, b = rng.binomial(n, p, DRAWS), rng.binomial(m, q, DRAWS)
    truth = n / (n + m) * (p - q)
    hits = sum(
        covers(intervals.share_of_gain(int(x), n, int(y), m), truth)
        for x, y in zip(a, b, strict=True)
    )
    assert 0.94 <= hits / DRAWS <= 0.985


@pytest.mark.parametrize(
    ("shares", "moved"), [((0.5, 0.5), (0.5, 0.5)), ((0.6, 0.3, 0.1), (0.4, 0.3, 0.3))]
)
def test_the_interval_of_the_largest_change_covers(shares, moved):
    rng = np.random.default_rng(1)
    truth = max(abs(a - b) for a, b in zip(shares, moved, strict=True))
    hits = 0
    for _ in range(DRAWS):
        one, other = rng.multinomial(150, shares), rng.multinomial(200, moved)
        value, interval = intervals.largest_change(one.tolist(), other.tolist())
        assert covers(interval, value)
        hits += covers(interval, truth)
    assert hits / DRAWS >= 0.945


@given(st.lists(st.integers(0, 50), min_size=2, max_size=6).filter(any))
def test_nothing_changed_between_a_sample_and_itself(counts):
    value, interval = intervals.largest_change(counts, counts)
    assert value == 0
    assert interval.low == 0
    assert interval.high > 0


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_massarts_interval_is_at_least_as_wide_as_it_must_be(shift):
    rng = np.random.default_rng(2)
    truth = 2 * stats.norm.cdf(shift / 2) - 1
    hits = 0
    for _ in range(500):
        one, other = rng.normal(size=80), rng.normal(size=120) + shift
        distance = stats.ks_2samp(one, other).statistic
        hits += covers(statistics.kolmogorov(distance, 80, 120), truth)
    assert hits / 500 >= 0.95


def test_skill_by_hand():
    """Recalls of 0.9 and 0.6: balanced accuracy 0.75, skill 0.5."""
    value, interval = intervals.balanced_skill([90, 30], [100, 50])
    assert value == pytest.approx(0.5)
    assert interval.low < 0.5 < interval.high
    assert intervals.balanced_skill([10, 10, 10], [10, 10, 10])[0] == 1
    assert intervals.balanced_skill([5, 5], [10, 10])[0] == 0


@pytest.mark.parametrize(
    ("sizes", "recalls"), [((40, 60), (0.8, 0.6)), ((200, 50, 30), (0.5, 0.9, 0.7))]
)
def test_the_interval_of_skill_covers(sizes, recalls):
    rng = np.random.default_rng(3)
    truth, _ = (np.mean(recalls) - 1 / len(sizes)) / (1 - 1 / len(sizes)), None
    drawn = rng.binomial(sizes, recalls, (DRAWS, len(sizes)))
    hits = sum(
        covers(intervals.balanced_skill(one.tolist(), list(sizes))[1], truth) for one in drawn
    )
    assert 0.94 <= hits / DRAWS <= 0.985


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_the_interval_of_the_folded_auc_covers(shift):
    """Scores of two normal samples: the AUC is known. Five folds of forty."""
    rng = np.random.default_rng(4)
    truth = stats.norm.cdf(shift / 2**0.5)
    y = np.tile(np.repeat([0, 1], 20), 5)
    fold = np.repeat(np.arange(5), 40)
    draws, hits = 300, 0
    for _ in range(draws):
        scores = rng.normal(size=200) + shift * y
        hits += covers(intervals.folded_auc(scores, y, fold)[1], truth)
    assert 0.92 <= hits / draws <= 0.985


@given(COUNTS, COUNTS)
def test_scaled_ends_stand_in_order(one, other):
    if one[1] and other[1]:
        found = intervals.share_of_gain(*one, *other)
        assert -1 <= found.low <= found.high <= 1
