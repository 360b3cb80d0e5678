"""Numbers of scores where rows come in clusters: several rows of one person, firm or day.

Knows each row's pull on a number, summed by cluster; refuses fewer than two clusters, and bounds that
were proven for independent rows only.

A number that is smooth in the data moves by the sum of its rows' influences, so that its variance is
that of the clusters' sums (for the AUC this is Obuchowski 1997, for the slope the clustered sandwich
of Liang & Zeger 1986). Two groups that share clusters move together, which the sums keep.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL, pairs_won
from dlaudit.fairness.clustered import METHOD, student
from dlaudit.fairness.scoring import Estimate, slope_fit

NO_SPREAD = "clusters show no spread to make an interval of"


class Owners(NamedTuple):
    """Whose row is whose.

    codes: (n,) the cluster of each row of a group; clusters: how many there are in all groups.
    """

    codes: np.ndarray
    clusters: int


def auc(
    scores: np.ndarray, y: np.ndarray, *, owners: Owners, level: float = LEVEL
) -> Estimate | str:
    """The AUC of one group; its interval is made on the logit, so that it stays within 0 and 1."""
    of_above, of_below = pairs_won(scores[y == 1], scores[y == 0])
    value = float(of_above.mean())
    if not 0 < value < 1:
        return f"scores separate the labels: {NO_SPREAD}"
    influence = np.empty(len(y))
    influence[y == 1] = (of_above - value) / len(of_above)
    influence[y == 0] = (of_below - value) / len(of_below)
    return _estimate(value, influence, owners, level, share=True)


def mean(values: np.ndarray, *, owners: Owners, level: float = LEVEL) -> Estimate | str:
    """The mean of any number per row."""
    centre = float(values.mean())
    return _estimate(centre, (values - centre) / len(values), owners, level)


def slope(
    probabilities: np.ndarray, y: np.ndarray, *, owners: Owners, level: float = LEVEL
) -> Estimate | str:
    """The calibration slope (``scoring.slope``), or the reason why there is none."""
    fit = slope_fit(probabilities, y)
    return fit if isinstance(fit, str) else _estimate(fit.value, fit.influence, owners, level)


def _estimate(
    value: float, influence: np.ndarray, owners: Owners, level: float, *, share: bool = False
) -> Estimate | str:
    """The number with Student's interval. share: it lies in [0, 1]."""
    pull = np.bincount(owners.codes, weights=influence, minlength=owners.clusters)
    held = len(np.unique(owners.codes))
    error = _error(pull, held)
    if error is None:
        return f"{held} {NO_SPREAD}"
    half = student(level, held - 1) * error
    low, high = value - half, value + half
    if share:
        centre = math.log(value / (1 - value))
        half /= value * (1 - value)
        low, high = (1 / (1 + math.exp(-(centre + sign * half))) for sign in (-1, 1))
    interval = Interval(low=low, high=high, level=level, method=METHOD)
    return Estimate(value, interval, len(influence), pull, held)


def apart(one: Estimate, other: Estimate) -> Estimate | str:
    """Group minus reference; a group of few clusters is as uncertain as those few."""
    assert one.pull is not None  # noqa: S101  (both come from this module)
    assert other.pull is not None  # noqa: S101
    held, level = min(one.held, other.held), one.interval.level
    error = _error(one.pull - other.pull, held)
    if error is None:
        return f"{held} {NO_SPREAD}"
    value, half = one.value - other.value, student(level, held - 1) * error
    interval = Interval(low=value - half, high=value + half, level=level, method=METHOD)
    return Estimate(value, interval, one.n + other.n)


def _error(pull: np.ndarray, held: int) -> float | None:
    """The standard error that the clusters' sums show; None where they show none."""
    if held < 2 or float(np.abs(pull).max()) < 1e-15:
        return None
    return math.sqrt(held / (held - 1) * float((pull**2).sum()))
