"""Gaps between groups: differences, ratios and the widest of them, with intervals and a p-value.

Knows proportions and numpy's randomness; refuses thresholds, and refuses to treat a group that the
data chose (the best, the farthest apart) as if it had been named beforehand.

The widest gap over groups is a maximum over pairs, and the pair is chosen by the same data that
measure it. A percentile bootstrap of it cannot hold 0, so that equal groups are always accused.
Here the interval comes from the intervals of the pairs (Newcombe 1998 for differences, Katz 1978
for ratios):

* The end away from "no gap" is the farthest end of any pair at the nominal level. The truly widest
  pair is among them, so its own interval alone already keeps the level.
* The end towards "no gap" is the farthest such end of any pair at the level that Bonferroni asks
  for all pairs together, and is cut at "no gap". It claims a gap only if some single pair shows one
  beyond what the number of pairs explains.

Counts come in steps: no difference of x / n and y / m lies between 0 and 1 / lcm(n, m). Newcombe's interval
of two equal groups of 75 excludes 0 in 6.0 % of audits for that reason alone. Half a step is the
continuity correction of such a lattice (Yates 1934): an end that lies no further from 0 is 0, and a
ratio's end is 1 where the difference's interval at the same level holds 0. With it no place of the grid
of ``benchmarks/fairness_coverage.py`` errs by more than 5.5 %.

The coverage of all, also under equality, is enumerated and simulated there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from msgspec.structs import replace

from dlaudit.audit.record import Interval
from dlaudit.audit.statistics import LEVEL, katz, newcombe, normal_quantile, wilson
from dlaudit.fairness.rates import Proportion

RESAMPLES = 2000
ROUNDING = 1e-12
"""Ends that equal half a step up to rounding count as equal."""


class Gap(NamedTuple):
    """A gap with its interval; n: the samples behind it."""

    value: float
    interval: Interval
    n: int


class NoGap(NamedTuple):
    """Why a gap is not defined."""

    reason: str


Pair = tuple[Proportion, Proportion]
Between = Callable[[Proportion, Proportion, float], Interval]


def half_step(n: int, m: int) -> float:
    """Half the smallest difference but 0 that rates of n and of m samples can have."""
    return 0.5 / math.lcm(n, m)


def difference(group: Proportion, reference: Proportion, level: float = LEVEL) -> Gap:
    """Group minus reference, Newcombe's interval; an end within half a step of 0 is 0."""
    return Gap(
        group.value - reference.value, _newcombe(group, reference, level), group.n + reference.n
    )


def ratio(group: Proportion, reference: Proportion, level: float = LEVEL) -> Gap | NoGap:
    """Group over reference, Katz's interval; not defined where a count is zero.

    It holds 1 wherever the interval of the difference holds 0, so that the two never disagree.
    """
    if not (group.successes and reference.successes):
        return NoGap(_no_logarithm(group, reference))
    return Gap(group.value / reference.value, _katz(group, reference, level), group.n + reference.n)


def mean_of_two(one: Proportion, other: Proportion, level: float = LEVEL) -> Gap:
    """The mean of two independent proportions, from the ends of Wilson's intervals.

    Newcombe's way with a difference, applied to a sum (MOVER: Zou & Donner 2008, eq. 7).
    """
    first, second = wilson(one.successes, one.n, level), wilson(other.successes, other.n, level)
    value = (one.value + other.value) / 2
    down = math.hypot(one.value - first.low, other.value - second.low) / 2
    up = math.hypot(first.high - one.value, second.high - other.value) / 2
    interval = Interval(low=value - down, high=value + up, level=level, method="wilson-mover")
    return Gap(value, interval, one.n + other.n)


def larger(one: Gap, other: Gap, stricter: tuple[Gap, Gap], level: float = LEVEL) -> Gap:
    """The larger of two gaps, which the data choose. stricter: the same at half the error.

    The high end of the truly larger one holds it at the nominal level; the low end is searched for in
    two gaps and is as strict as Bonferroni asks.
    """
    interval = Interval(
        low=max(gap.interval.low for gap in stricter),
        high=max(one.interval.high, other.interval.high),
        level=level,
        method=f"{one.interval.method}-larger",
    )
    return Gap(max(one.value, other.value), interval, max(one.n, other.n))


def spread(groups: Sequence[Proportion], level: float = LEVEL) -> Gap:
    """Largest minus smallest of two or more groups: 0 where all are equal."""
    strict, plain = (
        _all_differences(groups, at) for at in (_together(level, _pairs(groups)), level)
    )
    values = [group.value for group in groups]
    interval = Interval(
        low=max(0.0, float(strict[0].max())), high=max(0.0, float(plain[1].max())), level=level,
        method="newcombe-pairs",
    )  # fmt: skip
    return Gap(max(values) - min(values), interval, sum(group.n for group in groups))


