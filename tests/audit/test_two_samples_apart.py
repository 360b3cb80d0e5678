"""How far two samples are apart: the AUC and Kolmogorov's distance, by hand and by other formulas."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import bisect
from scipy.special import expit, logit
from scipy.stats import norm, ttest_ind

from dlaudit.audit.statistics import auc, kolmogorov, pairs_won

FEW = st.lists(st.integers(0, 4), min_size=2, max_size=7)


def test_pairs_won_by_hand():
    """3 beats 2 and 1; 1 loses to 2 and ties with 1."""
    above, below = pairs_won(np.array([3, 1]), np.array([2, 1]))
    assert above.tolist() == [1.0, 0.25]
    assert below.tolist() == [0.5, 0.75]


@settings(deadline=None, max_examples=60)
@given(FEW, FEW)
def test_pairs_won_are_counted_one_by_one(above, below):
    one, other = np.array(above)[:, None], np.array(below)[None]
    pairs = (one > other) + (one == other) / 2
    found = pairs_won(np.array(above), np.array(below))
    assert found[0] == pytest.approx(pairs.mean(axis=1))
    assert found[1] == pytest.approx(pairs.mean(axis=0))


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")  # of one side without spread
@settings(deadline=None, max_examples=60)
@given(FEW, FEW, st.sampled_from([0.5, 0.9, 0.95]))
def test_delongs_interval_is_that_of_welchs_test_on_the_shares_of_pairs(above, below, level):
    """Brunner and Munzel: Welch's t of the components, whose difference of means is 2 AUC - 1."""
    one, other = pairs_won(np.array(above), np.array(below))
    assume(0 < one.mean() < 1)
    assume(one.var() + other.var() > 1e-9)
    value, interval = auc(np.array(above), np.array(below), level)
    assert value == pytest.approx(one.mean())
    welch = ttest_ind(one, 1 - other, equal_var=False).confidence_interval(level)
    half = (welch.high - welch.low) / 2 / (value * (1 - value))
    assert interval.method == "delong-logit"
    assert interval.low == pytest.approx(expit(logit(value) - half), abs=1e-9)
    assert interval.high == pytest.approx(expit(logit(value) + half), abs=1e-9)


def hanley_mcneil(theta, m, n):
    """Variance of an AUC of theta with both samples taken for their mean size (Newcombe 2006, method 5)."""
    first, second, size = theta / (2 - theta), 2 * theta**2 / (1 + theta), (m + n) / 2
    spread = theta * (1 - theta) + (size - 1) * (first + second - 2 * theta**2)
    return spread / (m * n)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 5), (4, 3), (9, 30), (200, 100)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_separated_samples_have_newcombes_interval(m, n, level):
    """At 1 the lower end is where the distance to 1 is z standard errors; the mirror image at 0."""
    z = norm.ppf((1 + level) / 2)
    end = bisect(
        lambda theta: 1 - theta - z * math.sqrt(hanley_mcneil(theta, m, n)), 1e-9, 1 - 1e-9
    )
    value, interval = auc(np.full(m, 2.0), np.full(n, 1.0), level)
    assert (value, interval.high, interval.method) == (1.0, 1.0, "newcombe-5")
    assert interval.low == pytest.approx(end, abs=1e-8)
    value, interval = auc(np.full(m, 1.0), np.full(n, 2.0), level)
    assert (value, interval.low) == (0.0, 0.0)
    assert interval.high == pytest.approx(1 - end, abs=1e-8)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 8)])
def test_samples_of_ties_alone_have_it_on_both_sides(m, n):
    """All tied: the AUC is one half and DeLong's variance is zero."""
    value, interval = auc(np.ones(m), np.ones(n))
    z = norm.ppf(0.975)
    assert value == 0.5
    for end in (interval.low, interval.high):
        assert abs(end - 0.5) == pytest.approx(z * math.sqrt(hanley_mcneil(end, m, n)), abs=1e-8)
    assert interval.low < 0.5 < interval.high
    assert interval.low == pytest.approx(1 - interval.high)


def test_one_sample_alone_on_its_side_has_no_variance_of_delong():
    """2 beats one of two: three quarters would need a second sample on its side."""
    value, interval = auc(np.array([2.0]), np.array([1.0, 3.0]))
    z = norm.ppf(0.975)
    assert (value, interval.method) == (0.5, "newcombe-5")
    assert 0.5 - interval.low == pytest.approx(
        z * math.sqrt(hanley_mcneil(interval.low, 1, 2)), abs=1e-8
    )


def test_kolmogorovs_interval_by_hand():
    """sqrt(ln 80 / 200) + sqrt(ln 80 / 800) = 0.148021 + 0.074010."""
    found = kolmogorov(0.5, 100, 400)
    assert (found.low, found.high) == pytest.approx((0.277969, 0.722031), abs=1e-6)
    assert (found.level, found.method) == (0.95, "massart")
    assert kolmogorov(0.05, 100, 400).low == 0
    assert kolmogorov(0.95, 100, 400).high == 1
    wide = math.sqrt(math.log(40) / 100) * 2
    assert kolmogorov(0.5, 50, 50, 0.9).low == pytest.approx(0.5 - wide)
