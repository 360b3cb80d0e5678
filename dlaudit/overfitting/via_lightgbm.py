"""The one door to LightGBM, an extra: its classifier, on one thread.

Knows how to make it; refuses to be imported before it is asked for.
"""

from __future__ import annotations

from typing import Any


def classifier(seed: int) -> Any:
    """An unfitted classifier in scikit-learn's form; raises ImportError where LightGBM is missing."""
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        n_estimators=200, learning_rate=0.1, n_jobs=1, random_state=seed, verbose=-1,
        deterministic=True, force_row_wise=True,
    )  # fmt: skip
