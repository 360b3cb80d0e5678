"""How far one class's trigger is below the others': the statistics of a trigger search.

Knows the cost of the cheapest trigger of each class; never how it was found, and accuses nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def log_anomaly(norms: Sequence[float]) -> list[float | None]:
    """z_k = (median log s - log s_k) / (1.4826 MAD(log s)): large where a trigger is too cheap.

    The one-sided log form of the anomaly index of Neural Cleanse (Wang et al. 2019): costs are
    positive and skewed, and a plain index misses triggers that the logarithm shows. norms: s_k > 0,
    infinite where no trigger was found; such a class lies above every other and has no z. None for
    all classes where the median or the deviation does not exist: fewer than 8 classes, half of them
    without a trigger, or no spread.
    """
    import numpy as np

    logs = np.log(np.asarray(norms, dtype=np.float64))
    found = np.isfinite(logs)
    nothing: list[float | None] = [None] * len(logs)
    if len(logs) < MINIMUM_CLASSES or 2 * found.sum() <= len(logs) + 1:
        return nothing
    centre = _median(logs)
    deviations = np.where(found, np.abs(np.where(found, logs, centre) - centre), np.inf)
    spread = MAD_TO_SD * _median(deviations)
    if spread == 0:
        return nothing
    return [
        float((centre - log) / spread) if ok else None for log, ok in zip(logs, found, strict=True)
    ]


def ratios(norms: Sequence[float]) -> list[float | None]:
    """Median cost of the other classes over the cost of this one; also for few classes.

    None where this class has no trigger, or where the median of the others is not finite.
    """
    costs = [float(norm) for norm in norms]
    found: list[float | None] = []
    for k, cost in enumerate(costs):
        others = _median(costs[:k] + costs[k + 1 :])
        found.append(others / cost if math.isfinite(others) and math.isfinite(cost) else None)
    return found


def _median(values: object) -> float:
    """The median, infinite values included: the mean of two middle ones may be infinite."""
    import numpy as np

    return float(np.median(np.asarray(values, dtype=np.float64)))
