"""Intervals of metrics that are no mean: rows are drawn again, and whatever belongs to a row goes with it.

Knows weights per row; never what a row holds, and never a metric.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL, bootstrap, wilson

Statistic = Callable[[np.ndarray], np.ndarray]
"""(R, n) how often each row was drawn -> (R,) the metric; NaN where it does not exist."""


def over_rows(
    statistic: Statistic, n: int, rng: np.random.Generator, *, resamples: int, level: float = LEVEL
) -> Interval | None:
    """BCa interval of a metric of n rows; None where every resample gives the same.

    The row is the unit: the labels of one sample, the pixels or the objects of one picture are drawn
    together, because they depend on each other.
    """

    def of_positions(chosen: np.ndarray, axis: int = -1) -> np.ndarray:
        del axis
        if chosen.ndim == 1:
            return statistic(np.bincount(chosen, minlength=n)[None].astype(np.float64))[0]  # type: ignore[no-any-return]
        weights = np.stack([np.bincount(one, minlength=n) for one in chosen]).astype(np.float64)
        return statistic(weights)

    return bootstrap([np.arange(n)], of_positions, rng, level=level, resamples=resamples)


def all_or_nothing(value: float, rows: int, level: float = LEVEL) -> Interval | None:
    """Interval of a metric in [0, 1] that is 0 or 1 in every row that counts; None for other values.

    No resample can tell how rare a worse (or better) row is, so rows are taken as wholly right or wholly
    wrong, and their share has Wilson's interval: a bound where no row counts for more than the others.
    """
    if rows < 1 or min(abs(value), abs(1 - value)) > 1e-12:
        return None
    share = wilson(rows if value > 0.5 else 0, rows, level)
    return Interval(low=share.low, high=share.high, level=level, method="wilson-rows")


def mean_of_present(values: np.ndarray) -> np.ndarray:
    """(R, C) -> (R,): the mean over the classes that have a value; NaN where none has."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: np.ndarray = np.where(there, values, 0.0).sum(axis=1) / there.sum(axis=1)
    return mean
