"""The one door to scikit-learn: neighbours, a learner of labels and one that tells two samples apart.

Knows how to cross-fit; refuses to judge a row by a learner that has seen it, and refuses scikit-learn's
global randomness.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FOLDS = 5
ROUNDS = 60
SPACE = 15
"""In more dimensions a tree of cells is slower than looking at all pairs."""


class Folded(NamedTuple):
    """chances: (n, K), each row by a learner that has not seen it; fold: (n,) int."""

    chances: np.ndarray
    fold: np.ndarray


def nearest(queries: np.ndarray, points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and places (m, k) of the k nearest points of each query, nearest first."""
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    method = "kd_tree" if points.shape[1] <= SPACE else "brute"
    with threadpool_limits(1):
        found = NearestNeighbors(n_neighbors=k, algorithm=method).fit(points)
        places = found.kneighbors(queries, return_distance=False)
    # The expansion of the square that "brute" uses has lost what lies below a thousandth.
    away = points[places].astype(np.float64) - queries[:, None].astype(np.float64)
    return np.linalg.norm(away, axis=2), places


def chances(
    values: np.ndarray, codes: np.ndarray, rng: np.random.Generator, *, linear: bool = False
) -> Folded:
    """Out-of-fold probabilities of codes from columns, by boosted trees or a logistic regression.

    values: (n, F), NaN in gaps; codes: (n,) int 0..K-1, each ``FOLDS`` times at least. One thread: several
    on a busy machine wait for each other longer than the work takes.
    """
    from sklearn.model_selection import StratifiedKFold
    from threadpoolctl import threadpool_limits

    found = np.zeros((len(codes), int(codes.max()) + 1))
    fold = np.zeros(len(codes), dtype=np.int64)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
    with threadpool_limits(1):
        for number, (seen, unseen) in enumerate(folds.split(values, codes)):
            learner = _learner(linear, int(rng.integers(2**31))).fit(values[seen], codes[seen])
            found[unseen] = learner.predict_proba(values[unseen])
            fold[unseen] = number
    return Folded(found, fold)


def _learner(linear: bool, seed: int):  # type: ignore[no-untyped-def]  # noqa: ANN202, FBT001
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if linear:
        return make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000))
    return HistGradientBoostingClassifier(
        max_iter=ROUNDS,
        max_leaf_nodes=15,
        min_samples_leaf=10,
        early_stopping=False,
        random_state=seed,
    )
