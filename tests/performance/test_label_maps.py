"""Intersection over union: by hand, by scikit-learn's Jaccard index, for whatever is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import accuracy_score, jaccard_score

from dlaudit.performance.label_maps import counts, iou, pixel_accuracy
from dlaudit.performance.resampling import mean_of_present, over_rows


def test_by_hand():
    truth = np.array([[[0, 0], [1, -1]], [[1, 1], [1, 1]]])
    said = np.array([[[0, 1], [1, 1]], [[1, 1], [0, 0]]])
    held = counts(truth, said, 3)
    # The pixel that does not count is nowhere. Class 0: 1 of 4 - 1 + 1; class 1: 3 of 6.
    assert held[0].tolist() == [[1, 1, 0], [1, 2, 0], [2, 1, 0]]
    values = iou(held.sum(axis=0))
    assert values[:2] == pytest.approx([1 / 4, 3 / 6])
    assert np.isnan(values[2])
    assert pixel_accuracy(held.sum(axis=0)) == pytest.approx(4 / 7)


MAPS = arrays.arrays(int, (3, 4, 5), elements=st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(truth=MAPS, said=MAPS, void=arrays.arrays(bool, (3, 4, 5)), order=st.permutations(range(3)))
def test_as_scikit_learn_has_it(truth, said, void, order):
    truth = np.where(void, -1, truth)
    held = counts(truth, said, 4)
    inside = truth >= 0
    if not inside.any():
        assert np.isnan(pixel_accuracy(held.sum(axis=0)))
        return
    right, given_ = truth[inside], said[inside]
    values = iou(held.sum(axis=0))
    present = np.union1d(right, given_)
    assert values[present] == pytest.approx(
        jaccard_score(right, given_, labels=present, average=None)
    )
    assert np.isnan(np.delete(values, present)).all()
    assert pixel_accuracy(held.sum(axis=0)) == pytest.approx(accuracy_score(right, given_))
    moved = counts(truth[order], said[order], 4).sum(axis=0)
    assert (moved == held.sum(axis=0)).all()
    perfect = iou(counts(truth, np.where(truth < 0, 0, truth), 4).sum(axis=0))
    assert set(perfect[np.isfinite(perfect)]) == {1.0}


@pytest.mark.slow
def test_the_interval_of_mean_iou_holds_where_pixels_of_a_picture_depend_on_each_other():
    """Pictures are hard or easy as a whole; pixels taken for samples would give intervals far too narrow."""

    def drawn(n: int, seed: int):
        rng = np.random.default_rng(seed)
        truth = (rng.random((n, 12, 12)) < rng.beta(2, 3, (n, 1, 1))).astype(int)
        wrong = rng.random((n, 12, 12)) < rng.beta(1, 5, (n, 1, 1))
        return counts(truth, np.where(wrong, 1 - truth, truth), 2)

    def statistic(held):
        flat = held.reshape(len(held), -1)
        return lambda w: mean_of_present(iou((w @ flat).reshape(len(w), 3, 2)))

    true = statistic(drawn(20_000, 1))(np.ones((1, 20_000)))[0]
    hits, widths = [], []
    for seed in range(150):
        interval = over_rows(
            statistic(drawn(60, 1000 + seed)), 60, np.random.default_rng(seed), resamples=300
        )
        hits.append(interval.low <= true <= interval.high)
        widths.append(interval.high - interval.low)
    assert np.mean(hits) > 0.91
    assert np.mean(widths) > 0.05, "a binomial interval of 8,640 pixels would be 0.02 wide"
