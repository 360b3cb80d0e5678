"""What the rates of a group mean: which decisions are counted, among which samples.

Knows counts; refuses arrays, thresholds and the word for a good or a bad rate.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple


class Tally(NamedTuple):
    """How often a group was decided upon, and how. The last four speak of the positive class.

    n: samples; correct: those whose class was met; tn, fp, fn, tp: the confusion counts.
    """

    n: int
    correct: int
    tn: int = 0
    fp: int = 0
    fn: int = 0
    tp: int = 0


class Proportion(NamedTuple):
    """``successes`` out of ``n``: a rate before it is divided, so that 0 of 0 stays visible."""

    successes: int
    n: int

    @property
    def value(self) -> float:
        """The rate itself. Raises ZeroDivisionError at 0 of 0."""
        return self.successes / self.n


class Rate(NamedTuple):
    """A rate as counts of a ``Tally``: ``counted`` over ``among``; ``denominator`` in words.

    better: which way a rate is wished for, None where that depends on what the class means.
    needs_positive: whether it says anything without a positive class.
    """

    counted: tuple[str, ...]
    among: tuple[str, ...]
    denominator: str
    better: Literal["higher", "lower"] | None
    needs_positive: bool = True

    def of(self, tally: Tally) -> Proportion:
        """The rate of one group, as a proportion."""
        return Proportion(
            sum(getattr(tally, field) for field in self.counted),
            sum(getattr(tally, field) for field in self.among),
        )


RATES: dict[str, Rate] = {
    "selection_rate": Rate(("tp", "fp"), ("tn", "fp", "fn", "tp"), "samples", None),
    "true_positive_rate": Rate(("tp",), ("fn", "tp"), "actual positives", "higher"),
    "false_positive_rate": Rate(("fp",), ("tn", "fp"), "actual negatives", "lower"),
    "false_negative_rate": Rate(("fn",), ("fn", "tp"), "actual positives", "lower"),
    "precision": Rate(("tp",), ("fp", "tp"), "predicted positives", "higher"),
    "accuracy": Rate(("correct",), ("n",), "samples", "higher", needs_positive=False),
}
"""The rates of every group, by the names that rules use."""


POWER = 0.8
"""The share of audits that are to see a gap: the usual choice in planning (Cohen 1988)."""


def detectable(n: int, reference: int, *, rate: float = 0.5, level: float = 0.95) -> float:
    """The smallest gap of two rates whose interval excludes 0 in ``POWER`` of all audits.

    Normal approximation (Fleiss, Levin & Paik 2003, eq. 4.14) with both rates near ``rate``; 0.5 needs
    the most samples. The half step of ``gaps`` is added.
    """
    from dlaudit.audit.statistics import normal_quantile

    z = normal_quantile(level) + normal_quantile(2 * POWER - 1)
    half_step = 0.5 / math.lcm(n, reference)
    return z * math.sqrt(rate * (1 - rate) * (1 / n + 1 / reference)) + half_step
