"""The one door to scikit-learn's learners: classical models trained on flat features.

Knows how to fit one by name on a matrix and hand back what it decides; refuses to see the test rows
before it is fitted, and refuses scikit-learn's global randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

COMPONENTS = 50
"""Principal components that stand for pictures: more than a few dozen change little."""
MISSING = -1.0

Predict = Callable[[np.ndarray], np.ndarray]


def fitted(
    method: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, *, compressed: bool
) -> Predict:
    """A learner fitted on (n, F) features and (n,) classes; what it returns decides on (m, F).

    method: ``gradient boosting``, ``logistic regression``, or an extra's name. compressed: features are
    pixels: their principal components are learned from. One thread, so that the numbers do not depend
    on the machine.
    """
    from threadpoolctl import threadpool_limits

    seed = int(rng.integers(2**31))
    known, y = np.unique(y, return_inverse=True)
    with threadpool_limits(1):
        model = _pipeline(method, x, seed, compressed=compressed)
        model.fit(x, y)

    def predict(rows: np.ndarray) -> np.ndarray:
        with threadpool_limits(1):
            decided: np.ndarray = known[np.asarray(model.predict(rows), dtype=np.int64)]
        return decided

    return predict


def _pipeline(method: str, x: np.ndarray, seed: int, *, compressed: bool) -> Any:
    """The learner and what prepares its features, all of it fitted on the training rows."""
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps: list[Any] = []
    if compressed and x.shape[1] > COMPONENTS:
        most = min(COMPONENTS, len(x))
        steps.append(PCA(most, svd_solver="randomized", random_state=seed))
    if method == "logistic regression":
        steps += [SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()]
        steps.append(LogisticRegression(max_iter=2000))
    else:
        steps.append(_boosted(method, seed))
    return make_pipeline(*steps)


def _boosted(method: str, seed: int) -> Any:
    """Boosted trees of scikit-learn, or of an extra behind its own door."""
    if method == "gradient boosting":
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(
            max_iter=200, early_stopping=True, validation_fraction=0.1, n_iter_no_change=10,
            random_state=seed,
        )  # fmt: skip
    if method == "xgboost":
        from dlaudit.overfitting.via_xgboost import classifier

        return classifier(seed)
    from dlaudit.overfitting.via_lightgbm import classifier as light

    return light(seed)
