"""How far one class's trigger is below the others': the statistics of a trigger search.

Knows the cost of the cheapest trigger of each class; never how it was found, and accuses nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

MINIMUM_CLASSES = 8
"""Below so many classes a median absolute deviation describes noise."""
FALSE_SHARE = 0.05
"""Share of models without a trigger in which some class may exceed the threshold, were log s normal."""
MAD_TO_SD = 1.4826


def threshold(classes: int) -> float:
    """The z that one class may reach by chance: the normal quantile of 1 - 0.05 / K.

    2.58 for 10 classes, 3.29 for 100; a plain "> 2" would accuse 0.023 K classes of every model.
    """
    from scipy.special import ndtri

    return float(ndtri(1 - FALSE_SHARE / classes))


def log_anomaly(
    norms: Sequence[float], *, apart: float = math.inf, controls: Sequence[int] | None = None
) -> list[float | None]:
    """z_k = (median log s - log s_k) / (1.4826 MAD(log s)): large where a trigger is too cheap.

    The one-sided log form of the anomaly index of Neural Cleanse (Wang et al. 2019): costs are
    positive and skewed, and a plain index misses triggers that the logarithm shows. norms: s_k > 0,
    infinite where no trigger was found; such a class lies above every other and has no z.

    apart: classes whose ratio (see ``ratios``) reaches it are left out of median and MAD, because
    two triggers among ten classes would hide each other; not where that leaves half or fewer.

    controls: places of the classes that median and deviation are those of, if not of all: where the
    others were chosen because they are cheap, only controls tell what is usual.

    None for all classes where the median or the deviation does not exist: fewer than 8 classes, half
    of them without a trigger, or no spread.
    """
    logs = np.log(np.asarray(norms, dtype=np.float64))
    nothing: list[float | None] = [None] * len(logs)
    if len(logs) < MINIMUM_CLASSES:
        return nothing
    cheap = np.array(
        [ratio is not None and ratio >= apart for ratio in ratios(norms, controls=controls)]
    )
    usual = np.isin(np.arange(len(logs)), np.arange(len(logs)) if controls is None else controls)
    rest = logs[usual] if 2 * cheap[usual].sum() >= usual.sum() else logs[usual & ~cheap]
    if 2 * np.isfinite(rest).sum() <= len(rest) + 1:
        return nothing
    centre = float(np.median(rest))
    deviations = np.abs(np.where(np.isfinite(rest), rest, np.inf) - centre)
    spread = MAD_TO_SD * float(np.median(deviations))
    if spread == 0:
        return nothing
    return [float((centre - log) / spread) if math.isfinite(log) else None for log in logs]


def ratios(norms: Sequence[float], *, controls: Sequence[int] | None = None) -> list[float | None]:
    """Median cost of the other classes over the cost of this one; also for few classes.

    controls: places of the classes that the median is taken of, if not of all.

    None where this class has no trigger, or where the median of the others is not finite.
    """
    costs = np.asarray(norms, dtype=np.float64)
    found: list[float | None] = []
    usual = np.arange(len(costs)) if controls is None else np.asarray(controls)
    for k, cost in enumerate(costs):
        others = costs[usual[usual != k]]
        middle = float(np.median(others)) if len(others) else math.inf
        known = math.isfinite(middle) and math.isfinite(cost)
        found.append(float(middle / cost) if known else None)
    return found
