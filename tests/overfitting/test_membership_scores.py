"""Scores of membership attacks and the bound on epsilon: by hand, against scipy and sklearn, by law."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from dlaudit.audit.statistics import auc, clopper_pearson
from dlaudit.overfitting.epsilon import LOOKS, THRESHOLDS, lower_bound, one_run_bound
from dlaudit.overfitting.membership_scores import (
    Shadows,
    confidence,
    lira_offline,
    lira_online,
    reach,
    rmia,
    roc,
)

FINITE = st.floats(-20, 20, allow_nan=False, width=32)
CALM = settings(deadline=None, max_examples=50)
SCORES = arrays(np.float64, st.integers(3, 40), elements=st.integers(-5, 5).map(float))


# -- confidence --------------------------------------------------------------------------------------


def test_confidence_by_hand() -> None:
    # softmax of (ln 6, ln 3, ln 1) is 0.6, 0.3, 0.1.
    logits = np.log([[6.0, 3.0, 1.0]] * 3)
    found = confidence(logits, np.array([0, 1, 2]))
    np.testing.assert_allclose(found, [math.log(6 / 4), math.log(3 / 7), math.log(1 / 9)])


@CALM
@given(arrays(np.float64, (7, 4), elements=FINITE), st.integers(0, 3))
def test_confidence_is_the_log_odds_of_the_label_and_ranks_as_the_loss(logits, label) -> None:
    y = np.full(7, label)
    found = confidence(logits, y)
    losses = -log_softmax(logits, axis=1)[:, label]
    np.testing.assert_allclose(np.logaddexp(0, -found), losses, atol=1e-9)
    assert np.isfinite(found).all()


def test_confidence_tells_apart_what_a_probability_rounds_to_one() -> None:
    logits = np.array([[60.0, 0.0], [90.0, 0.0]])
    assert confidence(logits, np.array([0, 0])).tolist() == [60.0, 90.0]


# -- how far scores reach ----------------------------------------------------------------------------


def test_the_reach_by_hand() -> None:
    others = np.arange(10.0)  # at 10 %: one may pass, so the threshold is the second largest, 8
    members = np.array([8.0, 8.5, 9.5, 3.0])
    assert reach(members, others, 0.1) == (2, 4, 1, 8.0)
    assert reach(members, others, 0.0) == (1, 4, 0, 9.0)
    assert reach(members, others, 1.0) == (4, 4, 10, -math.inf)
    # Ties at the threshold let nobody pass.
    assert reach(members, np.r_[np.zeros(8), 8.5, 8.5], 0.1)[:3] == (1, 4, 0)


@CALM
@given(SCORES, SCORES, st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
def test_the_reach_is_the_best_point_of_sklearns_curve(members, others, fpr) -> None:
    found = reach(members, others, fpr)
    y = np.r_[np.ones(len(members)), np.zeros(len(others))]
    false, true, _ = roc_curve(y, np.r_[members, others], drop_intermediate=False)
    assert found.false_positives <= fpr * len(others) + 1e-9
    assert found.hits / found.members == pytest.approx(true[false <= fpr + 1e-12].max())


@CALM
@given(SCORES, SCORES)
def test_the_curve_is_sklearns_and_the_area_too(members, others) -> None:
    y = np.r_[np.ones(len(members)), np.zeros(len(others))]
    scores = np.r_[members, others]
    false, true = roc(members, others)
    expected = roc_curve(y, scores, drop_intermediate=False)
    np.testing.assert_allclose(false, expected[0])
    np.testing.assert_allclose(true, expected[1])
    value, interval = auc(members, others)
    assert value == pytest.approx(roc_auc_score(y, scores))
    assert interval.low <= value <= interval.high
    assert interval.low < interval.high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("m", "n", "shift"), [(1000, 1000, 0.0), (500, 2000, 0.8), (60, 1000, 1.5)]
)
def test_the_interval_of_the_reach_holds_the_rate_at_its_threshold(m, n, shift) -> None:
    """The truth is the rate at the threshold that these non-members set."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        found = reach(rng.normal(shift, 1, m), rng.normal(size=n))
        interval = clopper_pearson(found.hits, found.members)
        held += interval.low <= norm.sf(found.threshold - shift) <= interval.high
    assert held >= 0.90 * 200  # at least 95 % promised; three deviations of 200 tries below


@pytest.mark.parametrize(
    ("m", "n", "shift"), [(200, 200, 0.0), (100, 400, 0.7), (15, 40, 0.0), (300, 300, 2.0)]
)
def test_the_interval_of_the_area_holds_the_truth(m, n, shift) -> None:
    rng = np.random.default_rng(6)
    truth, held = norm.cdf(shift / math.sqrt(2)), 0
    for _ in range(200):
        _, interval = auc(rng.normal(shift, 1, m), rng.normal(size=n))
        held += interval.low <= truth <= interval.high
    assert held >= 0.91 * 200


