"""Intervals of the numbers that this suite alone prints; arrays and counts in, intervals out.

Knows no model and no rule. What the house has already stands in ``dlaudit.audit.statistics``; each of
these has its coverage simulated in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL, newcombe, normal_quantile, pairs_won, wilson


def share_of_gain(
    right_out: int, n_out: int, right_rest: int, n_rest: int, level: float = LEVEL
) -> Interval:
    """Of accuracy over all minus accuracy over the rest, where n_out samples are left out.

    The difference is n_out / n times that between the two disjoint sets, whose interval is Newcombe's.
    """
    share = n_out / (n_out + n_rest)
    of = newcombe(right_out, n_out, right_rest, n_rest, level)
    return Interval(
        low=share * of.low, high=share * of.high, level=level, method="newcombe, scaled"
    )


def largest_change(
    first: Sequence[int], second: Sequence[int], level: float = LEVEL
) -> tuple[float, Interval]:
    """The largest absolute difference between the shares of a category in two samples.

    first, second: counts by category. Newcombe's interval for each category at Bonferroni's level hold
    all at once; the largest lies between the largest of their low ends and the largest of their high ones.
    """
    m, n, kinds = sum(first), sum(second), max(1, len(first))
    each = 1 - (1 - level) / kinds
    value = low = high = 0.0
    for a, b in zip(first, second, strict=True):
        one = newcombe(a, m, b, n, each)
        value = max(value, abs(a / m - b / n))
        low = max(low, one.low, -one.high)
        high = max(high, one.high, -one.low)
    return value, Interval(
        low=min(low, value), high=high, level=level, method="newcombe, bonferroni"
    )


def balanced_skill(
    right: Sequence[int], sizes: Sequence[int], level: float = LEVEL
) -> tuple[float, Interval]:
    """(balanced accuracy - 1/K) / (1 - 1/K): 0 for a guess, 1 for certainty, below 0 for worse.

    right, sizes: by class, K >= 2 of them. Balanced accuracy is the mean of K recalls; the interval
    adds the squares of the distances of their Wilson bounds (Zou & Donner 2008).
    """
    kinds = len(sizes)
    recalls = [a / n for a, n in zip(right, sizes, strict=True)]
    bounds = [wilson(a, n, level) for a, n in zip(right, sizes, strict=True)]
    mean = sum(recalls) / kinds
    below = math.sqrt(sum((p - one.low) ** 2 for p, one in zip(recalls, bounds, strict=True)))
    above = math.sqrt(sum((one.high - p) ** 2 for p, one in zip(recalls, bounds, strict=True)))
    chance = 1 / kinds

    def scaled(accuracy: float) -> float:
        return (accuracy - chance) / (1 - chance)

    low, high = scaled(mean - below / kinds), scaled(mean + above / kinds)
    method = "wilson, square-and-add"
    return scaled(mean), Interval(low=low, high=high, level=level, method=method)


def folded_auc(
    scores: np.ndarray, y: np.ndarray, fold: np.ndarray, level: float = LEVEL
) -> tuple[float, Interval]:
    """The mean over folds of the AUC inside each, since scores of different learners do not compare.

    Variance: DeLong et al. 1988 inside each fold, on the logit scale of the mean; the learners are taken
    as given. Where it is zero, as at perfect separation, Wilson's interval of as many right decisions as
    the smaller sample has rows.
    """
    kinds = np.unique(fold)
    values, variance = [], 0.0
    for number in kinds:
        above, below = scores[(fold == number) & (y == 1)], scores[(fold == number) & (y == 0)]
        of_above, of_below = pairs_won(above, below)
        values.append(float(of_above.mean()))
        variance += float(of_above.var(ddof=1) / len(above) + of_below.var(ddof=1) / len(below))
    value = float(np.mean(values))
    variance /= len(kinds) ** 2
    if variance <= 1e-15 or not 0 < value < 1:
        few = int(min(y.sum(), (1 - y).sum()))
        return value, wilson(round(value * few), few, level)
    centre = math.log(value / (1 - value))
    half = normal_quantile(level) * math.sqrt(variance) / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-(centre + sign * half))) for sign in (-1, 1))
    return value, Interval(low=low, high=high, level=level, method="delong-logit, by fold")