def worst_ratio(groups: Sequence[Proportion], level: float = LEVEL) -> Gap | NoGap:
    """Smallest over largest of two or more groups: 1 where all are equal."""
    if not all(group.successes for group in groups):
        return NoGap(_no_logarithm(*groups))
    strict, plain = (_all_ratios(groups, at) for at in (_together(level, _pairs(groups)), level))
    values = [group.value for group in groups]
    interval = Interval(
        low=min(1.0, float(plain[0].min())), high=min(1.0, float(strict[1].min())), level=level,
        method="katz-pairs",
    )  # fmt: skip
    return Gap(min(values) / max(values), interval, sum(group.n for group in groups))


def _pairs(groups: Sequence[Proportion]) -> int:
    return len(groups) * (len(groups) - 1) // 2


def _all_differences(groups: Sequence[Proportion], level: float) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the interval of every group minus every other, as ``difference`` gives them."""
    rate = np.array([group.value for group in groups])
    ends = [wilson(group.successes, group.n, level) for group in groups]
    below, above = rate - [one.low for one in ends], [one.high for one in ends] - rate
    one, other = np.nonzero(~np.eye(len(groups), dtype=bool))
    gap = rate[one] - rate[other]
    low, high = gap - np.hypot(below[one], above[other]), gap + np.hypot(above[one], below[other])
    n = np.array([group.n for group in groups])
    step = 0.5 / np.lcm(n[one], n[other]) + ROUNDING
    return (
        np.where((low > 0) & (low <= step), 0.0, low),
        np.where((high < 0) & (high >= -step), 0.0, high),
    )


def _all_ratios(groups: Sequence[Proportion], level: float) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the interval of every group over every other, as ``ratio`` gives them."""
    seen, n = (np.array([group[place] for group in groups], dtype=float) for place in (0, 1))
    variance = 1 / np.minimum(seen, n - 0.5) - 1 / n
    one, other = np.nonzero(~np.eye(len(groups), dtype=bool))
    ratio = (seen / n)[one] / (seen / n)[other]
    factor = np.exp(normal_quantile(level) * np.sqrt(variance[one] + variance[other]))
    low, high = _all_differences(groups, level)
    equal = (low <= 0) & (high >= 0)
    return (
        np.where(equal, np.minimum(1.0, ratio / factor), ratio / factor),
        np.where(equal, np.maximum(1.0, ratio * factor), ratio * factor),
    )


class Best(NamedTuple):
    """The groups that can be the best one, and which end of the scale is best."""

    candidates: Sequence[Proportion]
    end: Literal["highest", "lowest"]

    @property
    def observed(self) -> Proportion:
        """The candidate that looks best here. Ties go to the first."""
        pick = max if self.end == "highest" else min
        return pick(self.candidates, key=lambda group: group.value)


def difference_to_best(
    group: Proportion, best: Best, *, is_candidate: bool, level: float = LEVEL
) -> Gap:
    """Group minus the best of ``best``, with an interval that covers the choice of the best.

    is_candidate: the group may itself be the best one (it never stands among the rivals in
    ``best``). Its difference is then 0 at most (highest is best) or at least (lowest is best).
    """
    pairs = [(group, rival) for rival in best.candidates]
    observed = group.value - best.observed.value
    if best.end == "highest":
        ceiling = 0.0 if is_candidate else 1.0
        interval = _smallest(pairs, _newcombe, tests=len(pairs), ceiling=ceiling, level=level)
        value = min(observed, ceiling)
    else:
        floor = 0.0 if is_candidate else -1.0
        interval = _largest(pairs, _newcombe, tests=len(pairs), floor=floor, level=level)
        value = max(observed, floor)
    return Gap(value, interval, group.n + best.observed.n)


def ratio_to_best(
    group: Proportion, best: Best, *, is_candidate: bool, level: float = LEVEL
) -> Gap | NoGap:
    """Group over the best of ``best``, with an interval that covers the choice of the best."""
    if not (group.successes and best.observed.successes):
        return NoGap(_no_logarithm(group, best.observed))
    # A rival that was never selected is not the best of those with the highest rate.
    pairs = [(group, rival) for rival in best.candidates if rival.successes]
    observed = group.value / best.observed.value
    if best.end == "highest":
        ceiling = 1.0 if is_candidate else math.inf
        interval = _smallest(pairs, _katz, tests=len(pairs), ceiling=ceiling, level=level)
        value = min(observed, ceiling)
    else:
        floor = 1.0 if is_candidate else 0.0
        interval = _largest(pairs, _katz, tests=len(pairs), floor=floor, level=level)
        value = max(observed, floor)
    return Gap(value, interval, group.n + best.observed.n)


