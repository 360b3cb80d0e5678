"""What a model's confidence is worth: calibration, overconfidence, selective accuracy, temperature.

Knows arrays; refuses thresholds, and refuses to trust an interval that a few lucky bins would give.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL, mean_interval, normal_quantile, wilson
from dlaudit.overfitting.losses import skewed_mean

BINS = 15
"""Bins of equal mass, as in Guo et al. 2017."""
DRAWS = 2000
SURE = 2.5
"""Standard errors from which a bin's gap is taken for one."""
STEPS = 60


class Estimate(NamedTuple):
    """A number, its interval, and how many samples stand behind it."""

    value: float
    interval: Interval
    n: int


class Bins(NamedTuple):
    """Bins by confidence, from low to high; every field (B,).

    n: samples; confidence: their mean; hits: how many came true.
    """

    n: np.ndarray
    confidence: np.ndarray
    hits: np.ndarray

    @property
    def gaps(self) -> np.ndarray:
        """Mean confidence minus the share that came true."""
        gaps: np.ndarray = self.confidence - self.hits / self.n
        return gaps


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of (n, C) logits as float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    chances = np.exp(shifted)
    result: np.ndarray = chances / chances.sum(axis=1, keepdims=True)
    return result


def binned(confidence: np.ndarray, hit: np.ndarray, bins: int = BINS) -> Bins:
    """Bins of equal mass. confidence: (n,) in [0, 1]; hit: (n,) bool.

    Equal confidences share a bin, so that the order of the samples cannot matter: where many are
    exactly 1 there are fewer bins, and the last one holds all of these.
    """
    ordered = np.sort(confidence)
    edges = np.unique(ordered[[len(ordered) * k // bins for k in range(1, bins)]])
    place = np.searchsorted(edges, confidence, side="right")
    n = np.bincount(place, minlength=len(edges) + 1)
    held = n > 0
    mean = np.bincount(place, weights=confidence, minlength=len(n))[held] / n[held]
    hits = np.bincount(place, weights=hit, minlength=len(n))[held]
    return Bins(n[held], mean, hits)


def calibration_error(
    confidence: np.ndarray,
    hit: np.ndarray,
    rng: np.random.Generator,
    *,
    level: float = LEVEL,
    bins: int = BINS,
) -> Estimate:
    """Expected calibration error, debiased (Kumar et al. 2019, section 4 for the mean absolute gap).

    The plain estimate is too large, since noise within bins does not cancel: what normal noise of the
    bins' own size would add is taken off. The lower end takes off as much as noise adds in 39 of 40
    draws, were there no gap but in bins beyond ``SURE`` standard errors. The upper end adds the normal
    error of the plain estimate, and is no smaller than the ends of the overconfidence: the error cannot
    be below that, and bins where all came true would hide it.
    """
    found = binned(confidence, hit, bins)
    weights, gaps = found.n / len(hit), found.gaps
    plain = float(weights @ np.abs(gaps))
    share = found.hits / found.n
    bias = float(weights @ _folded(gaps, np.sqrt(share * (1 - share) / found.n))) - plain
    value = max(0.0, plain - bias)
    # A bin where all came true shows no spread; half a sample of each kind says what there may be.
    careful = (found.hits + 0.5) / (found.n + 1)
    errors = np.sqrt(careful * (1 - careful) / found.n)
    clear = np.where(np.abs(gaps) > SURE * errors, gaps, 0.0)
    drawn = np.abs(clear + rng.standard_normal((DRAWS, len(gaps))) * errors) @ weights
    added = float(np.quantile(drawn, (1 + level) / 2) - weights @ np.abs(clear))
    reach = normal_quantile(level) * math.sqrt(float((weights**2) @ errors**2))
    ends = overconfidence(confidence, hit, level).interval
    interval = Interval(
        low=max(0.0, min(plain - added, value)),
        high=min(1.0, max(plain + reach, abs(ends.low), abs(ends.high))),
        level=level, method="parametric-hull",
    )  # fmt: skip
    return Estimate(value, interval, len(hit))


def _folded(centre: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """The mean of |X| for normal X (the folded normal distribution)."""
    from scipy.special import ndtr

    safe = np.where(deviation > 0, deviation, 1.0)
    z = centre / safe
    mean = safe * math.sqrt(2 / math.pi) * np.exp(-(z**2) / 2) + centre * (1 - 2 * ndtr(-z))
    folded: np.ndarray = np.where(deviation > 0, mean, np.abs(centre))
    return folded


def overconfidence(confidence: np.ndarray, hit: np.ndarray, level: float = LEVEL) -> Estimate:
    """Mean confidence minus accuracy. confidence: (n,); hit: (n,) bool.

    Interval: Student's of the mean confidence and Wilson's of the accuracy, joined by square-and-add
    for paired samples (Zou & Donner 2008, Newcombe 1998), which has a width where all came true.
    """
    n, right = len(hit), int(hit.sum())
    mean, accuracy = float(confidence.mean()), right / n
    of_hits = wilson(right, n, level)
    of_confidence = mean_interval(confidence, level)
    low, high = (mean, mean) if of_confidence is None else (of_confidence.low, of_confidence.high)
    together = 0.0
    if of_confidence is not None and 0 < right < n and confidence.std() > 1e-9:
        together = float(np.corrcoef(confidence, hit)[0, 1])

    def apart(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 + other**2 - 2 * together * one * other))

    value = mean - accuracy
    interval = Interval(
        low=value - apart(mean - low, of_hits.high - accuracy),
        high=value + apart(high - mean, accuracy - of_hits.low),
        level=level, method="paired-square-and-add",
    )  # fmt: skip
    return Estimate(value, interval, n)


def brier(chances: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Brier's score of each sample, summed over the classes: 0 to 2. Returns (n,)."""
    scores: np.ndarray = (chances**2).sum(axis=1) - 2 * chances[np.arange(len(y)), y] + 1
    return scores


class Selective(NamedTuple):
    """Risk at every coverage, from the most confident sample on. Both (K,), coverage rising.

    Samples of one confidence are taken together.
    """

    coverage: np.ndarray
    risk: np.ndarray


def risk_coverage(confidence: np.ndarray, hit: np.ndarray) -> Selective:
    """The share that is wrong among the most confident samples (El-Yaniv & Wiener 2010)."""
    order = np.argsort(-confidence, kind="stable")
    ordered, wrong = confidence[order], np.cumsum(~hit[order])
    last = np.r_[ordered[1:] != ordered[:-1], True]
    taken = np.arange(1, len(order) + 1)[last]
    return Selective(taken / len(order), wrong[last] / taken)


def aurc(confidence: np.ndarray, hit: np.ndarray, level: float = LEVEL) -> Estimate | str:
    """Area under the risk-coverage curve: the mean risk over all coverages (Geifman et al. 2019).

    Samples of one confidence count in the mean over their orders. Interval: of the mean of the
    statistic's linear terms (the infinitesimal jackknife), made for skewed values. A reason where
    nothing was wrong: then nothing shows how far the area is from 0.
    """
    n = len(hit)
    if hit.all():
        return f"none of {n} decisions is wrong: the area is 0 and shows no spread"
    order = np.argsort(-confidence, kind="stable")
    ordered, wrong = confidence[order], (~hit[order]).astype(np.float64)
    _, first, count = np.unique(-ordered, return_index=True, return_counts=True)
    group = np.repeat(np.arange(len(count)), count)
    # A wrong sample of rank i adds 1/k to the risk at every k >= i: what it weighs in the mean.
    ranks = np.arange(1, n + 1)
    weigh = np.cumsum((1 / ranks)[::-1])[::-1]
    weight = (np.add.reduceat(weigh, first) / count)[group]
    value = float(weight @ wrong / n)
    # How a sample moves the others: it pushes those below it down by one rank.
    pushed = np.add.reduceat(wrong / ranks, first)
    below = (np.cumsum(pushed[::-1])[::-1] - pushed / 2)[group]
    terms = wrong * weight + wrong.mean() - below
    interval = skewed_mean(terms - terms.mean() + value, level)
    if interval is None:
        return "every sample weighs the same: no spread to make an interval of"
    low = min(max(0.0, interval.low), value)
    return Estimate(
        value,
        Interval(low=low, high=min(1.0, interval.high), level=level, method="jackknife-hall"),
        n,
    )


def temperature(logits: np.ndarray, y: np.ndarray, level: float = LEVEL) -> Estimate | str:
    """The temperature that fits best (Guo et al. 2017): above 1, the confidences were too high.

    Newton's method on the inverse temperature b, in which the mean cross-entropy is convex. Interval:
    of the logarithm, by the sandwich variance. A reason where none fits: every label is the largest
    logit, so that the coldest is best, or the logits do not go with the labels at all.
    """
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    of_label = shifted[np.arange(len(y)), y]
    if not (of_label < 0).any():
        return "every label has the largest logit: the coldest temperature fits best"

    def slopes(inverse: float) -> tuple[np.ndarray, float]:
        chances = softmax(inverse * shifted)
        mean = (chances * shifted).sum(axis=1)
        spread = (chances * shifted**2).sum(axis=1) - mean**2
        return mean - of_label, float(spread.sum())

    if float(slopes(0.0)[0].sum()) >= 0:
        return "the logits do not go with the labels: the hottest temperature fits best"
    low, high, inverse = 0.0, math.inf, 1.0
    for _ in range(STEPS):
        gradient, curvature = slopes(inverse)
        total = float(gradient.sum())
        if total > 0:
            high = inverse
        else:
            low = inverse
        step = inverse - total / curvature if curvature > 0 else math.nan
        if not low < step < high:
            step = (low + high) / 2 if math.isfinite(high) else 2 * inverse
        if abs(step - inverse) <= 1e-10 * inverse:
            break
        inverse = step
    error = math.sqrt(float((gradient**2).sum())) / curvature / inverse
    factor = math.exp(normal_quantile(level) * error)
    interval = Interval(
        low=1 / (inverse * factor), high=factor / inverse, level=level, method="sandwich-log"
    )
    return Estimate(1 / inverse, interval, len(y))


def mean_estimate(values: np.ndarray, level: float = LEVEL) -> Estimate | None:
    """The mean of skewed values with its interval; None where no spread was seen."""
    interval = skewed_mean(values, level)
    return None if interval is None else Estimate(float(values.mean()), interval, len(values))
