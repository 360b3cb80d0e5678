"""What a membership attack shows of differential privacy: a lower bound on epsilon.

Knows scores with and without a sample in the training data; refuses to prove privacy: an attack that
fails shows nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dlaudit.audit.statistics import LEVEL, clopper_pearson

THRESHOLDS = 20
LOOKS = 4


class Bound(NamedTuple):
    """epsilon: at least this, at the level over all thresholds; and where it was found."""

    epsilon: float
    threshold: float
    true_positives: int
    false_positives: int
    looked: int


def lower_bound(
    inside: np.ndarray, outside: np.ndarray, *, delta: float = 0.0, level: float = LEVEL
) -> Bound:
    """The largest ln((TPR_low - delta) / FPR_high) over thresholds and both directions, 0 at least.

    Under (epsilon, delta)-differential privacy TPR <= e^epsilon FPR + delta for every test (Wasserman
    & Zhou 2010, Kairouz et al. 2015), also for the test of not having been trained on. Clopper and
    Pearson's one-sided bounds at level 1 - (1 - level) / looks, half of it each, because the best look is
    told. inside, outside: scores of independent samples. Thresholds: quantiles of all scores.
    """
    thresholds = np.unique(
        np.quantile(np.r_[inside, outside], np.linspace(0, 1, THRESHOLDS + 2)[1:-1])
    )
    looks = 2 * len(thresholds)
    each = 1 - (1 - level) / looks  # two-sided: half of it lies beyond each bound
    best = Bound(0.0, math.nan, 0, 0, looks)
    # Having been left out is a test too: then it is the low scores that tell.
    for sign, yes, no in ((1, inside, outside), (-1, -outside, -inside)):
        for threshold in thresholds:
            hits, alarms = (int((scores > sign * threshold).sum()) for scores in (yes, no))
            low = clopper_pearson(hits, len(yes), each).low - delta
            high = clopper_pearson(alarms, len(no), each).high
            if low > 0 and (found := math.log(low / high)) > best.epsilon:
                best = Bound(found, float(threshold), hits, alarms, looks)
    return best


class Guesses(NamedTuple):
    """epsilon: at least this, at the level over all numbers of guesses; right of made: the best one."""

    epsilon: float
    right: int
    made: int
    looked: int


def one_run_bound(
    scores: np.ndarray, inside: np.ndarray, *, level: float = LEVEL, looks: int = LOOKS
) -> Guesses:
    """The epsilon that guessing disproves, from one training alone (Steinke et al. 2023).

    A coin decided for each canary whether it was learned; the likeliest and the least likely are guessed,
    equally many of each, the others left open. Under (epsilon, 0)-differential privacy right guesses are at
    most binomial with p = e^epsilon / (1 + e^epsilon), however the canaries of one training depend on each
    other. One-sided Clopper and Pearson's bound of p at level 1 - (1 - level) / looks.

    scores: (n,), n >= 2, higher is likelier inside; inside: (n,) bool, the coins.
    """
    order = np.argsort(scores, kind="stable")
    sides = sorted({max(1, round(len(scores) // 2 * k / looks)) for k in range(1, looks + 1)})
    each = 1 - 2 * (1 - level) / len(sides)  # two-sided: half of it lies beyond the lower bound
    best = Guesses(0.0, 0, 0, len(sides))
    for side in sides:
        right = int(inside[order[-side:]].sum() + (~inside[order[:side]]).sum())
        p = clopper_pearson(right, 2 * side, each).low
        if p > 0.5 and (found := math.log(p / (1 - p))) > best.epsilon:
            best = Guesses(found, right, 2 * side, len(sides))
    return best
