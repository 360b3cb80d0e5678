"""What scores say of one group: how well they rank, how well they are calibrated, how they lie.

Knows arrays of scores and of 0/1 labels; refuses groups, thresholds, and to take a score for a
probability because it happens to lie between 0 and 1 in this sample (the caller says so).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dlaudit.audit import statistics
from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL, kolmogorov, mean_interval, normal_quantile, wilson

if TYPE_CHECKING:
    from dlaudit.audit.bench import Answers

BINS = 10
"""Bins of equal mass, the usual number (Nixon et al. 2019)."""
CROWD = 20
"""Samples in a bin of a calibration curve, at least: fewer say nothing of a share."""
DRAWS = 2000
STEPS = 50
SMALLEST = 1e-7


class Estimate(NamedTuple):
    """A number, its interval, and how many samples stand behind it.

    pull: (K,) what each cluster's rows do to the number, where rows come in clusters; held: how many
    clusters the group has.
    """

    value: float
    interval: Interval
    n: int
    pull: np.ndarray | None = None
    held: int = 0


class Scores(NamedTuple):
    """(n,) scores of the positive class; whether they are probabilities."""

    values: np.ndarray
    probabilities: bool


def scores_of(answers: Answers, positive: int) -> Scores | None:
    """The score of the positive class: its softmax probability, or what was recorded.

    A recorded score is one of class 1 and counts as a probability where all lie in [0, 1]. None
    where only decisions are known.
    """
    if answers.logits is not None and answers.logits.shape[1] > 1:
        from scipy.special import softmax

        return Scores(softmax(answers.logits.astype(np.float64), axis=1)[:, positive], True)
    if answers.score is None:
        return None
    values = answers.score.astype(np.float64)
    inside = bool(((values >= 0) & (values <= 1)).all())
    return Scores(values if positive == 1 else -values, inside and positive == 1)


def auc(scores: np.ndarray, y: np.ndarray, level: float = LEVEL) -> Estimate:
    """The chance that a positive is scored above a negative (``statistics.auc``); needs both kinds."""
    value, interval = statistics.auc(scores[y == 1], scores[y == 0], level)
    return Estimate(value, interval, len(y))


def mean(values: np.ndarray, level: float = LEVEL) -> Estimate | str:
    """The mean of any number per row, or the reason why it has no interval."""
    interval = mean_interval(values, level)
    if interval is None:
        return f"all {len(values)} values are equal: no spread to make an interval of"
    return Estimate(float(values.mean()), interval, len(values))


def slope(probabilities: np.ndarray, y: np.ndarray, level: float = LEVEL) -> Estimate | str:
    """The slope of a logistic regression of the label on the score's logit (Cox 1958); 1 is right.

    Below 1: scores too extreme, above: too timid. Wald's interval. A reason where it has none: one
    kind of label, one score, or labels that the scores separate.
    """
    fit = slope_fit(probabilities, y)
    if isinstance(fit, str):
        return fit
    half = normal_quantile(level) * math.sqrt(fit.variance)
    interval = Interval(low=fit.value - half, high=fit.value + half, level=level, method="wald")
    return Estimate(fit.value, interval, len(y))


class SlopeFit(NamedTuple):
    """The slope, its variance if rows are independent, and (n,) each row's pull on it (sum 0)."""

    value: float
    variance: float
    influence: np.ndarray


def slope_fit(probabilities: np.ndarray, y: np.ndarray) -> SlopeFit | str:
    """The logistic regression behind ``slope``, or the reason why there is none."""
    if len(np.unique(y)) < 2 or np.ptp(probabilities) == 0:
        return "a slope needs both kinds of labels and scores that differ"
    clipped = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    logit = np.log(clipped / (1 - clipped))
    scale = float(logit.std())
    design = np.stack([np.ones(len(y)), (logit - logit.mean()) / scale], axis=1)
    weights = np.zeros(2)
    for _ in range(STEPS):
        fitted = 1 / (1 + np.exp(-np.clip(design @ weights, -35, 35)))
        information = design.T @ (design * (fitted * (1 - fitted))[:, None])
        if np.linalg.cond(information) > 1e10:
            break
        rows = np.linalg.solve(information, (design * (y - fitted)[:, None]).T)  # (2, n)
        step = rows.sum(axis=1)
        weights += step
        if np.abs(step).max() < 1e-10:
            variance = float(np.linalg.inv(information)[1, 1]) / scale**2
            return SlopeFit(float(weights[1]) / scale, variance, rows[1] / scale)
    return "scores separate the labels: a slope of any size would fit"


