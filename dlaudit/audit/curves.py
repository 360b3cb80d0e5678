"""Curves in one frame as SVG: losses over epochs, reliability, risk over coverage, gains with intervals.

Knows points, whiskers and upright lines; refuses colours that judge. Text only: the same numbers give
the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 460, 300, 60, 16, 44
KEY, TICKS = 170, 4
ROW, LABEL = 26, 190
INK, FAINT = "#1b1b1b", "#767676"
COLOURS = ("#1b5e8c", "#a8480f", "#3d6b21", "#6b3d82")
DASHES = ("", "6 3", "2 3", "8 3 2 3")


class Curve(NamedTuple):
    """Points from left to right: (x, y), or (x, y, low, high) with whiskers. marks: draw each point."""

    name: str
    points: Sequence[tuple[float, ...]]
    marks: bool = False


class Upright(NamedTuple):
    """A line from top to bottom, and what stands there."""

    x: float
    name: str


def curves_svg(
    curves: Sequence[Curve],
    *,
    across: str,
    up: str,
    uprights: Sequence[Upright] = (),
    diagonal: bool = False,
    from_zero: bool = False,
) -> bytes:
    """Up to four curves, told apart by colour and dash; ``diagonal`` draws x = y.

    uprights: places marked on the x axis, named beside the frame. from_zero: the y axis begins at 0.
    """
    points = [point for curve in curves for point in curve.points]
    xs = [point[0] for point in points] + [line.x for line in uprights]
    ys = [y for point in points for y in point[1:]] + [0.0] * from_zero
    at_x, at_y, parts = framed(xs, ys, across=across, up=up, diagonal=diagonal)
    row = TOP + 12
    for place, curve in enumerate(curves[: len(COLOURS)]):
        colour, dash = COLOURS[place], DASHES[place]
        path = "M" + "L".join(f"{at_x(p[0]):.1f} {at_y(p[1]):.1f}" for p in curve.points)
        parts.append(_path(path, colour, dash=dash, width=1.8))
        for x, y, *ends_of in curve.points:
            if ends_of:
                low, high = ends_of
                parts.append(_path(f"M{at_x(x):.1f} {at_y(low):.1f}V{at_y(high):.1f}", colour))
            if curve.marks:
                parts.append(
                    f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3" fill="{colour}"/>'
                )
        parts.append(_path(f"M{WIDTH + 2} {row - 4}h18", colour, dash=dash, width=1.8))
        parts.append(text(WIDTH + 26, row, curve.name))
        row += 20
    for line in uprights:
        parts.append(_path(f"M{at_x(line.x):.1f} {TOP}V{HEIGHT - BOTTOM}", INK, dash="3 3"))
        parts.append(
            text(at_x(line.x) + 4, TOP + 10 + 12 * uprights.index(line), line.name, size=10)
        )
    return svg(WIDTH + KEY, HEIGHT, parts)


class Frame(NamedTuple):
    """Where values stand in a picture, and what is drawn of the frame: grid, ticks, words, x = y."""

    at_x: Callable[[float], float]
    at_y: Callable[[float], float]
    parts: list[str]


def framed(
    xs: Sequence[float], ys: Sequence[float], *, across: str, up: str, diagonal: bool = False
) -> Frame:
    """The frame around all these values, WIDTH by HEIGHT; what stands in it is drawn by the caller."""
    if diagonal:
        xs, ys = [0.0, 1.0, *xs], [0.0, 1.0, *ys]
    x_low, x_high, x_ticks = axis(xs)
    y_low, y_high, y_ticks = axis(ys)
    inner, tall = WIDTH - LEFT - 14, HEIGHT - TOP - BOTTOM

    def at_x(value: float) -> float:
        return LEFT + inner * (value - x_low) / (x_high - x_low)

    def at_y(value: float) -> float:
        return TOP + tall * (1 - (value - y_low) / (y_high - y_low))

    parts = []
    for tick in x_ticks:
        parts.append(_path(f"M{at_x(tick):.1f} {TOP}V{TOP + tall}", "#e3e3e3"))
        parts.append(
            text(at_x(tick), TOP + tall + 16, f"{tick:g}", colour=FAINT, anchor="middle", size=10)
        )
    for tick in y_ticks:
        parts.append(_path(f"M{LEFT} {at_y(tick):.1f}H{LEFT + inner}", "#e3e3e3"))
        parts.append(
            text(LEFT - 6, at_y(tick) + 4, f"{tick:g}", colour=FAINT, anchor="end", size=10)
        )
    if diagonal:
        ends = f"M{at_x(0):.1f} {at_y(0):.1f}L{at_x(1):.1f} {at_y(1):.1f}"
        parts.append(_path(ends, INK, dash="4 3"))
    parts.append(text(LEFT + inner / 2, HEIGHT - 8, across, anchor="middle"))
    parts.append(
        f'<g transform="rotate(-90 12 {TOP + tall / 2:.1f})">'
        f"{text(12, TOP + tall / 2, up, anchor='middle')}</g>"
    )
    return Frame(at_x, at_y, parts)


def intervals_svg(
    rows: Sequence[tuple[str, float, float, float]], *, across: str, line: float | None = None
) -> bytes:
    """Numbers with their intervals below each other: (name, value, low, high); ``line`` is dashed."""
    ends = [end for _, *numbers in rows for end in numbers] + ([] if line is None else [line])
    low, high, ticks = axis(ends)
    inner, bottom = WIDTH - 14, 34 + ROW * len(rows)

    def at(value: float) -> float:
        return LABEL + inner * (value - low) / (high - low)

    parts = []
    for tick in ticks:
        parts.append(_path(f"M{at(tick):.1f} 24V{bottom}", "#e3e3e3"))
        parts.append(text(at(tick), 16, f"{tick:g}", colour=FAINT, anchor="middle", size=10))
    if line is not None:
        parts.append(_path(f"M{at(line):.1f} 24V{bottom}", INK, dash="4 3"))
    for place, (name, value, left, right) in enumerate(rows):
        y = 34 + ROW * place + 8
        parts.append(text(4, y + 4, name))
        parts.append(_path(f"M{at(left):.1f} {y}H{at(right):.1f}", INK, width=1.5))
        parts.append(f'<circle cx="{at(value):.1f}" cy="{y}" r="3.5" fill="{INK}"/>')
    parts.append(text(LABEL + inner / 2, bottom + 20, across, anchor="middle"))
    return svg(LABEL + inner + 24, bottom + 30, parts)


def thinned(points: Sequence[tuple[float, ...]], most: int = 200) -> list[tuple[float, ...]]:
    """At most so many points, evenly by place, both ends among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(k * (len(points) - 1) / (most - 1))] for k in range(most)]


def axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Ends and round ticks (steps of 1, 2 or 5 times 10^k) over all values."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low <= 1e-9 * max(1.0, abs(low), abs(high)):
        room = max(0.05, abs(low) / 10)
        low, high = low - room, high + room
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [float(f"{k * step:.12g}") for k in range(first, last + 1)]
    return first * step, last * step, ticks


def _path(way: str, colour: str, *, dash: str = "", width: float = 1) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="{way}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}/>'


def text(
    x: float, y: float, words: str, *, colour: str = INK, anchor: str = "start", size: int = 12
) -> str:
    """Words at a place, as an element of a picture."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )


def svg(width: float, height: float, parts: Iterable[str]) -> bytes:
    """A picture on white, so that it can be read on any page."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    ).encode()
