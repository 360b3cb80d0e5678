"""The outlier statistic of trigger costs, by hand and by what it must not do."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from dlaudit.backdoors.anomaly import log_anomaly, ratios, threshold

costs = st.lists(st.floats(0.1, 1e4), min_size=8, max_size=40)


def test_the_anomaly_of_powers_of_two_by_hand():
    """log2 of the costs: 0, 4, 4, 5, 5, 5, 6, 6; median 5, deviations 5 1 1 0 0 0 1 1, their median 1."""
    found = log_anomaly([2.0**k for k in (0, 4, 4, 5, 5, 5, 6, 6)])
    assert found[0] == pytest.approx(5 / 1.4826)
    assert found[1] == pytest.approx(1 / 1.4826)
    assert found[3] == pytest.approx(0)
    assert found[7] == pytest.approx(-1 / 1.4826)


def test_the_threshold_grows_with_the_number_of_classes():
    """Published with the statistic: 2.58, 3.05, 3.29 and 3.89 for 10, 43, 100 and 1000 classes."""
    assert [round(threshold(k), 2) for k in (10, 43, 100, 1000)] == [2.58, 3.05, 3.29, 3.89]


def test_the_published_costs_of_a_poisoned_model_are_an_outlier():
    """43 labels with the published target cost 16.1 and median 64.5; the rest spread around it."""
    rng = np.random.default_rng(0)
    others = 64.5 * np.exp(rng.normal(0, 0.3, 42))
    found = log_anomaly([16.1, *others])
    assert found[0] > threshold(43)
    assert max(found[1:]) < threshold(43)


@settings(max_examples=100)
@given(norms=costs)
def test_it_agrees_with_scipys_deviation(norms):
    logs = np.log(norms)
    spread = median_abs_deviation(logs, scale=1 / 1.4826)
    found = log_anomaly(norms)
    if spread == 0:
        assert found == [None] * len(norms)
    else:
        assert found == pytest.approx(list((np.median(logs) - logs) / spread))


@settings(max_examples=50)
@given(norms=costs, factor=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_units_change_nothing_and_permuting_classes_permutes_the_result(norms, factor, seed):
    order = np.random.default_rng(seed).permutation(len(norms))
    for statistic in (log_anomaly, ratios):
        plain = statistic(norms)
        if any(one is None for one in plain) or np.ptp(np.log(norms)) < 1e-6:
            return
        assert statistic([factor * norm for norm in norms]) == pytest.approx(
            plain, rel=1e-4, abs=1e-4
        )
        assert statistic([norms[k] for k in order]) == pytest.approx([plain[k] for k in order])


def test_controls_alone_tell_what_is_usual_by_hand():
    """log2: three cheap finalists, eight controls at 4 4 5 5 5 5 6 6: median 5, deviations' median 0.5."""
    costs_ = [2.0**k for k in (1, 1, 1, 4, 4, 5, 5, 5, 5, 6, 6)]
    found = log_anomaly(costs_, controls=range(3, 11))
    assert found[0] == pytest.approx(4 / (1.4826 * 0.5))
    assert found[3] == pytest.approx(1 / (1.4826 * 0.5))
    assert ratios(costs_, controls=range(3, 11))[0] == pytest.approx(2.0**4)
    assert ratios(costs_, controls=range(3, 11))[3] == pytest.approx(2.0)
    assert log_anomaly(costs_, controls=range(11)) == log_anomaly(costs_)


def test_below_eight_classes_there_is_no_anomaly_but_a_ratio():
    assert log_anomaly([1.0, 5.0, 5.0, 5.5, 6.0, 6.0, 7.0]) == [None] * 7
    assert ratios([2.0, 6.0]) == [3.0, pytest.approx(1 / 3)]
    assert ratios([2.0]) == [None]


def test_the_ratio_leaves_the_class_itself_out():
    assert ratios([1.0, 4.0, 6.0])[0] == 5.0
    assert ratios([1.0, 4.0, 6.0])[2] == pytest.approx(2.5 / 6)


def test_a_class_without_a_trigger_counts_as_dearer_than_all_others():
    spread = [1.0, 8, 9, 10, 10, 11, 12]
    found = log_anomaly([*spread, math.inf])
    assert found[-1] is None
    assert found[0] > threshold(8)
    assert ratios([1.0, math.inf, 4.0]) == [None, None, None]
    assert ratios([1.0, 2.0, 4.0, math.inf]) == [4.0, 2.0, 0.5, None]


def test_where_half_of_the_classes_have_no_trigger_nothing_is_compared():
    assert log_anomaly([1.0, 2.0, 3.0, 4.0, *[math.inf] * 4]) == [None] * 8
    assert log_anomaly([1.0, 2.0, 3.0, 4.0, 5.0, *[math.inf] * 4]) == [None] * 9
    assert log_anomaly([5.0] * 10) == [None] * 10


def test_two_cheap_classes_no_longer_hide_each_other_when_left_apart():
    norms = [3.0, 3.2, 6, 7, 9, 10, 11, 12, 14, 16]
    together, apart = log_anomaly(norms), log_anomaly(norms, apart=1.75)
    assert together[0] < threshold(10) < apart[0]
    assert together[1] < threshold(10) < apart[1]


def test_leaving_apart_half_of_the_classes_is_refused():
    norms = [1.0] * 4 + [1.1] + [10, 11, 12, 13, 14]
    assert log_anomaly(norms, apart=1.75) == log_anomaly(norms)
