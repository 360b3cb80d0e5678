"""How far a rate could lie from what was measured, were some of the labels wrong.

Knows confusion counts and how many labels may be wrong; refuses to guess which: every choice counts, so
these are bounds and no estimates.
"""

from __future__ import annotations

import math

import numpy as np

from dlaudit.fairness.rates import Tally
from dlaudit.fairness.unknown_groups import Bounds

NOISY = (
    "true_positive_rate", "false_positive_rate", "false_negative_rate", "precision", "accuracy",
)  # fmt: skip
"""The rates that look at labels; a selection rate does not."""


def bounds(name: str, tally: Tally, wrong: int) -> Bounds | None:
    """The smallest and the largest value of a rate if at most ``wrong`` labels of a group are wrong.

    None where some choice leaves nobody in the denominator. Raises KeyError for a rate without labels.
    """
    tn, fp, fn, tp = tally.tn, tally.fp, tally.fn, tally.tp
    match name:
        case "true_positive_rate":
            return _share(tp, fn, (fp, tn), wrong)
        case "false_positive_rate":
            return _share(fp, tn, (tp, fn), wrong)
        case "false_negative_rate":
            return _share(fn, tp, (tn, fp), wrong)
        case "precision":
            return _fixed(tp, tp + fp, wrong)
        case "accuracy":
            return _fixed(tally.correct, tally.n, wrong)
    raise KeyError(name)


def allowed(n: int, share: float) -> int:
    """How many of n labels a share is, rounded down."""
    return math.floor(share * n + 1e-9)


def _fixed(hits: int, n: int, wrong: int) -> Bounds | None:
    """A rate whose denominator does not depend on labels."""
    if not n:
        return None
    return Bounds(max(0, hits - wrong) / n, min(n, hits + wrong) / n)


def _share(hits: int, misses: int, outside: tuple[int, int], wrong: int) -> Bounds | None:
    """hits / (hits + misses) if labels move samples in and out of the denominator.

    outside: the samples of the other label, those decided like the hits first. A wrong label moves a
    sample between hits and the first of them, or between misses and the second; decisions stay.
    """
    if hits + misses <= wrong:
        return None
    moved = np.arange(wrong + 1)
    # Largest: as many hits more as ``moved``, the rest of the wrong labels takes misses away.
    more, fewer = moved[moved <= outside[0]], np.minimum(wrong - moved, misses)
    highest = (hits + more) / (hits + more + misses - fewer[: len(more)])
    # Smallest: hits are taken away, and misses added by the rest.
    less, added = moved[moved <= hits], np.minimum(wrong - moved, outside[1])
    lowest = (hits - less) / np.maximum(1, hits - less + misses + added[: len(less)])
    return Bounds(float(lowest.min()), float(highest.max()))
