"""How far a gap could lie from what was measured, were the unknown members of groups known.

Knows counts and the unknown ones' decisions; refuses to guess who they are: every possibility counts,
so these are bounds and no estimates.
"""

from __future__ import annotations

from typing import NamedTuple

from dlaudit.fairness.rates import Proportion


class Bounds(NamedTuple):
    """The smallest and the largest difference that any assignment of the unknown gives."""

    low: float
    high: float


def bounds(group: Proportion, reference: Proportion, unknown: Proportion) -> Bounds:
    """Group minus reference, if each unknown sample may belong to either, or to another group.

    The group's rate is lowest if it takes every failure among the unknown and no success; the
    reference's is highest if it takes every success. Both can be true at once, since no sample is
    asked to be in two groups: so both ends are reached (Horowitz & Manski 1995 for the idea).
    """
    failures = unknown.n - unknown.successes
    lowest = _lowest(group, failures), _lowest(reference, failures)
    highest = _highest(group, unknown.successes), _highest(reference, unknown.successes)
    return Bounds(lowest[0] - highest[1], highest[0] - lowest[1])


def _lowest(one: Proportion, failures: int) -> float:
    return one.successes / (one.n + failures)


def _highest(one: Proportion, successes: int) -> float:
    return (one.successes + successes) / (one.n + successes)
