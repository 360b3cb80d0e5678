"""Losses of samples, and intervals of their mean and of the difference of two means.

Knows arrays; refuses to take losses for normally distributed. Most are almost 0 and a few are
large, so that Student's and Welch's intervals miss the truth on the side of the rare large losses:
of 95 in 100 promised, Welch keeps 82 at n = 100 where one sample in twenty carries the loss.
"""

from __future__ import annotations

import math

import numpy as np

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL, mean_interval


def cross_entropy(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cross-entropy of each sample in nats. logits: (n, C); y: (n,) int64. Returns (n,) float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    losses: np.ndarray = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]
    return losses


def margins(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logit of the label minus the largest other one: above 0 where the label is met. (n,) float64.

    logits: (n, C), C >= 2; y: (n,) int64.
    """
    others = logits.astype(np.float64)
    of_label = others[np.arange(len(y)), y].copy()
    others[np.arange(len(y)), y] = -np.inf
    margin: np.ndarray = of_label - others.max(axis=1)
    return margin


def skewed_mean(values: np.ndarray, level: float = LEVEL) -> Interval | None:
    """Interval of the mean of skewed values. None where no spread was seen.

    The hull of Student's t interval and of the t interval after Hall's cubic transformation (Hall
    1992, "On the removal of skewness by transformation"), which bends the long side outwards. The
    hull keeps the short side where a sample happens to miss the rare large values. It holds its
    level on average; where one sample in twenty carries the loss, a 95 % interval holds the truth
    in 85 of 100 cases at n = 50, in 95 at n = 100.
    """
    from scipy.special import stdtrit

    student = mean_interval(values, level)
    if student is None:
        return None
    n = len(values)
    centre, deviation = float(np.mean(values)), float(np.std(values))
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    skew = float(np.mean(((values - centre) / deviation) ** 3)) / math.sqrt(n)
    t = float(stdtrit(n - 1, (1 + level) / 2))
    low, high = (centre - error * _unbend(end, skew) for end in (t, -t))
    return Interval(
        low=min(low, student.low), high=max(high, student.high), level=level, method="hall-student"
    )


def _unbend(t: float, skew: float) -> float:
    """The statistic whose transformed value is ``t``; skew: skewness / sqrt(n)."""
    if abs(skew) < 1e-8:  # the limit, where the formula divides 0 by 0
        return t
    return 3 / skew * (math.cbrt(1 + skew * (t - skew / 6)) - 1)


def mean_difference(first: np.ndarray, second: np.ndarray, level: float = LEVEL) -> Interval | None:
    """Interval of mean(first) - mean(second) for independent samples of skewed values.

    The intervals of the two means, joined as Newcombe joins those of two proportions (square and
    add; Zou & Donner 2008). None where a side shows no spread.
    """
    one, two = skewed_mean(first, level), skewed_mean(second, level)
    if one is None or two is None:
        return None
    mean1, mean2 = float(np.mean(first)), float(np.mean(second))
    return Interval(
        low=mean1 - mean2 - math.hypot(mean1 - one.low, two.high - mean2),
        high=mean1 - mean2 + math.hypot(one.high - mean1, mean2 - two.low),
        level=level,
        method="hall-square-and-add",
    )