# -- LiRA and RMIA -----------------------------------------------------------------------------------

TOLD = np.array([[1.0, 5.0], [3.0, 1.0], [6.0, 7.0], [8.0, 3.0]])
INSIDE = np.array([[False, True], [False, False], [True, True], [True, False]])
"""Sample 0: outside 1 and 3, inside 6 and 8. Sample 1: outside 1 and 3, inside 5 and 7."""


def test_lira_by_hand() -> None:
    shadows, target = Shadows(TOLD, INSIDE), np.array([7.0, 2.0])
    spread = math.sqrt(2)  # of 1 and 3, as of each pair: so pooled and single spreads agree
    expected = norm.logpdf(target, [7, 6], spread) - norm.logpdf(target, [2, 2], spread)
    for fixed in (True, False):
        np.testing.assert_allclose(lira_online(target, shadows, fixed=fixed), expected)
        np.testing.assert_allclose(
            lira_offline(target, shadows, fixed=fixed), [5 / spread, 0.0], atol=1e-12
        )


def test_one_spread_for_all_pools_the_squares() -> None:
    told = np.array([[0.0, 0.0], [2.0, 4.0]])
    shadows = Shadows(told, np.zeros((2, 2), dtype=bool))
    # Squares around their means: 2 and 8, one degree of freedom each: variance 5.
    np.testing.assert_allclose(
        lira_offline(np.array([6.0, 7.0]), shadows, fixed=True), 5 / np.sqrt([5, 5])
    )
    np.testing.assert_allclose(
        lira_offline(np.array([6.0, 7.0]), shadows, fixed=False), 5 / np.sqrt([2, 8])
    )


@CALM
@given(
    arrays(np.float64, (6, 5), elements=FINITE), arrays(np.float64, 5, elements=FINITE),
    st.floats(-10, 10), st.booleans(),
)  # fmt: skip
def test_lira_does_not_see_a_shift_common_to_all_models(told, target, shift, fixed) -> None:
    inside = np.arange(6)[:, None] % 2 == np.arange(5) % 2
    before, after = Shadows(told, inside), Shadows(told + shift, inside)
    spreads = [np.nanstd(before.of(members=side), axis=0) for side in (True, False)]
    if min(spread.min() for spread in spreads) < 0.05:
        return  # models that agree to the last digit: the shift's rounding is divided by their spread
    for attack in (lira_online, lira_offline):
        np.testing.assert_allclose(
            attack(target + shift, after, fixed=fixed), attack(target, before, fixed=fixed),
            rtol=1e-5, atol=1e-5,
        )  # fmt: skip


def test_rmia_by_hand() -> None:
    told = np.log([[1.0, 1.0, 3.0]])  # p_out = 1/2, 1/2, 3/4
    target = np.log([3.0, 1.0, 3.0])  # p = 3/4, 1/2, 3/4
    shadows = Shadows(told, np.zeros((1, 3), dtype=bool))
    # a = 1: the ratios are p / p_out = 1.5, 1, 1; of the population {1, 2} they beat 2, 2 and 2.
    np.testing.assert_allclose(rmia(target, shadows, np.array([1, 2]), a=1), [1, 1, 1])
    np.testing.assert_allclose(rmia(target, shadows, np.array([0, 1]), a=1), [1, 0.5, 0.5])
    # a = 0: the correction is (p_out + 1) / 2: 0.75/0.75, 0.5/0.75, 0.75/0.875.
    np.testing.assert_allclose(rmia(target, shadows, np.array([0, 1, 2]), a=0), [1, 1 / 3, 2 / 3])
    # gamma = 1.4: only 1.5 beats 1 by so much.
    np.testing.assert_allclose(rmia(target, shadows, np.array([1, 2]), a=1, gamma=1.4), [1, 0, 0])


@CALM
@given(arrays(np.float64, (3, 6), elements=FINITE), arrays(np.float64, 6, elements=FINITE))
def test_rmia_is_the_definition_pair_by_pair(told, target) -> None:
    shadows, population = Shadows(told, np.zeros((3, 6), dtype=bool)), np.array([1, 3, 5])
    p, outside = 1 / (1 + np.exp(-target)), (1 / (1 + np.exp(-told))).mean(axis=0)
    ratio = p / (0.5 * (1.3 * outside + 0.7))
    found = rmia(target, shadows, population, a=0.3)
    pairs = ratio[:, None] / ratio[population]
    sure = (np.abs(pairs - 1) > 1e-12).all(axis=1)  # a tie is a tie up to rounding
    np.testing.assert_allclose(found[sure], (pairs >= 1).mean(axis=1)[sure])


