"""F1 and average precision: by hand, by scikit-learn, for whatever is drawn; and how often intervals hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score, f1_score

from dlaudit.audit.statistics import wilson
from dlaudit.performance.label_sets import Ranked, counts, f1, f1_interval
from dlaudit.performance.resampling import all_or_nothing, mean_of_present, over_rows


def test_by_hand():
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=bool)
    said = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0]], dtype=bool)
    held = counts(truth, said)
    assert held.shape == (3, 3, 3)
    assert held.sum(axis=0).tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]
    values = f1(held.sum(axis=0))
    assert values[:2] == pytest.approx([2 / 3, 4 / 5])
    assert np.isnan(values[2]), "nobody has it and nobody is given it: 0/0, and not 0"
    assert mean_of_present(values[None])[0] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert np.isnan(mean_of_present(np.full((1, 2), np.nan))[0])


def test_average_precision_by_hand_with_a_tie():
    # Scores .9 (has it), .5 twice (one has it), .1 (has it): P = 1, 2/3, 3/4, each at a third of recall.
    ranked = Ranked(np.array([1, 0, 1, 1], bool), np.array([0.9, 0.5, 0.5, 0.1]))
    once = ranked.average_precision(np.ones((1, 4)))
    assert once == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    twice = ranked.average_precision(np.array([[2.0, 0, 0, 1]]))
    assert twice == pytest.approx(1.0), "the rows that are drawn alone decide"
    assert np.isnan(ranked.average_precision(np.array([[0.0, 1, 0, 0]])))


LABELS = arrays.arrays(bool, (9, 3))


@settings(max_examples=60, deadline=None)
@given(
    truth=LABELS, said=LABELS,
    score=arrays.arrays(float, 9, elements=st.sampled_from([0, 0.25, 0.5, 1])),
)  # fmt: skip
def test_as_scikit_learn_has_it(truth, said, score):
    values = f1(counts(truth, said).sum(axis=0))
    theirs = f1_score(truth, said, average=None, zero_division=np.nan)
    assert values == pytest.approx(theirs, nan_ok=True)
    summed = counts(truth, said).sum(axis=(0, 2))
    micro = f1(summed[:, None])[0]
    assert micro == pytest.approx(
        f1_score(truth, said, average="micro", zero_division=np.nan), nan_ok=True
    )
    if truth[:, 0].any():
        ranked = Ranked(truth[:, 0], score)
        assert ranked.average_precision(np.ones((1, 9)))[0] == pytest.approx(
            average_precision_score(truth[:, 0], score)
        )


@settings(max_examples=60, deadline=None)
@given(
    truth=arrays.arrays(bool, 9).filter(np.any),
    score=arrays.arrays(float, 9, elements=st.floats(0, 1)),
    weights=arrays.arrays(int, 9, elements=st.integers(0, 3)),
    order=st.permutations(range(9)),
)
def test_weights_are_rows_that_stand_there_so_often(truth, score, weights, order):
    ranked = Ranked(truth, score)
    drawn = ranked.average_precision(weights[None].astype(float))[0]
    copied = np.repeat(np.arange(9), weights)
    if truth[copied].any():
        again = Ranked(truth[copied], score[copied])
        assert drawn == pytest.approx(again.average_precision(np.ones((1, len(copied))))[0])
    else:
        assert np.isnan(drawn)
    whole = ranked.average_precision(np.ones((1, 9)))[0]
    moved = Ranked(truth[order], score[order])
    assert moved.average_precision(np.ones((1, 9)))[0] == pytest.approx(whole)
    perfect = Ranked(truth, truth.astype(float))
    assert perfect.average_precision(np.ones((1, 9)))[0] == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize(("recall", "rate"), [(0.9, 0.3), (0.6, 0.1), (0.98, 0.5)])
def test_the_interval_of_one_labels_f1_holds(recall, rate):
    rng = np.random.default_rng(5)
    has = rng.random((1500, 200)) < rate
    said = np.where(has, rng.random(has.shape) < recall, rng.random(has.shape) < 0.05)
    union = rate + (1 - rate) * 0.05
    share = rate * recall / union
    true = 2 * share / (1 + share)
    inside = 0
    for row in range(len(has)):
        summed = counts(has[row][:, None], said[row][:, None]).sum(axis=0)[:, 0]
        interval = f1_interval(summed)
        inside += interval.low <= true <= interval.high
    assert inside / len(has) > 0.93


@pytest.mark.slow
def test_the_intervals_of_macro_f1_and_of_average_precision_hold():
    """Three labels that depend on each other, 120 rows; the truth is that of 400,000 rows."""

    def drawn(n: int, seed: int):
        rng = np.random.default_rng(seed)
        common = rng.normal(size=(n, 1))
        truth = common + rng.normal(size=(n, 3)) > np.array([0.3, 0.8, 1.2])
        score = 1 / (1 + np.exp(-(1.5 * truth - 0.7 + 0.4 * common + rng.normal(size=(n, 3)))))
        return truth, score

    def macro(truth, score):
        held = counts(truth, score >= 0.5).reshape(len(truth), -1)
        return lambda w: mean_of_present(f1((w @ held).reshape(len(w), 3, 3)))

    def precision(truth, score):
        return Ranked(truth[:, 1], score[:, 1]).average_precision

    for made in (macro, precision):
        many = 100_000
        true = made(*drawn(many, 1))(np.ones((1, many)))[0]
        held = []
        for seed in range(150):
            interval = over_rows(
                made(*drawn(120, 1000 + seed)), 120, np.random.default_rng(seed), resamples=300
            )
            held.append(interval.low <= true <= interval.high)
        assert np.mean(held) > 0.91, made.__name__


def test_where_no_resample_differs_rows_are_wholly_right_or_wholly_wrong():
    assert all_or_nothing(0.99, 50) is None
    assert all_or_nothing(1.0, 0) is None
    for value in (0.0, 1.0):
        interval = all_or_nothing(value, 50)
        expected = wilson(int(50 * value), 50)
        assert (interval.low, interval.high) == (expected.low, expected.high)
        assert interval.high > interval.low


@pytest.mark.slow
def test_near_perfection_micro_f1_is_inside_its_interval():
    """One row in fifty is wrong: of 40 rows none often is, and the resamples would see no doubt at all."""

    def drawn(n: int, seed: int):
        rng = np.random.default_rng(seed)
        truth = rng.random((n, 3)) < 0.4
        return counts(truth, truth ^ (rng.random((n, 1)) < 0.02)).sum(axis=2)

    def statistic(held):
        return lambda w: f1((w @ held)[:, :, None])[:, 0]

    true = statistic(drawn(200_000, 1))(np.ones((1, 200_000)))[0]
    hits, perfect = [], 0
    for seed in range(300):
        held = drawn(40, 1000 + seed)
        value = statistic(held)(np.ones((1, 40)))[0]
        interval = all_or_nothing(value, int(held.any(axis=1).sum()))
        perfect += interval is not None
        interval = interval or over_rows(
            statistic(held), 40, np.random.default_rng(seed), resamples=300
        )
        hits.append(interval.low <= true <= interval.high)
    assert perfect > 60
    print(np.mean(hits), perfect)
    assert np.mean(hits) > 0.9
