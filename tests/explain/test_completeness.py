"""What attributions leave out, and the interval of its 95th percentile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.explain.completeness import errors, logit_spread, percentile, percentile_interval


def test_an_error_is_the_missing_share_of_the_change():
    sums, start, end = np.array([1.9, -3.0]), np.array([1.0, 2.0]), np.array([3.0, 0.0])
    # Changes 2 and -2; missing 0.1 and 1.
    assert errors(sums, start, end, spread=1.0) == pytest.approx([0.05, 0.5])


def test_a_change_of_nothing_is_measured_against_the_spread_of_the_logits():
    found = errors(np.array([0.004]), np.array([1.0]), np.array([1.0]), spread=2.0)
    assert found == pytest.approx([0.004 / 0.002])


def test_logits_that_never_vary_divide_by_no_zero():
    assert logit_spread(np.zeros((3, 2))) > 0
    assert logit_spread(np.array([[1.0, 3.0]])) == 1.0


def test_the_percentile_is_an_order_statistic():
    assert percentile(np.arange(1, 101)) == 95
    assert percentile(np.arange(1, 21)) == 19


def test_the_interval_of_64_values_ends_at_the_largest():
    """P(Bin(64, 0.95) = 64) = 0.0375: above 0.025, so the lower end gets the 0.0125 that is left."""
    interval = percentile_interval(np.arange(1.0, 65.0))
    assert interval.high == 64
    # P(Bin(64, .95) <= 55) = 0.0051, P(<= 56) = 0.0159: the 56th value misses with 0.0051.
    assert interval.low == 56


def test_too_few_values_bound_no_percentile():
    assert percentile_interval(np.arange(58.0)) is None
    assert percentile_interval(np.arange(59.0)) is not None
    assert percentile_interval(np.zeros(0)) is None
    assert percentile_interval(np.arange(5.0), q=0.5) is None


def test_the_interval_agrees_with_an_enumeration_of_the_binomial():
    statsmodels = pytest.importorskip("scipy.stats")
    n, q = 200, 0.95
    interval = percentile_interval(np.arange(1.0, n + 1))
    lower, upper = int(interval.low), int(interval.high)
    chance = [statsmodels.binom.pmf(k, n, q) for k in range(n + 1)]
    # The quantile lies below X_(lower) if fewer than ``lower`` values lie below it.
    assert sum(chance[:lower]) + sum(chance[upper:]) <= 0.05
    assert sum(chance[: lower + 1]) > 0.025
    assert sum(chance[upper - 1 :]) > 0.025


@pytest.mark.parametrize("n", [100, 400])
def test_the_interval_covers_the_true_percentile(n):
    rng = np.random.default_rng(n)
    hits = 0
    for values in rng.exponential(size=(700, n)):
        interval = percentile_interval(values)
        hits += interval.low <= -np.log(0.05) <= interval.high
    assert hits / 700 >= 0.945


@settings(max_examples=50)
@given(values=st.lists(st.floats(0, 1e6), min_size=59, max_size=200), factor=st.floats(0.1, 10))
def test_scaling_errors_scales_the_interval_and_order_changes_nothing(values, factor):
    array = np.array(values)
    interval, reversed_ = percentile_interval(array), percentile_interval(array[::-1])
    assert interval == reversed_
    scaled = percentile_interval(array * factor)
    assert scaled.high == pytest.approx(interval.high * factor)
    assert interval.low <= percentile(array) <= interval.high
