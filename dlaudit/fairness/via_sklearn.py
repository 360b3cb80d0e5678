"""The one door to scikit-learn's learners: how well an attribute can be predicted from columns.

Knows how to cross-validate one classifier; refuses to score a sample by a learner that has seen it,
and refuses scikit-learn's global randomness.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FOLDS = 5
ROUNDS = 60
REPEATS = 3


class Predicted(NamedTuple):
    """chances: (n, G) probability of each group, each row by a learner that has not seen it.

    importance: (F,) what the mean AUC over groups loses if a column is shuffled among the unseen.
    """

    chances: np.ndarray
    importance: np.ndarray


def predict(values: np.ndarray, codes: np.ndarray, rng: np.random.Generator) -> Predicted:
    """Predict group codes from columns by five-fold cross-validation of boosted trees.

    values: (n, F), NaN in gaps; codes: (n,) int 0..G-1, each at least five times. One thread: several
    on a busy machine wait for each other longer than the work takes.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="openmp"):
        return _predicted(values, codes, rng)


def _predicted(values: np.ndarray, codes: np.ndarray, rng: np.random.Generator) -> Predicted:
    """See ``predict``."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold

    groups = int(codes.max()) + 1
    chances = np.zeros((len(codes), groups))
    losses = np.zeros(values.shape[1])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
    for seen, unseen in folds.split(values, codes):
        learner = HistGradientBoostingClassifier(
            max_iter=ROUNDS, max_leaf_nodes=15, min_samples_leaf=10, early_stopping=False,
            random_state=int(rng.integers(2**31)),
        ).fit(values[seen], codes[seen])  # fmt: skip
        chances[unseen] = learner.predict_proba(values[unseen])
        whole = _mean_auc(chances[unseen], codes[unseen])
        for column in range(values.shape[1]):
            for _ in range(REPEATS):
                shuffled = values[unseen].copy()
                shuffled[:, column] = rng.permutation(shuffled[:, column])
                found = _mean_auc(learner.predict_proba(shuffled), codes[unseen])
                losses[column] += (whole - found) / (FOLDS * REPEATS)
    return Predicted(chances, losses)


def _mean_auc(chances: np.ndarray, codes: np.ndarray) -> float:
    """The mean over groups of the AUC of one group against the rest."""
    from sklearn.metrics import roc_auc_score

    return float(
        np.mean(
            [roc_auc_score(codes == group, chances[:, group]) for group in range(chances.shape[1])]
        )
    )