def calibration_error(
    probabilities: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator,
    *,
    level: float = LEVEL,
    clusters: np.ndarray | None = None,
) -> Estimate:
    """Expected calibration error over ten bins of equal mass (Naeini et al. 2015).

    The estimate is biased upwards, since noise within bins does not cancel: a bootstrap of it does
    not hold its level. The interval uses that the error of the estimate is at most the bins' weighted
    mean deviation, whose quantile is drawn: it holds ``level`` at least, and reaches 0 where noise
    alone explains the value. clusters: (n,) which rows belong together, where they do: the bins'
    deviations then vary, and move together, as the clusters' sums do.
    """
    order = np.argsort(probabilities, kind="stable")
    bins = [part for part in np.array_split(order, min(BINS, len(y))) if len(part)]
    residual = y - probabilities
    weights = np.array([len(part) / len(y) for part in bins])
    gaps = np.array([abs(float(residual[part].mean())) for part in bins])
    if clusters is None:
        deviations = rng.standard_normal((DRAWS, len(bins))) * _errors(
            probabilities, residual, bins
        )
    else:
        deviations = _drawn_by_cluster(probabilities, residual, bins, clusters, rng)
    reach = float(np.quantile(np.abs(deviations) @ weights, level))
    value = float(gaps @ weights)
    interval = Interval(
        low=max(0.0, value - reach),
        high=min(1.0, value + reach),
        level=level,
        method="l1-deviation" if clusters is None else "l1-deviation-clusters",
    )
    return Estimate(value, interval, len(y))


def _errors(probabilities: np.ndarray, residual: np.ndarray, bins: list[np.ndarray]) -> np.ndarray:
    """The standard error of each bin's mean residual, for independent rows."""
    # Bins that hold one kind of label show no spread; the scores themselves claim one.
    claimed = [float((probabilities[part] * (1 - probabilities[part])).mean()) for part in bins]
    seen = [float(residual[part].var()) for part in bins]
    return np.sqrt(np.maximum(seen, claimed) / [len(part) for part in bins])


def _drawn_by_cluster(
    probabilities: np.ndarray,
    residual: np.ndarray,
    bins: list[np.ndarray],
    clusters: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """(DRAWS, bins) deviations: Student's t with the covariance of the clusters' sums.

    No bin varies less than it would if its rows were independent.
    """
    names, codes = np.unique(clusters, return_inverse=True)
    k = len(names)
    sums = np.zeros((k, len(bins)))
    for at, part in enumerate(bins):
        centred = residual[part] - residual[part].mean()
        sums[:, at] = np.bincount(codes[part], weights=centred, minlength=k) / len(part)
    covariance = sums.T @ sums * k / max(1, k - 1)
    missing = _errors(probabilities, residual, bins) ** 2 - np.diag(covariance)
    covariance += np.diag(np.maximum(0, missing))
    normal = rng.multivariate_normal(np.zeros(len(bins)), covariance, size=DRAWS, method="eigh")
    freedom = max(1, k - 1)
    drawn: np.ndarray = normal / np.sqrt(rng.chisquare(freedom, size=(DRAWS, 1)) / freedom)
    return drawn


def curve(probabilities: np.ndarray, y: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Mean score, share of positives and its Wilson ends in bins of equal mass, from left to right.

    As many bins of ten as hold ``CROWD`` samples each, one at least.
    """
    count = max(1, min(BINS, len(y) // CROWD))
    points = []
    for part in np.array_split(np.argsort(probabilities, kind="stable"), count):
        ends = wilson(int(y[part].sum()), len(part))
        points.append(
            (float(probabilities[part].mean()), float(y[part].mean()), ends.low, ends.high)
        )
    return points


def distance(one: np.ndarray, other: np.ndarray, level: float = LEVEL) -> Estimate:
    """Kolmogorov and Smirnov's distance of two samples of scores: 0 alike, 1 apart."""
    from scipy.stats import ks_2samp

    value = float(ks_2samp(one, other, method="asymp").statistic)
    return Estimate(value, kolmogorov(value, len(one), len(other), level), len(one) + len(other))


def apart(group: Estimate, reference: Estimate) -> Estimate:
    """Group minus reference of two independent estimates (MOVER: Zou & Donner 2008, eq. 8)."""
    one, other = group.interval, reference.interval
    value = group.value - reference.value
    interval = Interval(
        low=value - math.hypot(group.value - one.low, other.high - reference.value),
        high=value + math.hypot(one.high - group.value, reference.value - other.low),
        level=one.level,
        method=f"{one.method}-mover",
    )
    return Estimate(value, interval, group.n + reference.n)
