"""Statistics of one class's features that a small poisoned part betrays; arrays in, numbers out.

Knows rows of features; never a model, a label's meaning or a threshold. Written from the papers'
equations: spectral signatures (Tran et al. 2018), activation clustering (Chen et al. 2018), QUE after
robust covariance (SPECTRE, Hayase et al. 2021), SCAn's likelihood ratio (Tang et al. 2021).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ALPHA = 4.0
"""How sharply QUE looks at the directions of excess variance (Hayase et al. 2021)."""
MOST_DIMENSIONS = 16
"""Principal components that robust statistics keep: of more, covariances are noise."""
ROBUST_ROWS = 500
"""Rows that the minimum covariance determinant is fitted on, drawn at random where there are more."""
SMALL_SHARE, SILHOUETTE = 0.35, 0.1
"""Activation clustering calls a cluster suspicious below so large a share, told apart so clearly."""


def spectral_signatures(h: np.ndarray) -> np.ndarray:
    """((h - mean) v1)^2 with the first right singular vector; h: (n, d) -> (n,)."""
    centred = h - h.mean(axis=0)
    first = np.linalg.svd(centred, full_matrices=False)[2][0]
    scores: np.ndarray = (centred @ first) ** 2
    return scores


class Clusters(NamedTuple):
    """Two clusters of a class. small: (n,) bool, the smaller one; silhouette in [-1, 1]."""

    small: np.ndarray
    silhouette: float

    @property
    def suspicious(self) -> bool:
        """The published criterion: a small cluster that stands apart. Two-humped classes meet it too."""
        return bool(self.small.mean() < SMALL_SHARE and self.silhouette > SILHOUETTE)


def activation_clusters(h: np.ndarray, rng: np.random.Generator) -> Clusters:
    """2-means of the first ten principal components; h: (n, d), n >= 3."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    reduced = Basis.of(h, most=10).on(h)
    seed = int(rng.integers(2**31))
    if len(np.unique(reduced, axis=0)) < 2:
        return Clusters(np.zeros(len(h), dtype=bool), 0.0)
    label = KMeans(2, n_init=4, random_state=seed).fit_predict(reduced)
    small = label == (label.mean() < 0.5)
    if not 0 < small.sum() < len(h):
        return Clusters(np.zeros(len(h), dtype=bool), 0.0)
    chosen = rng.permutation(len(h))[:1000]
    if len(set(label[chosen])) < 2:
        chosen = np.arange(len(h))
    return Clusters(small, float(silhouette_score(reduced[chosen], label[chosen])))


