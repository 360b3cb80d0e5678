"""Statistics of features: cases by hand, independent implementations, planted parts and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlaudit.backdoors.latent import (
    Basis,
    Whitening,
    activation_clusters,
    quantum_entropy,
    scan_split,
    spectral_signatures,
    two_components,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def planted(share=0.02, n=500, d=6, apart=6.0, seed=0):
    """Rows of a normal cloud, a few of them moved along the last axis; and which."""
    h = rng(seed).standard_normal((n, d))
    bad = np.arange(n) < round(share * n)
    h[bad, -1] += apart
    return h, bad


def auc(score, bad):
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(bad, score)


def test_spectral_signatures_by_hand():
    """Four points on a line: the mean is 0, the scores are the squares."""
    h = np.array([[-3.0, 0], [-1, 0], [1, 0], [3, 0]])
    assert spectral_signatures(h) == pytest.approx([9, 1, 1, 9])


def test_spectral_signatures_are_the_first_principal_component_squared():
    from sklearn.decomposition import PCA

    h = rng().standard_normal((50, 4)) * [4, 2, 1, 1]
    other = PCA(1).fit_transform(h)[:, 0] ** 2
    assert spectral_signatures(h) == pytest.approx(other)


def test_two_components_by_hand():
    """{0, 0, 0, 4}: J = 1 * 3 / 4 * 16 = 12, and the lone row is the small component."""
    value, small = two_components(np.array([[0.0], [0], [0], [4]]))
    assert value == pytest.approx(12)
    assert small.tolist() == [False, False, False, True]


def test_two_components_are_two_means_where_scikit_learn_finds_them():
    from sklearn.cluster import KMeans

    white, _ = planted(share=0.3, apart=8)
    fitted = KMeans(2, n_init=5, random_state=0).fit(white)
    total = ((white - white.mean(0)) ** 2).sum()
    assert two_components(white)[0] == pytest.approx(total - fitted.inertia_, rel=1e-6)


def test_two_components_of_equal_rows_are_none():
    value, small = two_components(np.ones((5, 2)))
    assert value == 0
    assert not small.any()


def test_a_hidden_part_has_a_small_p_and_a_plain_cloud_has_not():
    """Apart in several coordinates at once: what a permutation of each coordinate destroys."""
    cloud = rng(1).standard_normal((400, 4))
    hidden = cloud.copy()
    hidden[:20] += 3
    assert scan_split(hidden, rng()).p == 0.05
    assert scan_split(cloud, rng()).p > 0.1
    split = scan_split(hidden, rng())
    assert auc(split.towards(hidden), np.arange(400) < 20) > 0.99


def test_quantum_entropy_by_hand():
    """S = diag(1, 3): Q = diag(exp(4 * 0 / 2), exp(4 * 2 / 2)) = diag(1, e^4), trace 1 + e^4."""
    fitted = np.array([[1, 0], [-1, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [0, 1], [0, -1.0]])
    fitted = fitted * np.sqrt([2, 6])  # mean squares 1 and 3
    white = np.array([[1.0, 0], [0, 1], [2, 2]])
    e4 = np.exp(4)
    expected = np.array([1, e4, 4 + 4 * e4]) / (1 + e4)
    assert quantum_entropy(white, fitted) == pytest.approx(expected)


def test_quantum_entropy_is_that_of_the_matrix_exponential():
    from scipy.linalg import expm

    white, _ = planted()
    s = np.cov(white, rowvar=False, bias=True)
    q = expm(4 * (s - np.eye(6)) / (np.linalg.norm(s, 2) - 1))
    other = np.einsum("ni,ij,nj->n", white, q, white) / np.trace(q)
    assert quantum_entropy(white, white) == pytest.approx(other)


def test_without_excess_variance_it_is_the_squared_length():
    white = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
    assert quantum_entropy(white, white) == pytest.approx([0.125] * 4)


def test_a_part_of_two_percent_is_ranked_first_and_the_twin_spreads_evenly():
    """The clean twin: rows marked at random are ranked like the others."""
    h, bad = planted()
    white = Whitening.of(h, rng()).white(h)
    assert auc(quantum_entropy(white, white), bad) > 0.97
    twin, _ = planted(apart=0)
    white = Whitening.of(twin, rng()).white(twin)
    assert 0.2 < auc(quantum_entropy(white, white), bad) < 0.8


def test_whitening_is_not_moved_by_the_part_that_hides():
    """The robust spread is that of the honest rows: the moved ones stay far out."""
    h, bad = planted(share=0.1, apart=10)
    white = Whitening.of(h, rng()).white(h)
    assert (white[bad] ** 2).sum(1).mean() > 5 * (white[~bad] ** 2).sum(1).mean()


def test_a_small_tight_cluster_is_suspicious_and_a_cloud_is_not():
    h, bad = planted(share=0.2, apart=12)
    found = activation_clusters(h, rng())
    assert found.suspicious
    assert (found.small == bad).all()
    assert not activation_clusters(rng().standard_normal((300, 12)), rng()).suspicious


def test_equal_rows_make_one_cluster():
    alike = activation_clusters(np.ones((20, 3)), rng())
    assert not alike.suspicious
    assert not alike.small.any()


def test_a_basis_keeps_lengths_and_leaves_out_what_does_not_vary():
    h = np.zeros((100, 5))
    h[:, 1] = np.arange(100)
    basis = Basis.of(h)
    assert basis.axes.shape == (5, 1)
    assert np.ptp(basis.on(h)) == pytest.approx(99)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_rows_changes_no_score(seed):
    h, _ = planted(n=60, seed=seed)
    order = rng(seed).permutation(60)
    assert spectral_signatures(h)[order] == pytest.approx(spectral_signatures(h[order]))
    assert quantum_entropy(h, h)[order] == pytest.approx(quantum_entropy(h[order], h[order]))
    assert two_components(h)[0] == pytest.approx(two_components(h[order])[0])


def test_features_with_ties_have_a_spread():
    """Leaves of a tree: nine rows in ten at one point, the tenth apart and still the farthest."""
    h = np.zeros((100, 2))
    h[:10] = 1.0
    white = Whitening.of(h, rng()).white(h)
    assert np.isfinite(white).all()
    length = (white**2).sum(1)
    assert length[:10].min() > length[10:].max()
