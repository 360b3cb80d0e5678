"""Where marks stand in a figure: axes, strips and curves as plain numbers for the templates.

Knows geometry; never colours, never what a measurement means. Positions along an axis are per cents
of its length, so that a figure keeps its shape at any width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from dlaudit.audit.record import Measurement

WIDTH, HEIGHT = 440, 268
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 42
FAR = 1e300
"""Values are drawn no further out than this: beyond, the length of an axis would overflow."""
SERIES = 6
"""More curves than this cannot be told apart in one figure."""


class Axis(NamedTuple):
    """A linear axis with round ticks; every position lies between its ends."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Position in per cent, kept inside the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def label(self, tick: float) -> str:
        """A tick with the decimals that the step needs."""
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else self.high - self.low
        if step >= 1e6 or step < 1e-6:
            return f"{tick:.3g}"
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return f"{tick:.{decimals}f}"


class Strip(NamedTuple):
    """One measurement on an axis: point, whisker ends (None where exact), thresholds."""

    point: float
    low: float | None
    high: float | None


def axis(values: Iterable[float], *, most: int = 5) -> Axis:
    """An axis over all values, ends and ticks on round numbers (steps of 1, 2 or 5 times 10^k)."""
    found = [min(FAR, max(-FAR, value)) for value in values]
    low, high = min(found), max(found)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-100):
        pad = abs(low) / 2 if abs(low) > 1e-100 else 0.5
        low, high = low - pad, high + pad
    # A rate's axis ends at 0 and 1, not beyond: nothing can lie there.
    inside = min(found) >= 0 and max(found) <= 1
    step = _step((high - low) / most)
    first = math.floor(low / step + 1e-9) * step
    last = math.ceil(high / step - 1e-9) * step
    if inside:
        first, last = max(0.0, first), min(1.0, last)
    ticks = tuple(first + i * step for i in range(round((last - first) / step) + 1))
    return Axis(first, max(last, ticks[-1]), ticks)


def around(values: Iterable[float], thresholds: Iterable[float]) -> list[float]:
    """The values, the thresholds, and some room on both sides of each threshold.

    Without it a threshold would fall on an end of the axis, and its good side out of sight.
    """
    found, limits = list(values), list(thresholds)
    # A rate's axis need not go beyond 0 and 1, unless that is where a threshold lies.
    rates = all(0 <= value <= 1 for value in found) and all(0 < limit < 1 for limit in limits)
    room = 0.12 * (max([*found, *limits]) - min([*found, *limits]))
    found += [end for limit in limits for end in (limit - room, limit + room)]
    return [min(1.0, max(0.0, value)) for value in found] if rates else found


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def extent(one: Measurement) -> tuple[float, ...]:
    """The numbers that a figure of this measurement must hold."""
    if one.interval is None:
        return (one.value,)
    return (one.interval.low, one.value, one.interval.high)


def strip(one: Measurement, along: Axis) -> Strip:
    """A measurement's marks on an axis."""
    if one.interval is None:
        return Strip(along.at(one.value), None, None)
    return Strip(along.at(one.value), along.at(one.interval.low), along.at(one.interval.high))


class Point(NamedTuple):
    """A point of a curve in the figure's units, with its whisker, and the numbers behind it."""

    x: float
    y: float
    low: float | None
    high: float | None
    at: float
    measurement: Measurement

    @property
    def void(self) -> bool:
        """Whether a caveat voids the number: it must not look like a sound one."""
        return any(caveat.voids for caveat in self.measurement.caveats)


class Series(NamedTuple):
    """One curve: its label and its points from left to right.

    fine: the line of a finer curve between them, empty if there is none.
    """

    label: str
    points: tuple[Point, ...]
    fine: str = ""

    @property
    def void(self) -> bool:
        """Whether any of its points is void: then the line through them is."""
        return any(point.void for point in self.points)

    @property
    def line(self) -> str:
        """The polyline through its points."""
        return " ".join(f"{point.x:g},{point.y:g}" for point in self.points)

    @property
    def band(self) -> str:
        """The polygon between upper and lower ends; empty where a point is exact."""
        if any(point.low is None or point.high is None for point in self.points):
            return ""
        upper = [f"{point.x:g},{point.high:g}" for point in self.points]
        lower = [f"{point.x:g},{point.low:g}" for point in reversed(self.points)]
        return " ".join([*upper, *lower])


