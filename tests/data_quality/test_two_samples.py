"""Two samples: distances, tests and kernel means beside independent ones; levels by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel

from dlaudit.data_quality import intervals, two_samples


def test_a_number_that_moved_by_hand():
    """Of 0, 1, 2, 3 and 2, 3, 4, 5: the functions are 1/2 apart from 1 to 2; each row moved by 2."""
    one, other = np.arange(4.0), np.arange(4.0) + 2
    found = two_samples.of_numbers(one, other, 0.95)
    assert found.distance == 0.5
    assert found.size == pytest.approx(2 / np.std(one))


def test_gaps_that_are_new_are_a_difference():
    one = np.random.default_rng(0).normal(size=500)
    other = one.copy()
    other[:250] = np.nan
    found = two_samples.of_numbers(one, other, 0.95)
    assert found.distance >= 0.4
    assert found.p < 1e-6


def test_a_category_by_hand_and_against_scipys_definitions():
    one, other = np.repeat([0.0, 1, 2], [50, 30, 20]), np.repeat([0.0, 1, np.nan], [20, 30, 50])
    found = two_samples.of_categories(one, other, 0.95)
    assert found.distance == pytest.approx(0.5)
    p, q = np.array([0, 0.5, 0.3, 0.2]), np.array([0.5, 0.2, 0.3, 0])
    middle = (p + q) / 2
    divergence = (stats.entropy(p, middle, base=2) + stats.entropy(q, middle, base=2)) / 2
    assert found.size == pytest.approx(divergence**0.5)
    expected = stats.chisquare(
        [50, 30, 20, 0, 20, 30, 0, 50], [35, 30, 10, 25, 35, 30, 10, 25], ddof=4
    )
    assert found.p == pytest.approx(expected.pvalue)
    same = two_samples.of_categories(np.ones(5), np.ones(7), 0.95)
    assert (same.distance, same.p, same.size) == (0, 1, 0)


def test_small_samples_are_flagged_by_a_test_and_large_ones_by_size_too():
    rng = np.random.default_rng(0)
    for rows, shift, expected in (
        (500, 0.0, False), (500, 0.5, True), (20_000, 0.05, False), (20_000, 0.2, True),
    ):  # fmt: skip
        one, other = rng.normal(size=rows), rng.normal(size=rows) + shift
        change = two_samples.of_numbers(one, other, 0.95)
        flags, _ = two_samples.flagged([change], rows, 0.01)
        assert flags == [expected], (rows, shift)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_mmd_is_the_unbiased_estimate_written_out(seed):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(12, 3)), rng.normal(size=(9, 3)) + 0.5
    found = two_samples.kernel_means(one, other, rng, permutations=20)
    rows = np.concatenate([one, other])
    width = np.median(cdist(rows, rows, "sqeuclidean")[np.triu_indices(21, 1)])
    xx, yy, xy = (
        rbf_kernel(a, b, gamma=1 / width) for a, b in ((one, one), (other, other), (one, other))
    )
    expected = (xx.sum() - 12) / (12 * 11) + (yy.sum() - 9) / (9 * 8) - 2 * xy.mean()
    assert found.squared == pytest.approx(expected, abs=1e-12)
    assert 1 / 21 <= found.p <= 1


def test_mmd_permutes_all_rows_so_that_it_keeps_its_level_and_finds_a_shift():
    rng = np.random.default_rng(1)
    draws = 200
    same = [
        two_samples.kernel_means(
            rng.normal(size=(30, 2)), rng.normal(size=(40, 2)), rng, permutations=39
        ).p
        for _ in range(draws)
    ]
    hits = sum(p <= 0.05 for p in same)
    assert stats.binomtest(hits, draws, 0.05).pvalue > 0.001
    moved = two_samples.kernel_means(
        rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 1, rng, permutations=99
    )
    assert moved.p == 0.01
    assert (
        two_samples.kernel_means(np.zeros((9, 1)), np.zeros((9, 1)), rng, permutations=20) is None
    )


def folded(rng, n=120, shift=0.0, folds=3):
    y = rng.permutation(np.repeat([0, 1], n // 2))
    scores = rng.normal(size=n) + shift * y
    fold = np.concatenate([np.arange(k.size) % folds for k in (np.flatnonzero(y == 0),)])
    place = np.zeros(n, dtype=int)
    place[y == 0] = fold
    place[y == 1] = np.arange((y == 1).sum()) % folds
    return scores, y, place


def test_the_auc_is_the_mean_of_scikit_learns_over_folds():
    scores, y, fold = folded(np.random.default_rng(0), shift=1.0)
    value, interval = intervals.folded_auc(scores, y, fold)
    each = [roc_auc_score(y[fold == k], scores[fold == k]) for k in range(3)]
    assert value == pytest.approx(np.mean(each))
    assert interval.low < value < interval.high
    perfect = intervals.folded_auc(y.astype(float), y, fold)
    assert perfect[0] == 1
    assert perfect[1].low == pytest.approx(0.94, abs=0.01)
    assert perfect[1].high == 1


def test_the_p_of_the_ranks_keeps_its_level_and_sees_a_difference():
    rng = np.random.default_rng(2)
    draws = 300
    hits = sum(
        two_samples.rank_p(*folded(rng, n=60), rng, permutations=39) <= 0.05 for _ in range(draws)
    )
    assert stats.binomtest(hits, draws, 0.05).pvalue > 0.001
    assert two_samples.rank_p(*folded(rng, shift=1.5), rng, permutations=99) == 0.01
