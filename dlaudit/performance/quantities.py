"""How far predicted quantities lie off, over everybody: arrays in, numbers out.

Knows truths and predictions, (n,); refuses to call an error of one unit large or small.
"""

from __future__ import annotations

import numpy as np


def root_mean_squared(truth: np.ndarray, said: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R, n) how often each row counts -> (R,), in the target's own units."""
    squares = (said - truth) ** 2
    error: np.ndarray = np.sqrt(weights @ squares / weights.sum(axis=1))
    return error


def explained(truth: np.ndarray, said: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R, n) -> (R,): R² = 1 - squared errors / squared distances to the mean; NaN where all are equal."""
    n = weights.sum(axis=1)
    centred = truth - truth.mean()  # for the digits' sake: large targets far from 0
    mean = weights @ centred / n
    spread = weights @ centred**2 - n * mean**2
    errors = weights @ (said - truth) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        value: np.ndarray = np.where(
            spread > 1e-12 * np.square(centred).sum(), 1 - errors / spread, np.nan
        )
    return value
