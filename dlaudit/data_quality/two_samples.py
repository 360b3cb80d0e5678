"""Whether two samples come from one source: column by column, by their kernel means, by a learner's ranks.

Knows arrays; never which sample is old and which is new, or how much of a difference is too much.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import holm, kolmogorov

SMALL = 1000
"""Evidently's figure: up to so many rows a test, above it a size, since a test of many finds anything."""
SIZE = 0.1
"""Evidently's figure: a column has drifted from this Wasserstein or Jensen-Shannon distance on."""


class Change(NamedTuple):
    """How a column differs. distance: the largest distance between distribution functions of numbers, or
    between shares of a category, with its interval; p: of Kolmogorov and Smirnov's test or of chi-squared.

    size: Wasserstein's distance in standard deviations of the first sample, or Jensen and Shannon's.
    """  # noqa: D205

    distance: float
    interval: Interval
    p: float
    size: float


class Kernel(NamedTuple):
    """squared: the unbiased estimate of MMD^2, which may be below 0; p: of a permutation of all rows."""

    squared: float
    p: float


def of_numbers(first: np.ndarray, second: np.ndarray, level: float) -> Change:
    """Two samples of a number; a gap stands below every number, so that new gaps are seen, too."""
    from scipy.stats import ks_2samp, wasserstein_distance

    one, other = (np.where(np.isfinite(x), x, -np.inf).astype(np.float64) for x in (first, second))
    found = ks_2samp(one, other, method="asymp")
    distance = float(found.statistic)
    interval = kolmogorov(distance, len(one), len(other), level)
    here, there = first[np.isfinite(first)], second[np.isfinite(second)]
    size = 0.0 if len(here) == len(there) == 0 else 1.0
    if len(here) and len(there):
        spread = (
            float(np.std(here, dtype=np.float64)) or float(np.std(there, dtype=np.float64)) or 1.0
        )
        size = float(wasserstein_distance(here, there)) / spread
    return Change(distance, interval, float(found.pvalue), size)


def of_categories(first: np.ndarray, second: np.ndarray, level: float) -> Change:
    """Two samples of codes 0, 1, …; a gap (NaN) is a category of its own."""
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import chi2_contingency

    from dlaudit.data_quality.intervals import largest_change

    codes = [np.where(np.isfinite(x), x, -1).astype(np.int64) + 1 for x in (first, second)]
    width = int(max(x.max() for x in codes)) + 1
    table = np.stack([np.bincount(x, minlength=width) for x in codes])
    table = table[:, table.sum(axis=0) > 0]
    distance, interval = largest_change(table[0].tolist(), table[1].tolist(), level)
    p = float(chi2_contingency(table, correction=False).pvalue) if table.shape[1] > 1 else 1.0
    size = float(jensenshannon(table[0], table[1], base=2))
    return Change(distance, interval, p, 0.0 if np.isnan(size) else size)


def flagged(changes: list[Change], rows: int, alpha: float) -> tuple[list[bool], list[float]]:
    """Which columns have drifted, and Holm's p of each. rows: of the smaller sample.

    The size alone would flag columns by chance: of two samples of 2,000 rows from one source, one column
    in some 200 is 0.1 standard deviations apart.
    """
    adjusted = holm([one.p for one in changes])
    if rows <= SMALL:
        return [p < alpha for p in adjusted], adjusted
    both = zip(changes, adjusted, strict=True)
    return [one.size >= SIZE and p < alpha for one, p in both], adjusted


def kernel_means(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator, *, permutations: int
) -> Kernel | None:
    """MMD^2 of Gretton et al. 2012 (eq. 3), Gaussian kernel as wide as the median distance of all rows.

    Rows of both samples are permuted together: permuting the first alone would always find a difference.
    None where more than half of all pairs are equal, so that the width is zero.
    """
    from scipy.spatial.distance import pdist, squareform

    rows = np.concatenate([first, second]).astype(np.float64)
    m, n, total = len(first), len(second), len(first) + len(second)
    apart = pdist(rows, "sqeuclidean")
    width = float(np.median(apart))
    if width <= 0:
        return None
    kernel = squareform(np.exp(-apart / width))  # zeros on the diagonal: the unbiased estimate
    member = np.zeros((total, permutations + 1))
    member[:m, 0] = 1
    for column in range(1, permutations + 1):
        member[rng.permutation(total)[:m], column] = 1
    sums = kernel @ member
    inside = (member * sums).sum(axis=0)
    across = ((1 - member) * sums).sum(axis=0)
    outside = kernel.sum() - 2 * across - inside
    squared = inside / (m * (m - 1)) + outside / (n * (n - 1)) - 2 * across / (m * n)
    hits = int((squared[1:] >= squared[0] - 1e-12).sum())
    return Kernel(float(squared[0]), (1 + hits) / (1 + permutations))


def rank_p(
    scores: np.ndarray, y: np.ndarray, fold: np.ndarray, rng: np.random.Generator, *, permutations: int
) -> float:  # fmt: skip
    """The p of the mean AUC over folds, were the labels of each fold drawn at random; one-sided.

    Inside a fold the scores are those of a learner that has not seen its rows.
    """
    from scipy.stats import rankdata

    observed, drawn = 0.0, np.zeros(permutations)
    for number in np.unique(fold):
        ranks = rankdata(scores[fold == number])
        labels = y[fold == number]
        m, n = int(labels.sum()), int((1 - labels).sum())
        observed += float(ranks[labels == 1].sum()) / (m * n)
        for draw in range(permutations):
            drawn[draw] += float(ranks[rng.permutation(m + n)[:m]].sum()) / (m * n)
    return float((1 + (drawn >= observed - 1e-12).sum()) / (1 + permutations))
