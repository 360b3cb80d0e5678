"""Signs of over-training in a history: validation loss that turns while training loss falls.

Knows series of numbers; refuses the criterion of good or bad, whose place is a rule. Its own criteria
are published ones and are handed out with the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from dlaudit.overfitting.log_reading import Series

LEAST = 10
"""Validation losses that the trend is read from, at least."""
P = 0.05
MISSED = 0.10
"""How far above its best the shipped loss may lie, as a share of the best."""


class Trend(NamedTuple):
    """Kendall's tau of a series against time, and its two-sided p."""

    tau: float
    p: float
    n: int

    @property
    def rises(self) -> bool:
        """Whether it rises, beyond chance."""
        return self.tau > 0 and self.p < P

    @property
    def falls(self) -> bool:
        """Whether it falls, beyond chance."""
        return self.tau < 0 and self.p < P


def window(n: int) -> int:
    """How many of n values the trend is read from: the last third, ``LEAST`` at least."""
    return max(LEAST, math.ceil(n / 3))


def trend(values: Sequence[float]) -> Trend | None:
    """The trend of finite values in order (Kendall 1938); None where all are equal or too few."""
    from scipy.stats import kendalltau

    if len(values) < LEAST or min(values) == max(values):
        return None
    found = kendalltau(range(len(values)), values)
    return Trend(float(found.statistic), float(found.pvalue), len(values))


def finite(series: Series) -> Series:
    """The series without what is not finite."""
    kept = [
        (at, value)
        for at, value in zip(series.at, series.values, strict=True)
        if math.isfinite(value)
    ]
    return Series([at for at, _ in kept], [value for _, value in kept])


def best(series: Series) -> tuple[float, float]:
    """Where the smallest finite value stands, and the value; the first of equal ones."""
    value, at = min(zip(series.values, series.at, strict=True))
    return at, value


def not_finite(series: Series) -> list[float]:
    """Where the values are NaN or infinite."""
    return [
        at for at, value in zip(series.at, series.values, strict=True) if not math.isfinite(value)
    ]


def diverged(series: Series) -> list[float]:
    """Where the loss is above what it was at the beginning: worse than having learned nothing since."""
    whole = finite(series)
    if not whole.at:
        return []
    first = whole.values[0]
    return [at for at, value in zip(whole.at, whole.values, strict=True) if value > first]
