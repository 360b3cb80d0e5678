"""How errors under corruptions are put together and compared: arrays in, a number and its interval out.

Knows shares of wrong cells, one row per sample; never models, pictures or names of corruptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import structs

from dlaudit.attacks.flips import mean_of_shares
from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import bootstrap

SAME = "no resample of the samples gives another ratio, or one leaves the baseline without an error"


class Ratio(NamedTuple):
    """A mean of ratios of errors; interval: None where the samples say nothing of its spread."""

    value: float
    interval: Interval | None


def to_table(ours: Sequence[np.ndarray], errors: Sequence[float]) -> Ratio:
    """The paper's mCE against fixed errors, all above 0.

    ours: per corruption, the (n,) share of severities at which each sample is wrong; errors: the
    baseline's mean over the same severities.
    """
    # Linear in the samples: a mean of numbers in [0, largest], so the interval of shares, scaled.
    largest = float(np.mean([1 / error for error in errors]))
    each = np.mean([wrong / error for wrong, error in zip(ours, errors, strict=True)], axis=0)
    unit = mean_of_shares(each / largest)
    scaled = structs.replace(unit, low=unit.low * largest, high=unit.high * largest)
    return Ratio(float(each.mean()), scaled)


def to_model(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], rng: np.random.Generator
) -> Ratio:
    """The same against another model's errors on the same samples, which are resampled together."""

    def mean_ratio(*columns: Any, axis: int = -1) -> Any:
        means = [column.mean(axis=axis) for column in columns]
        pairs = zip(means[: len(ours)], means[len(ours) :], strict=True)
        return np.mean([own / other for own, other in pairs], axis=0)

    columns = [*ours, *theirs]
    return Ratio(float(mean_ratio(*columns)), bootstrap(columns, mean_ratio, rng))
