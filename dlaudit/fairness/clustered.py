"""Gaps between groups whose rows come in clusters: several rows of one person, firm or day.

Knows cluster sums of residuals; refuses to take a thousand rows of ten people for a thousand people.

A rate is a ratio of cluster totals; its variance, and the covariance of two groups that share
clusters, come from the clusters' linearised residuals (Taylor linearisation, Woodruff 1971), with
Student's t at as many degrees of freedom as the group of fewer clusters has, less one. Rows within a
cluster may depend on each other in any way; clusters are independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL
from dlaudit.errors import UnknownName
from dlaudit.fairness.gaps import Gap, NoGap
from dlaudit.fairness.rates import Rate

if TYPE_CHECKING:
    from dlaudit.audit.bench import Answers, Bench

METHOD = "cluster-linearised"


def cluster_codes(bench: Bench, answers: Answers, name: str, split: str) -> np.ndarray:
    """(n,) the cluster of each sample, from a group attribute or a column of the data set.

    Raises UnknownName where there is none of this name.
    """
    if name in answers.groups:
        column = answers.groups[name]
    else:
        batches = list(bench.data.batches(split))
        if name not in batches[0].columns:
            raise UnknownName(name, "column or group", [*answers.groups, *batches[0].columns])
        column = np.concatenate([np.asarray(batch.columns[name]) for batch in batches]).astype(str)
    _, codes = np.unique(column, return_inverse=True)
    return codes


def fields(answers: Answers, positive: int | None) -> dict[str, np.ndarray]:
    """(n,) bool per field of a ``Tally``: which samples it counts."""
    n = len(answers.y)
    found = {"n": np.ones(n, dtype=bool), "correct": answers.y == answers.predicted}
    y, said = answers.y == positive, answers.predicted == positive
    for name, member in (
        ("tn", ~y & ~said),
        ("fp", ~y & said),
        ("fn", y & ~said),
        ("tp", y & said),
    ):
        found[name] = member & (positive is not None)
    return found


class Clustered(NamedTuple):
    """One rate over the groups of a partition, summed by cluster.

    hits, rows: (G, K) samples counted, and samples among which they are counted, per group and cluster.
    """

    hits: np.ndarray
    rows: np.ndarray

    def rate(self, group: int, level: float = LEVEL) -> Gap | NoGap:
        """The rate of one group; the interval on the logit scale, so that it stays within 0 and 1."""
        n, seen = float(self.rows[group].sum()), float(self.hits[group].sum())
        residual = self.hits[group] - seen / n * self.rows[group]
        k = int((self.rows[group] > 0).sum())
        if k < 2 or not residual.any() or not 0 < seen < n:
            return NoGap(f"{k} clusters show no spread to make an interval of")
        value = seen / n
        error = math.sqrt(k / (k - 1) * float((residual**2).sum())) / n
        centre = math.log(value / (1 - value))
        half = student(level, k - 1) * error / (value * (1 - value))
        low, high = (1 / (1 + math.exp(-(centre + sign * half))) for sign in (-1, 1))
        return Gap(value, Interval(low=low, high=high, level=level, method=METHOD), int(n))

    def difference(
        self, group: int, reference: int, level: float = LEVEL, *, reach: float = 1.0
    ) -> Gap | NoGap:
        """Group minus reference; it lies within -reach and reach."""
        found = self._linearised(group, reference, log=False)
        if found is None:
            return NoGap(self._too_few(group, reference))
        value, error, freedom = found
        half = student(level, freedom) * error
        interval = Interval(
            low=max(-reach, value - half), high=min(reach, value + half), level=level, method=METHOD
        )
        return Gap(value, interval, self._n(group, reference))

    def ratio(self, group: int, reference: int, level: float = LEVEL) -> Gap | NoGap:
        """Group over reference, on the logarithmic scale."""
        if not (self.hits[group].sum() and self.hits[reference].sum()):
            return NoGap("0 in a group: a ratio has no logarithm there; see the difference")
        found = self._linearised(group, reference, log=True)
        if found is None:
            return NoGap(self._too_few(group, reference))
        value, error, freedom = found
        factor = math.exp(student(level, freedom) * error)
        ratio = math.exp(value)
        interval = Interval(low=ratio / factor, high=ratio * factor, level=level, method=METHOD)
        return Gap(ratio, interval, self._n(group, reference))

    def widest(
        self, groups: Sequence[int], what: Literal["difference", "ratio"], level: float = LEVEL
    ) -> Gap | NoGap:
        """Largest minus smallest, or smallest over largest, of two or more groups (as in ``gaps``)."""
        pairs = [*combinations(groups, 2)]
        strict = 1 - (1 - level) / len(pairs)
        ends = []
        for at in (strict, level):
            found = [getattr(self, what)(*pair, at) for one in pairs for pair in (one, one[::-1])]
            for gap in found:
                if isinstance(gap, NoGap):
                    return gap
            ends.append(found)
        careful, plain = ends
        n = int(sum(self.rows[group].sum() for group in groups))
        if what == "difference":
            low = max(0.0, *(gap.interval.low for gap in careful))
            high = max(0.0, *(gap.interval.high for gap in plain))
            value = max(gap.value for gap in plain)
        else:
            low = min(1.0, *(gap.interval.low for gap in plain))
            high = min(1.0, *(gap.interval.high for gap in careful))
            value = min(gap.value for gap in plain)
        return Gap(value, Interval(low=low, high=high, level=level, method=f"{METHOD}-pairs"), n)

    def _linearised(
        self, group: int, reference: int, *, log: bool
    ) -> tuple[float, float, int] | None:
        """Value, standard error and degrees of freedom; None where clusters show no spread."""
        total = np.zeros(self.hits.shape[1])
        values = []
        held = [int((self.rows[one] > 0).sum()) for one in (group, reference)]
        for one, sign in ((group, 1), (reference, -1)):
            n, seen = self.rows[one].sum(), self.hits[one].sum()
            residual = self.hits[one] - seen / n * self.rows[one]
            total += sign * residual / (seen if log else n)
            values.append(math.log(seen / n) if log else seen / n)
        # A group of few clusters is as uncertain as those few, however many the other has.
        k = min(held)
        if k < 2 or not total.any():
            return None
        error = math.sqrt(k / (k - 1) * float((total**2).sum()))
        return float(values[0] - values[1]), error, k - 1

    def _n(self, group: int, reference: int) -> int:
        return int(self.rows[group].sum() + self.rows[reference].sum())

    def _too_few(self, group: int, reference: int) -> str:
        seen = int(((self.rows[group] + self.rows[reference]) > 0).sum())
        return f"{seen} clusters show no spread to make an interval of"


def student(level: float, freedom: int) -> float:
    """How many standard errors an interval reaches at so many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))


def clustered(
    codes: np.ndarray, groups: int, clusters: np.ndarray, rate: Rate, counted: dict[str, np.ndarray]
) -> Clustered:
    """Sum a rate by group and cluster. codes, clusters: (n,); counted: from ``fields``."""
    among = np.logical_or.reduce([counted[field] for field in rate.among])
    hit = np.logical_or.reduce([counted[field] for field in rate.counted])
    return summed(codes, groups, clusters, (hit & among).astype(np.float64), among)


def summed(
    codes: np.ndarray, groups: int, clusters: np.ndarray, values: np.ndarray, among: np.ndarray
) -> Clustered:
    """Sum any number per row by group and cluster. values: (n,) float; among: (n,) bool, rows that count."""
    k = int(clusters.max()) + 1
    keys = (codes * k + clusters)[among]
    sums = (
        np.bincount(keys, weights=weights, minlength=groups * k).reshape(groups, k)
        for weights in (values[among], np.ones(len(keys)))
    )
    return Clustered(*sums)