Threshold = tuple[float | None, float, str, str]
"""A rule's threshold before it is laid out: x or None, y, label, short label."""


class Limit(NamedTuple):
    """A rule's threshold in a curve figure: over a stretch of the x axis, with its label."""

    x1: float
    x2: float
    y: float
    label: str
    short: str


class Curve(NamedTuple):
    """A figure of value against a numeric condition."""

    title: str
    across: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    series: tuple[Series, ...]
    limits: tuple[Limit, ...]
    left_out: int

    @property
    def n(self) -> int:
        """How many samples stand behind every point, 0 if not all have the same."""
        found = {point.measurement.n for one in self.series for point in one.points}
        return found.pop() if len(found) == 1 else 0

    @property
    def level(self) -> float:
        """The confidence level of every interval, 0 if not all have the same."""
        found = {
            point.measurement.interval.level
            for one in self.series
            for point in one.points
            if point.measurement.interval is not None
        }
        return found.pop() if len(found) == 1 else 0.0

    @property
    def rows(self) -> tuple[tuple[float, tuple[tuple[Point, ...], ...]], ...]:
        """The table behind the figure: a budget, and for each curve its points there."""
        budgets = sorted({point.at for one in self.series for point in one.points})
        return tuple(
            (at, tuple(tuple(p for p in one.points if p.at == at) for one in self.series))
            for at in budgets
        )


def curve(
    title: str,
    across: str,
    series: Sequence[tuple[str, Sequence[tuple[float, Measurement]]]],
    *,
    limits: Sequence[Threshold] = (),
    fine: Mapping[str, Sequence[tuple[float, float]]] = MappingProxyType({}),
) -> Curve:
    """Lay out curves. series: (label, [(x, measurement), …]); limits: (x or None, y, label, short label).

    fine: by label, the corners of a finer line from left to right. A limit without an x holds along
    the whole axis. Only the first ``SERIES`` curves are drawn;
    ``left_out`` counts the others, which stand in the tables.
    """
    drawn = list(series[:SERIES])
    xs = axis([0.0, *(x for _, points in drawn for x, _ in points)])
    heights = [y for _, points in drawn for _, one in points for y in extent(one)]
    heights += [y for _, y, *_ in limits]
    if all(0 <= y <= 1 for y in heights):
        heights += [0.0, 1.0]
    ys = axis(heights)
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across_at(x: float) -> float:
        return round(LEFT + xs.at(x) / 100 * inner_width, 1)

    def up_at(y: float) -> float:
        return round(TOP + (1 - ys.at(y) / 100) * inner_height, 1)

    laid = tuple(
        Series(
            label,
            tuple(
                Point(
                    across_at(x),
                    up_at(one.value),
                    up_at(one.interval.low) if one.interval else None,
                    up_at(one.interval.high) if one.interval else None,
                    x,
                    one,
                )
                for x, one in sorted(points, key=lambda pair: pair[0])
            ),
            " ".join(f"{across_at(x):g},{up_at(y):g}" for x, y in fine.get(label, ())),
        )
        for label, points in drawn
    )
    stretches = tuple(
        Limit(
            LEFT if x is None else max(LEFT, across_at(x) - 14),
            WIDTH - RIGHT if x is None else min(WIDTH - RIGHT, across_at(x) + 14),
            up_at(y),
            label,
            short,
        )
        for x, y, label, short in limits
    )
    return Curve(
        title,
        across,
        tuple((across_at(tick), xs.label(tick)) for tick in xs.ticks),
        tuple((up_at(tick), ys.label(tick)) for tick in ys.ticks),
        laid,
        stretches,
        max(0, len(series) - SERIES),
    )
