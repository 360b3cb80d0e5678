"""F1, average precision and exact matches of label sets: arrays in, numbers out.

Knows truths, decisions and scores, (n, L); refuses to average over labels that nobody has and nobody
is given: their F1 is 0/0.
"""

from __future__ import annotations

import numpy as np

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL, wilson


def counts(truth: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """(n, 3, L) float64: true positives, false positives, false negatives of each row."""
    return np.stack([truth & decided, ~truth & decided, truth & ~decided], axis=1).astype(
        np.float64
    )


def f1(summed: np.ndarray) -> np.ndarray:
    """(…, 3, L) sums of counts -> (…, L): 2 TP / (2 TP + FP + FN); NaN for 0/0."""
    right, wrong, missed = (summed[..., place, :] for place in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        value: np.ndarray = 2 * right / (2 * right + wrong + missed)
    return value


def f1_interval(summed: np.ndarray, level: float = LEVEL) -> Interval:
    """Interval of one label's F1 from its counts (3,), of which one at least is above 0.

    Of the rows that have the label or are given it, the share that has both is a proportion J, and
    F1 = 2 J / (1 + J) rises with it: Wilson's interval of J, carried over. Rows are taken as independent.
    """
    union = int(summed.sum())
    share = wilson(int(summed[0]), union, level)
    low, high = (2 * end / (1 + end) for end in (share.low, share.high))
    return Interval(low=low, high=high, level=level, method="wilson-f1")


class Ranked:
    """One label's rows in the order of their scores, for its average precision under any weights.

    Average precision is the sum over distinct scores s, from the highest, of
    (R(s) - R(s + 1)) P(s): precision at s, weighted by the recall that s adds. Rows of equal score
    enter together, so that their order does not matter.
    """

    def __init__(self, truth: np.ndarray, score: np.ndarray) -> None:
        """truth: (n,) bool; score: (n,)."""
        self.order = np.argsort(-score, kind="stable")
        ranked = score[self.order]
        self.last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        self.truth = truth[self.order].astype(np.float64)

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """(R, n) how often each row counts -> (R,); NaN where no row has the label."""
        drawn = weights[:, self.order]
        right = np.cumsum(drawn * self.truth, axis=1)[:, self.last]
        seen = np.cumsum(drawn, axis=1)[:, self.last]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(seen > 0, right / seen, 0.0)
            gained = np.diff(right, axis=1, prepend=0.0) / right[:, -1:]
        value: np.ndarray = (gained * precision).sum(axis=1)
        return value