class Basis(NamedTuple):
    """Principal axes of some rows. centre: (d,); axes: (d, k)."""

    centre: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, h: np.ndarray, *, most: int = MOST_DIMENSIONS) -> Basis:
        """At most ``most`` axes, those without variance left out; a tenth of the rows at most."""
        centre = h.mean(axis=0)
        _, size, axes = np.linalg.svd(h - centre, full_matrices=False)
        keep = int((size > 1e-6 * max(float(size[0]), 1e-12)).sum()) if len(size) else 0
        keep = max(1, min(keep, most, max(2, len(h) // 10)))
        return cls(centre, axes[:keep].T)

    def on(self, h: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, k)."""
        turned: np.ndarray = (h - self.centre) @ self.axes
        return turned


class Whitening(NamedTuple):
    """A robust centre and spread. white(h): (n, d) -> (n, k), unit covariance of the honest part."""

    basis: Basis
    centre: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, h: np.ndarray, rng: np.random.Generator) -> Whitening:
        """By the minimum covariance determinant (Rousseeuw 1984) of the principal components.

        Where most rows have the same features (a tree's leaves), half of them spread nowhere: median and
        plain covariance then. Trusted rows calibrate whatever is scored with it, so that only power is lost.
        """
        import warnings

        from sklearn.covariance import MinCovDet

        basis = Basis.of(h)
        z = basis.on(h)
        rows = rng.permutation(len(z))[:ROBUST_ROWS]
        seed = int(rng.integers(2**31))
        with warnings.catch_warnings():
            # Of features with many ties the subset's covariance is singular: floored below.
            warnings.simplefilter("ignore")
            try:
                fitted = MinCovDet(random_state=seed, support_fraction=0.75).fit(z[rows])
                centre, spread = fitted.location_, fitted.covariance_
            except ValueError:
                centre, spread = np.median(z, axis=0), np.atleast_2d(np.cov(z, rowvar=False))
        values, vectors = np.linalg.eigh(spread)
        floor = 1e-4 * max(float(values[-1]), 1e-12)
        return cls(basis, centre, vectors / np.sqrt(np.maximum(values, floor)))

    def white(self, h: np.ndarray) -> np.ndarray:
        """Rows in units of the honest part's spread."""
        turned: np.ndarray = (self.basis.on(h) - self.centre) @ self.scale
        return turned


def quantum_entropy(white: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
    """tau_i = z Q z / tr Q, Q = exp(alpha (S - I) / (|S| - 1)), S the covariance of ``fitted_on``.

    white, fitted_on: (n, k) and (m, k), robustly whitened; S exceeds 1 where a hidden part lies. Where
    it exceeds 1 nowhere, Q is the identity and the score the squared length over k.
    """
    excess = np.cov(fitted_on, rowvar=False, bias=True).reshape(white.shape[1], -1)
    values, vectors = np.linalg.eigh(excess)
    most = float(values[-1])
    weights = np.exp(ALPHA * (values - 1) / (most - 1)) if most > 1 + 1e-9 else np.ones_like(values)
    weights = weights / weights.max()
    scores: np.ndarray = ((white @ vectors) ** 2 @ weights) / weights.sum()
    return scores


class Split(NamedTuple):
    """Two components of a class. statistic: of the likelihood-ratio test; side: (k,), 0 without."""

    statistic: float
    direction: np.ndarray
    middle: np.ndarray
    p: float

    def towards(self, white: np.ndarray) -> np.ndarray:
        """How far rows lie towards the smaller component: (n,)."""
        side: np.ndarray = (white - self.middle) @ self.direction
        return side


def two_components(white: np.ndarray) -> tuple[float, np.ndarray]:
    """(J, small): twice the log likelihood ratio of two means against one, unit covariance.

    J = n1 n2 / n |m1 - m2|^2 (the between-groups sum of squares), small: (n,) bool. Found from the
    split along the direction of largest variance, then by reassigning rows to the nearer mean.
    """
    centred = white - white.mean(axis=0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    along = centred @ axis
    # From the longer tail: a small hidden part sits there, and 2-means from the middle cuts in halves.
    along = along if (along**3).sum() >= 0 else -along
    best, small = 0.0, np.zeros(len(white), dtype=bool)
    for share in (0.01, 0.05, 0.25, 0.5):
        one = along >= np.quantile(along, 1 - share)
        for _ in range(10):
            if not 0 < one.sum() < len(white):
                break
            means = white[one].mean(axis=0), white[~one].mean(axis=0)
            again = ((white - means[0]) ** 2).sum(1) < ((white - means[1]) ** 2).sum(1)
            if (again == one).all():
                break
            one = again
        n1 = int(one.sum())
        if 0 < n1 < len(white):
            apart = white[one].mean(axis=0) - white[~one].mean(axis=0)
            value = n1 * (len(white) - n1) / len(white) * float(apart @ apart)
            if value > best:
                best, small = value, one if 2 * n1 <= len(white) else ~one
    return best, small


def scan_split(white: np.ndarray, rng: np.random.Generator, *, permutations: int = 19) -> Split:
    """SCAn's test of two components against one, with a p-value by permutation.

    Each coordinate is permuted by itself: the marginals stay, a part that is apart in several
    coordinates at once goes. p = (1 + hits) / (1 + permutations).
    """
    value, small = two_components(white)
    hits = 0
    for _ in range(permutations):
        shuffled = rng.permuted(white, axis=0)
        hits += two_components(shuffled)[0] >= value
    p = (1 + hits) / (1 + permutations)
    if not small.any():
        return Split(value, np.zeros(white.shape[1]), white.mean(axis=0), p)
    means = white[small].mean(axis=0), white[~small].mean(axis=0)
    apart = means[0] - means[1]
    length = float(np.linalg.norm(apart)) or 1.0
    return Split(value, apart / length, (means[0] + means[1]) / 2, p)
