"""The one door to XGBoost, an extra: its classifier, on one thread.

Knows how to make it; refuses to be imported before it is asked for.
"""

from __future__ import annotations

from typing import Any


def classifier(seed: int) -> Any:
    """An unfitted classifier in scikit-learn's form; raises ImportError where XGBoost is missing."""
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=200, learning_rate=0.1, n_jobs=1, random_state=seed)
