"""How much of a baseline's errors a model avoids, on the same samples.

Knows paired right and wrong; refuses a gain over a baseline that errs nowhere: there is nothing to gain.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL, normal_quantile


class Pairs(NamedTuple):
    """Samples by who is wrong: both, the model alone, the baseline alone; n of all."""

    both: int
    model: int
    baseline: int
    n: int

    @property
    def model_errors(self) -> int:
        """All errors of the model."""
        return self.both + self.model

    @property
    def baseline_errors(self) -> int:
        """All errors of the baseline."""
        return self.both + self.baseline


def gain(pairs: Pairs, level: float = LEVEL) -> tuple[float, Interval] | str:
    """(s_model - s_baseline) / (1 - s_baseline) = 1 - the ratio of the error rates.

    Interval: of the ratio of two paired proportions (Bonett & Price 2006), whose Wilson bounds are made
    narrower as the pairs agree. A reason where the baseline is never wrong.
    """
    if pairs.baseline_errors == 0:
        return "the baseline is never wrong: there is nothing to gain"
    x1, x2 = pairs.model_errors, pairs.baseline_errors
    seen = pairs.both + pairs.model + pairs.baseline
    spread = math.sqrt((pairs.model + pairs.baseline + 2) / ((x1 + 1) * (x2 + 1)))
    own = [math.sqrt((1 - (x + 1) / (seen + 2)) / (x + 1)) for x in (x1, x2)]
    z = normal_quantile(level) * spread / sum(own)
    low1, high1 = _wilson(x1, seen, z)
    low2, high2 = _wilson(x2, seen, z)
    value = 1 - x1 / x2
    return value, Interval(
        low=min(value, 1 - high1 / low2), high=max(value, min(1.0, 1 - low1 / high2)), level=level,
        method="bonett-price",
    )  # fmt: skip


def _wilson(successes: int, n: int, z: float) -> tuple[float, float]:
    """Wilson's bounds at any z."""
    centre = (2 * successes + z * z) / (2 * (n + z * z))
    half = z * math.sqrt(z * z + 4 * successes * (1 - successes / n)) / (2 * (n + z * z))
    return max(0.0, centre - half), min(1.0, centre + half)
