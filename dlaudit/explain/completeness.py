"""Do the attributions add up to what they explain? Arrays in, numbers out; knows no model.

A path method distributes f(x) - f(baseline) over the input; what is missing in the sum is error.
"""

from __future__ import annotations

import math

import numpy as np

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL

QUANTILE = 0.95
TOLERANCE = 0.05
"""The published bound on the 95th percentile, at which steps are no longer doubled."""
FLOOR = 1e-3
"""Differences below so many standard deviations of the logits are not divided by."""


def errors(sums: np.ndarray, start: np.ndarray, end: np.ndarray, *, spread: float) -> np.ndarray:
    """|sum a - (f(x) - f(b))| / max(|f(x) - f(b)|, 0.001 spread), one per sample.

    sums: (n,) of the attributions; start, end: (n,) the target's logit at the baseline and at the
    input; spread: standard deviation of the logits, > 0.
    """
    difference = end - start
    scale = np.maximum(np.abs(difference), FLOOR * spread)
    missing: np.ndarray = np.abs(sums - difference) / scale
    return missing


def percentile(values: np.ndarray, q: float = QUANTILE) -> float:
    """The q-quantile as an order statistic: the smallest value with a share q at or below it."""
    return float(np.quantile(values, q, method="inverted_cdf"))


def percentile_interval(
    values: np.ndarray, q: float = QUANTILE, level: float = LEVEL
) -> Interval | None:
    """Interval of the q-quantile between two order statistics; no assumption on the distribution.

    The upper end misses with at most (1 - level) / 2 where there are enough samples for that, else
    it is the largest value; what is left of 1 - level bounds the miss of the lower end. None where
    even the largest value misses too often: fewer than 59 samples for q = 0.95 at 95 %.
    """
    from scipy.stats import binom

    n, allowed = len(values), 1 - level
    if n == 0 or q**n > allowed:
        return None
    ordered = np.sort(values)
    # P(X_(r) < quantile) <= P(Bin(n, q) >= r): the upper end misses so often, r counted from 1.
    upper_miss = binom.sf(np.arange(n + 1) - 1, n, q)
    fitting = np.flatnonzero(upper_miss <= allowed / 2)
    upper = int(fitting[0]) if len(fitting) and fitting[0] <= n else n
    left = allowed - float(upper_miss[upper])
    # P(X_(r) > quantile) = P(Bin(n, q) <= r - 1): the lower end misses so often.
    lower_miss = binom.cdf(np.arange(n + 1) - 1, n, q)
    lower = int(np.flatnonzero(lower_miss <= left)[-1])
    if lower == 0:
        return None
    return Interval(
        low=float(ordered[lower - 1]), high=float(ordered[upper - 1]), level=level,
        method="order-statistics",
    )  # fmt: skip


def logit_spread(logits: np.ndarray) -> float:
    """Standard deviation of all logits (n, C); the smallest positive number where they are all equal."""
    return float(np.std(logits)) or math.ulp(0.0)
