"""Attack success and detection power over the share of poisoned rows, on one axis, as SVG.

Knows shares with their intervals and the models behind them; refuses a point that nothing stands behind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from dlaudit.audit.curves import BOTTOM, FAINT, HEIGHT, INK, LEFT, TOP, WIDTH, svg, text

KEY, TALL = 190, HEIGHT - TOP - BOTTOM
RIGHT = WIDTH - 14
DODGE = 6
"""Pixels between series that stand at one rate: whiskers must not lie on each other."""
ROOM = 16
"""Pixels at both ends, for the words beside the last point."""
COLOURS = ("#1b5e8c", "#a8480f", "#3d6b21", "#6b3d82", "#7a5c00", "#80304d", "#46555e")
DETECTORS = (INK, "#6f6f6f")


class Point(NamedTuple):
    """A share at a rate, the ends of its interval, and how many models stand behind it."""

    rate: float
    share: float
    low: float
    high: float
    models: int


class Series(NamedTuple):
    """One line from the lowest rate to the highest."""

    name: str
    points: Sequence[Point]


def power_svg(
    success: Sequence[Series], power: Sequence[Series], *, rates: Sequence[float]
) -> bytes:
    """All series over the ``rates`` tried, on a logarithmic axis.

    success: of families, full lines; power: of detectors, dashed with squares, and beside each square
    the number of models that it is a share of.
    """
    lines = [*success, *power]
    margin = DODGE * (len(lines) + 1) / 2 + ROOM
    first, last = math.log(min(rates)), math.log(max(rates))

    def at_x(rate: float) -> float:
        part = 0.5 if first == last else (math.log(rate) - first) / (last - first)
        return LEFT + margin + part * (RIGHT - LEFT - 2 * margin)

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path d="M{LEFT} {_at_y(tick):.1f}H{RIGHT}" stroke="#e3e3e3"/>')
        parts.append(
            text(LEFT - 6, _at_y(tick) + 4, f"{tick:.0%}", colour=FAINT, anchor="end", size=10)
        )
    for rate in sorted(set(rates)):
        where = TOP + TALL + 16
        parts.append(
            text(at_x(rate), where, f"{100 * rate:g} %", colour=FAINT, anchor="middle", size=10)
        )
    for place, line in enumerate(lines):
        counted = place >= len(success)
        colour = (
            DETECTORS[(place - len(success)) % len(DETECTORS)]
            if counted
            else COLOURS[place % len(COLOURS)]
        )
        shift = DODGE * (place - (len(lines) - 1) / 2)
        points = [(at_x(point.rate) + shift, point) for point in line.points]
        parts += _drawn(points, colour, counted=counted)
        y = TOP + 12 + 20 * place
        dash = ' stroke-dasharray="5 3"' if counted else ""
        parts.append(
            f'<path d="M{WIDTH + 2} {y - 4}h18" stroke="{colour}" stroke-width="1.8"{dash}/>'
        )
        parts.append(text(WIDTH + 26, y, line.name))
    middle = (LEFT + RIGHT) / 2
    parts.append(text(middle, HEIGHT - 8, "share of poisoned rows (logarithmic)", anchor="middle"))
    return svg(WIDTH + KEY, max(HEIGHT, TOP + 12 + 20 * len(lines)), parts)


def _at_y(share: float) -> float:
    return TOP + TALL * (1 - share)


def _drawn(points: Sequence[tuple[float, Point]], colour: str, *, counted: bool) -> list[str]:
    """A line with whiskers and marks; ``counted``: with the number of models at each."""
    dash = ' stroke-dasharray="5 3"' if counted else ""
    path = "L".join(f"{x:.1f} {_at_y(one.share):.1f}" for x, one in points)
    parts = (
        [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>']
        if path
        else []
    )
    for x, one in points:
        y = _at_y(one.share)
        ends = f"M{x:.1f} {_at_y(one.low):.1f}V{_at_y(one.high):.1f}"
        parts.append(f'<path d="{ends}" stroke="{colour}"/>')
        if counted:
            parts.append(f'<path d="M{x - 3:.1f} {y - 3:.1f}h6v6h-6Z" fill="{colour}"/>')
            parts.append(
                text(
                    x + 5,
                    y + (12 if one.share > 0.5 else -5),
                    f"n {one.models}",
                    colour=colour,
                    size=9,
                )
            )
        else:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    return parts
