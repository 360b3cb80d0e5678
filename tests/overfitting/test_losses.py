"""Losses, margins and the intervals of their means."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax

from dlaudit.audit.statistics import mean_interval
from dlaudit.overfitting.losses import cross_entropy, margins, mean_difference, skewed_mean

TRIALS = 120
MEAN = 0.945

finite = st.floats(-50, 50, allow_nan=False)


def test_cross_entropy_and_margin_as_computed_by_hand():
    logits = np.array([[0.0, math.log(3)], [2.0, 2.0]])
    y = np.array([0, 1])
    assert cross_entropy(logits, y) == pytest.approx([math.log(4), math.log(2)])
    assert margins(logits, y) == pytest.approx([-math.log(3), 0.0])


@given(logits=arrays(np.float32, (5, 3), elements=st.floats(-50, 50, width=32)))
def test_cross_entropy_is_scipys_log_softmax(logits):
    y = np.array([0, 1, 2, 0, 1])
    expected = -log_softmax(logits.astype(float), axis=1)[np.arange(5), y]
    np.testing.assert_allclose(cross_entropy(logits, y), expected, rtol=1e-9, atol=1e-12)
    assert (cross_entropy(logits, y) >= 0).all()


@given(
    logits=arrays(np.float64, (4, 3), elements=finite),
    shift=arrays(np.float64, (4, 1), elements=finite),
)
def test_adding_a_constant_to_all_logits_changes_neither(logits, shift):
    y = np.array([0, 1, 2, 0])
    np.testing.assert_allclose(
        cross_entropy(logits + shift, y), cross_entropy(logits, y), atol=1e-9
    )
    np.testing.assert_allclose(margins(logits + shift, y), margins(logits, y), atol=1e-9)


def test_huge_logits_do_not_overflow():
    logits = np.array([[1e6, -1e6], [-1e6, 1e6]])
    assert cross_entropy(logits, np.array([0, 0])) == pytest.approx([0.0, 2e6])


def test_of_symmetric_values_the_interval_is_students():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found, student = skewed_mean(values), mean_interval(values)
    assert (found.low, found.high) == pytest.approx((student.low, student.high))


def test_of_skewed_values_it_reaches_farther_on_the_long_side_as_computed_by_hand():
    """One loss of 10 among nine of 0: mean 1, s = sqrt(10), skewness 8/3."""
    values = np.r_[np.zeros(9), 10.0]
    found, student = skewed_mean(values), mean_interval(values)
    error, skew, t = 1.0, 8 / 3 / math.sqrt(10), 2.262157162798
    bent = 3 / skew * (np.cbrt(1 + skew * (-t - skew / 6)) - 1)
    assert found.high == pytest.approx(1 - error * bent)
    assert found.high > student.high
    assert found.low == pytest.approx(student.low)


def test_the_difference_joins_the_two_means_by_square_and_add():
    first, second = np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.5, 1.0, 0.5])
    one, two = mean_interval(first), mean_interval(second)
    found = mean_difference(first, second)
    assert found.low == pytest.approx(1.5 - math.hypot(2 - one.low, two.high - 0.5))
    assert found.high == pytest.approx(1.5 + math.hypot(one.high - 2, 0.5 - two.low))


@pytest.mark.parametrize("flat", [np.zeros(5), np.full(40, 0.1), np.array([3.0])])
def test_without_spread_there_is_no_interval(flat):
    varied = np.array([1.0, 2.0, 4.0])
    assert skewed_mean(flat) is None
    assert mean_difference(varied, flat) is None
    assert mean_difference(flat, varied) is None


@settings(max_examples=60)
@given(
    values=arrays(np.float64, st.integers(2, 30), elements=st.floats(0, 100)).filter(
        lambda values: np.ptp(values) > 1e-3
    ),
    scale=st.floats(0.1, 10),
)
def test_the_interval_holds_the_mean_and_scales_with_the_values(values, scale):
    found = skewed_mean(values)
    assert found.low <= values.mean() <= found.high
    scaled = skewed_mean(scale * values)
    assert scaled.high == pytest.approx(scale * found.high, rel=1e-6, abs=1e-9)


def rare(rng, size):
    """Losses of a net that is certain and mostly right: one in twenty carries the loss."""
    hit = rng.random(size) < 0.05
    return np.where(hit, rng.exponential(4.0, size), rng.exponential(0.01, size))


LOSSES = {
    "normal": (lambda rng, size: rng.normal(1.0, 1.0, size), 1.0),
    "exponential": (lambda rng, size: rng.exponential(1.0, size), 1.0),
    "lognormal": (lambda rng, size: rng.lognormal(0.0, 1.0, size), math.exp(0.5)),
    "one in five": (
        lambda rng, size: np.where(
            rng.random(size) < 0.2, rng.exponential(2.0, size), rng.exponential(0.1, size)
        ),
        0.48,
    ),
    "one in twenty": (rare, 0.2095),
    "by heart": (lambda rng, size: rng.exponential(1e-3, size), 1e-3),
}
SIZES = (50, 100, 300, 1000)


def test_the_intervals_of_a_mean_hold_their_level_over_the_grid():
    rng = np.random.default_rng(1)
    cells = {}
    for name, (draw, truth) in LOSSES.items():
        for n in SIZES:
            found = [skewed_mean(values) for values in draw(rng, (TRIALS, n))]
            cells[name, n] = np.mean([one.low <= truth <= one.high for one in found])
    mean, place = np.mean(list(cells.values())), min(cells, key=cells.__getitem__)
    print(f"mean loss: mean {mean:.4f}, minimum {cells[place]:.4f} at {place}")
    assert mean >= MEAN


def test_the_intervals_of_a_loss_gap_hold_their_level_over_the_grid():
    rng = np.random.default_rng(2)
    cells = {}
    for test, (draw_test, mean_test) in LOSSES.items():
        for train in dict.fromkeys((test, "by heart")):
            draw_train, mean_train = LOSSES[train]
            for n in SIZES:
                pairs = zip(
                    draw_test(rng, (TRIALS, n)), draw_train(rng, (TRIALS, 2 * n)), strict=True
                )
                found = [mean_difference(unseen, seen) for unseen, seen in pairs]
                truth = mean_test - mean_train
                cells[test, train, n] = np.mean([one.low <= truth <= one.high for one in found])
    mean, place = np.mean(list(cells.values())), min(cells, key=cells.__getitem__)
    print(f"loss gap: mean {mean:.4f}, minimum {cells[place]:.4f} at (test, train, n) = {place}")
    assert mean >= MEAN