def zero_to_best(group: Proportion, best: Best, level: float = LEVEL) -> Gap | NoGap:
    """0 of n over the highest of ``best``: the ratio is 0, whatever the highest rate is.

    Katz' logarithm does not exist there. The upper end is that of Donner & Zou 2012 (eq. 9, MOVER for a
    ratio) from Wilson's ends: u / sqrt(l (2 p - l)) where the group's own rate is 0.
    """
    pairs = [rival for rival in best.candidates if rival.successes]
    if group.successes or not pairs:
        return NoGap(_no_logarithm(group, best.observed))
    strict = _together(level, len(pairs))
    above = wilson(0, group.n, strict).high
    ends = []
    for rival in pairs:
        low = wilson(rival.successes, rival.n, strict).low
        ends.append(above / math.sqrt(low * (2 * rival.value - low)))
    interval = Interval(low=0.0, high=min(1.0, *ends), level=level, method="wilson-mover-ratio")
    return Gap(0.0, interval, group.n + best.observed.n)


def apart(one: Gap, other: Gap) -> Gap:
    """The difference of two independent numbers (MOVER: Zou & Donner 2008, eq. 8)."""
    value = one.value - other.value
    interval = Interval(
        low=value - math.hypot(one.value - one.interval.low, other.interval.high - other.value),
        high=value + math.hypot(one.interval.high - one.value, other.value - other.interval.low),
        level=one.interval.level,
        method=one.interval.method,
    )
    return Gap(value, interval, one.n + other.n)


def permutation_p(
    groups: Sequence[Proportion], rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> float:
    """The p of the spread, were the same successes dealt to the samples of all groups at random.

    (1 + hits) / (1 + resamples): never 0. Permuted columns are not drawn; their group counts are,
    from the multivariate hypergeometric distribution that they follow, so that a million samples
    cost what ten do.
    """
    sizes = np.array([group.n for group in groups])
    dealt = rng.multivariate_hypergeometric(
        sizes, sum(group.successes for group in groups), size=resamples
    )
    values = [group.value for group in groups]
    # A permuted table can tie with the observed one up to rounding: count it as a hit.
    hits = int((np.ptp(dealt / sizes, axis=1) >= max(values) - min(values) - 1e-12).sum())
    return (1 + hits) / (1 + resamples)


def _newcombe(first: Proportion, second: Proportion, level: float) -> Interval:
    found = newcombe(first.successes, first.n, second.successes, second.n, level)
    step = half_step(first.n, second.n) + ROUNDING
    if 0 < found.low <= step:
        return replace(found, low=0.0, method="newcombe-half-step")
    if -step <= found.high < 0:
        return replace(found, high=0.0, method="newcombe-half-step")
    return found


def _katz(first: Proportion, second: Proportion, level: float) -> Interval:
    found = katz(first.successes, first.n, second.successes, second.n, level)
    assert found is not None  # noqa: S101  (callers have refused zero counts)
    apart = _newcombe(first, second, level)
    if found.low <= 1 <= found.high or not apart.low <= 0 <= apart.high:
        return found
    return replace(
        found, low=min(found.low, 1.0), high=max(found.high, 1.0), method="katz-and-newcombe"
    )


def _no_logarithm(*groups: Proportion) -> str:
    empty = next(group for group in groups if not group.successes)
    return f"0 of {empty.n} in a group: a ratio has no logarithm there; see the difference"


def _together(level: float, tests: int) -> float:
    """The level of each of ``tests`` intervals that hold ``level`` all together (Bonferroni)."""
    return 1 - (1 - level) / tests


def _largest(
    pairs: Iterable[Pair], between: Between, *, tests: int, floor: float, level: float
) -> Interval:
    """Interval of the largest gap over ``pairs``, known to be ``floor`` at least."""
    pairs = list(pairs)
    strict = [between(*pair, _together(level, tests)) for pair in pairs]
    plain = [between(*pair, level) for pair in pairs]
    return Interval(
        low=max(floor, *(one.low for one in strict)),
        high=max(floor, *(one.high for one in plain)),
        level=level,
        method=f"{plain[0].method.split('-')[0]}-pairs",
    )


def _smallest(
    pairs: Iterable[Pair], between: Between, *, tests: int, ceiling: float, level: float
) -> Interval:
    """Interval of the smallest gap over ``pairs``, known to be ``ceiling`` at most."""
    pairs = list(pairs)
    strict = [between(*pair, _together(level, tests)) for pair in pairs]
    plain = [between(*pair, level) for pair in pairs]
    return Interval(
        low=min(ceiling, *(one.low for one in plain)),
        high=min(ceiling, *(one.high for one in strict)),
        level=level,
        method=f"{plain[0].method.split('-')[0]}-pairs",
    )