# -- epsilon -----------------------------------------------------------------------------------------


def test_the_bound_by_hand() -> None:
    found = lower_bound(np.ones(100), np.zeros(100))
    # Only the quantiles 0 and 1 are thresholds (and between them 0.5 once), each looked at twice.
    each = 1 - 0.05 / found.looked
    expected = clopper_pearson(100, 100, each).low / clopper_pearson(0, 100, each).high
    assert found.epsilon == pytest.approx(math.log(expected))
    assert (found.true_positives, found.false_positives) == (100, 0)
    assert found.looked <= 2 * THRESHOLDS


@CALM
@given(SCORES)
def test_what_cannot_be_told_apart_shows_nothing(scores) -> None:
    assert lower_bound(scores, scores).epsilon == 0


@CALM
@given(SCORES, SCORES)
def test_the_bound_is_the_same_for_the_test_of_being_left_out(inside, outside) -> None:
    one, other = lower_bound(inside, outside), lower_bound(-outside, -inside)
    assert one.epsilon == pytest.approx(other.epsilon)
    assert one.epsilon >= 0
    assert lower_bound(inside, outside, delta=0.1).epsilon <= one.epsilon


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
def test_the_bound_stays_below_what_randomised_response_spends(epsilon) -> None:
    """Randomised response is epsilon-private to the letter: the bound may exceed it in 5 of 100 tries."""
    rng = np.random.default_rng(8)
    honest = math.exp(epsilon) / (1 + math.exp(epsilon))
    above, best = 0, 0.0
    for _ in range(200):
        # A little noise beside the bit gives many thresholds and adds no information.
        inside = (rng.random(400) < honest) + rng.normal(0, 0.1, 400)
        outside = (rng.random(400) >= honest) + rng.normal(0, 0.1, 400)
        found = lower_bound(inside, outside).epsilon
        above += found > epsilon
        best = max(best, found)
    assert above <= 0.05 * 200
    assert best >= 0.5 * epsilon  # and it comes near: a bound of 0 would never be wrong either


def test_the_bound_stays_below_what_gaussian_noise_spends() -> None:
    """N(1, s) against N(0, s): the likelihood ratio is unbounded, delta caps it (Balle & Wang 2018)."""
    sigma, delta, epsilon = 1.0, 0.05, 2.0
    exact = norm.sf(epsilon * sigma - 0.5 / sigma) - math.exp(epsilon) * norm.sf(
        epsilon * sigma + 0.5 / sigma
    )
    assert exact < delta  # (2, 0.05) holds
    rng = np.random.default_rng(9)
    above = sum(
        lower_bound(rng.normal(1, sigma, 500), rng.normal(0, sigma, 500), delta=delta).epsilon
        > epsilon
        for _ in range(100)
    )
    assert above <= 5


def test_the_bound_from_one_training_by_hand() -> None:
    inside = np.arange(80) % 2 == 0
    found = one_run_bound(inside.astype(float), inside)
    # All 80 guessed rightly: p is at least (0.05 / 4) ** (1 / 80), for four numbers of guesses.
    p = (0.05 / LOOKS) ** (1 / 80)
    assert found.epsilon == pytest.approx(math.log(p / (1 - p)))
    assert (found.right, found.made, found.looked) == (80, 80, 4)
    assert one_run_bound(-inside.astype(float), inside).epsilon == 0
    assert one_run_bound(np.arange(3.0), np.array([False, True, True])).made <= 2


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("shared", [False, True])
def test_the_bound_from_one_training_holds_however_canaries_depend(epsilon, shared) -> None:
    """Randomised response per canary; ``shared``: at half of the trainings all answers are lost at once."""
    rng = np.random.default_rng(10)
    honest, above, best = math.exp(epsilon) / (1 + math.exp(epsilon)), 0, 0.0
    for _ in range(200):
        inside = rng.random(300) < 0.5
        scores = np.where(rng.random(300) < honest, inside, ~inside) + rng.normal(0, 0.1, 300)
        if shared and rng.random() < 0.5:
            scores = rng.normal(size=300)
        found = one_run_bound(scores, inside).epsilon
        above, best = above + (found > epsilon), max(best, found)
    assert above <= 0.05 * 200
    assert best >= 0.5 * epsilon


@CALM
@given(SCORES, st.randoms())
def test_guessing_shows_no_more_than_guessing_everything_rightly(scores, random) -> None:
    inside = np.array([random.random() < 0.5 for _ in scores])
    p = (0.05 / LOOKS) ** (1 / (2 * (len(scores) // 2)))
    most = max(0.0, math.log(p / (1 - p)))
    assert 0 <= one_run_bound(scores, inside).epsilon <= most + 1e-9
