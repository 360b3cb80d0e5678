"""How far decisions widen a gap that the labels hold already: paired gaps, directions, log-ratios.

Knows confusion counts per group; refuses thresholds, and refuses to compare the gap of the decisions
with that of the labels as if they were measured on different people.

Labels and decisions stand on the same samples, so their gaps are correlated. Within a group the
difference of the two rates is ``(fp - fn) / n``, which only the discordant samples decide
(``statistics.mcnemar``). Groups are independent: their differences are combined by recovering the
variances from the ends of their intervals (MOVER: Zou & Donner 2008, eq. 8), which is what
Newcombe's interval is for two single proportions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL, mcnemar, newcombe, normal_quantile
from dlaudit.fairness.gaps import Gap, difference
from dlaudit.fairness.rates import Proportion, Tally

SURE_OF_SIGN = 0.999
"""The level, over all groups together, at which a group counts as above or below the average.

What is left of it is what a direction that was taken for certain may cost the interval's level.
"""


def labels(tally: Tally) -> tuple[int, int]:
    """How many samples of a group are positive by their label, and how many there are."""
    return tally.fn + tally.tp, tally.n


def decisions(tally: Tally) -> tuple[int, int]:
    """How many samples of a group are positive by decision, and how many there are."""
    return tally.fp + tally.tp, tally.n


def amplification(group: Tally, reference: Tally, level: float = LEVEL) -> Gap:
    """The gap of the decisions minus the gap of the labels, group minus reference, paired."""
    one, other = (mcnemar(side.fp, side.fn, side.n, level) for side in (group, reference))
    value = one.difference - other.difference
    low = value - math.hypot(
        one.difference - one.interval.low, other.interval.high - other.difference
    )
    high = value + math.hypot(
        one.interval.high - one.difference, other.difference - other.interval.low
    )
    interval = Interval(
        low=max(-2.0, low), high=min(2.0, high), level=level, method="agresti-min-mover"
    )
    return Gap(value, interval, group.n + reference.n)


def directional(tallies: Sequence[Tally], level: float = LEVEL) -> Gap:
    """Directional bias amplification A -> T (Wang & Russakovsky 2021, eq. 1-2), positive: amplified.

    The mean over groups a and outcomes t of sign(P(a, t) - P(a)P(t)) (P(T' = t | a) - P(T = t | a)).
    Of two outcomes the second says the same as the first, so that it is the mean over groups of
    sign(P(t | a) - P(t)) (P(T' = t | a) - P(T = t | a)).

    The signs are seen in the same labels. A group whose sign is not sure (``SURE_OF_SIGN`` over all
    groups) counts with both signs: the interval holds what either would give.
    """
    positives, everyone = sum(labels(one)[0] for one in tallies), sum(one.n for one in tallies)
    value = low = high = variance = 0.0
    strict = 1 - (1 - SURE_OF_SIGN) / len(tallies)
    for one in tallies:
        found = mcnemar(one.fp, one.fn, one.n, level)
        here, n = labels(one)
        rate = here / n - positives / everyone
        sign = (rate > 0) - (rate < 0)
        apart = newcombe(here, n, positives - here, everyone - n, strict)
        value += sign * found.difference
        if apart.low <= 0 <= apart.high:
            low -= abs(found.difference)
            high += abs(found.difference)
        else:
            low += sign * found.difference
            high += sign * found.difference
        ends = found.difference - found.interval.low, found.interval.high - found.difference
        variance += max(ends) ** 2
    half, k = math.sqrt(variance), len(tallies)
    interval = Interval(
        low=max(-1.0, (low - half) / k), high=min(1.0, (high + half) / k), level=level,
        method="agresti-min-mover-signs",
    )  # fmt: skip
    return Gap(value / k, interval, everyone)


class Differential(NamedTuple):
    """Smoothed empirical differential fairness of the labels, of the decisions, and their difference."""

    labels: Gap
    decisions: Gap
    amplification: Gap


class _Ratio(NamedTuple):
    """One log-ratio of smoothed rates, group ``first`` over ``second``, of the outcome ``outcome``."""

    first: int
    second: int
    outcome: int
    value: float
    error: float


def differential(tallies: Sequence[Tally], level: float = LEVEL) -> Differential:
    """Empirical differential fairness (Foulds et al. 2020, def. 4.1), decisions minus labels.

    Epsilon is the largest log-ratio of any outcome's rate between two groups, each rate smoothed as
    (count + 1/2) / (n + 1), a Dirichlet prior of concentration 1. 0 where all groups are equal.
    Intervals of epsilon come from the intervals of the pairs, as those of a spread (``gaps``); that of
    the difference from their ends, with the correlation that the same samples bring where it is
    negative (where it is positive, leaving it out only widens).
    """
    found = []
    for counted in (labels, decisions):
        counts = [counted(one) for one in tallies]
        ratios = [
            _log_ratio(counts, first, second, outcome)
            for first, second in permutations(range(len(counts)), 2)
            for outcome in (0, 1)
        ]
        found.append((_epsilon(ratios, sum(one.n for one in tallies), level), ratios))
    (data, in_labels), (model, in_decisions) = found
    widest = max(in_labels, key=_value), max(in_decisions, key=_value)
    r = min(0.0, _correlation(tallies, *widest))
    value = model.value - data.value
    down = model.value - model.interval.low, data.interval.high - data.value
    up = model.interval.high - model.value, data.value - data.interval.low
    interval = Interval(
        low=value - math.sqrt(down[0] ** 2 + down[1] ** 2 - 2 * r * down[0] * down[1]),
        high=value + math.sqrt(up[0] ** 2 + up[1] ** 2 - 2 * r * up[0] * up[1]),
        level=level,
        method="log-ratio-pairs-mover",
    )
    return Differential(data, model, Gap(value, interval, model.n))


def _value(ratio: _Ratio) -> float:
    return ratio.value


def _log_ratio(counts: Sequence[tuple[int, int]], first: int, second: int, outcome: int) -> _Ratio:
    """A log-ratio of smoothed rates and its standard error (Walter 1975)."""
    value = variance = 0.0
    for group, sign in ((first, 1), (second, -1)):
        positives, n = counts[group]
        seen = (positives if outcome else n - positives) + 0.5
        value += sign * math.log(seen / (n + 1))
        variance += 1 / seen - 1 / (n + 1)
    return _Ratio(first, second, outcome, value, math.sqrt(variance))


def _epsilon(ratios: Sequence[_Ratio], n: int, level: float) -> Gap:
    """The largest log-ratio; every ratio stands here with its inverse, so it is never below 0."""
    # A pair of groups is one search for two outcomes; its two directions are mirror images.
    strict = normal_quantile(1 - (1 - level) / (len(ratios) // 2))
    plain = normal_quantile(level)
    interval = Interval(
        low=max(0.0, *(one.value - strict * one.error for one in ratios)),
        high=max(one.value + plain * one.error for one in ratios),
        level=level,
        method="log-ratio-pairs",
    )
    return Gap(max(one.value for one in ratios), interval, n)


def _correlation(tallies: Sequence[Tally], label: _Ratio, decision: _Ratio) -> float:
    """The correlation of two log-ratios, one of labels and one of decisions, on the same samples."""
    covariance = 0.0
    for one, sign in ((label.first, 1), (label.second, -1)):
        for other, against in ((decision.first, 1), (decision.second, -1)):
            if one != other:
                continue
            tally = tallies[one]
            both = {(0, 0): tally.tn, (0, 1): tally.fp, (1, 0): tally.fn, (1, 1): tally.tp}
            joint = both[label.outcome, decision.outcome] / tally.n
            real, said = labels(tally)[0] / tally.n, decisions(tally)[0] / tally.n
            p, q = real if label.outcome else 1 - real, said if decision.outcome else 1 - said
            if p and q:
                covariance += sign * against * (joint / (p * q) - 1) / tally.n
    scale = label.error * decision.error
    return max(-1.0, min(1.0, covariance / scale)) if scale else 0.0


def label_gap(group: Tally, reference: Tally, level: float = LEVEL) -> Gap:
    """How much likelier the label is positive in the group than in the reference (Newcombe)."""
    return _gap(labels(group), labels(reference), level)


def prediction_gap(group: Tally, reference: Tally, level: float = LEVEL) -> Gap:
    """How much likelier the decision is positive in the group than in the reference (Newcombe)."""
    return _gap(decisions(group), decisions(reference), level)


def _gap(one: tuple[int, int], other: tuple[int, int], level: float) -> Gap:
    return difference(Proportion(*one), Proportion(*other), level)


def widened(labelled: Gap, amplified: Gap) -> bool:
    """Whether decisions drive a group further from the reference than its labels do, beyond chance.

    The amplification's interval lies on one side of 0, the side on which the gap of the labels lies.
    A gap that the labels do not show at all counts as widened whichever way it goes.
    """
    sure = labelled.interval.low > 0 or labelled.interval.high < 0
    up, down = amplified.interval.low > 0, amplified.interval.high < 0
    if not sure:
        return up or down
    return up if labelled.value > 0 else down
