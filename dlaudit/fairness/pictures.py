"""Pictures of groups as SVG: forest plots side by side, and lines of groups in one frame.

Knows numbers with their intervals and where they stand; refuses colours that judge, and refuses to
leave out a group unsaid: one without a number has its place and a word for the reason. Text only; the
same numbers give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dlaudit.audit.curves import HEIGHT, INK, TOP, WIDTH, axis, framed, svg, text

GROUPS = 14
"""Groups in one picture; the caption says how many stand in the tables alone."""
LINES = 7
"""Lines that can be told apart by their marks."""
ROW, LABEL, PANEL, GAP, HEAD, FOOT = 24, 150, 190, 26, 44, 30
KEY = 150
FAINT = "#9a9a9a"
COLOURS = ("#1b5e8c", "#a8480f", "#3d6b21", "#6b3d82", "#7a5c00", "#80304d", "#46555e")


class Mark(NamedTuple):
    """A number with the ends of its interval and the samples behind it."""

    value: float
    low: float
    high: float
    n: int


class Panel(NamedTuple):
    """One number over all groups. line: where the reference stands; marks: one per group, or a word."""

    title: str
    line: float | None
    marks: Sequence[Mark | str]


class Line(NamedTuple):
    """A group's points from left to right: (x, y), or (x, y, low, high) with whiskers."""

    name: str
    points: Sequence[tuple[float, ...]]


def forest_svg(names: Sequence[str], panels: Sequence[Panel], *, line: str) -> bytes:
    """Groups below each other, panels side by side, each on an axis of its own.

    names: of the groups, at most ``GROUPS``; line: what the dashed line is, in words.
    """
    width = LABEL + len(panels) * (PANEL + GAP)
    height = HEAD + ROW * len(names) + FOOT
    parts = [text(4, HEAD + ROW * row + 16, _short(name)) for row, name in enumerate(names)]
    for place, panel in enumerate(panels):
        parts += _panel(panel, LABEL + place * (PANEL + GAP), len(names))
    parts.append(text(4, height - 8, f"dashed: {line}", colour=FAINT))
    return svg(width, height, parts)


def _panel(panel: Panel, left: float, rows: int) -> Iterable[str]:
    """One axis with a mark per group; n stands at the right of its row."""
    marks = [mark for mark in panel.marks if isinstance(mark, Mark)]
    ends = [end for mark in marks for end in (mark.low, mark.value, mark.high)]
    low, high, ticks = axis([*ends, *([] if panel.line is None else [panel.line])])
    inner = PANEL - 48

    def at(value: float) -> float:
        return left + inner * (value - low) / (high - low)

    yield text(left, 16, panel.title)
    bottom = HEAD + ROW * rows
    for tick in ticks:
        yield f'<path d="M{at(tick):.1f} {HEAD - 6}V{bottom}" stroke="#e3e3e3"/>'
        yield text(at(tick), 33, f"{tick:g}", colour=FAINT, anchor="middle", size=10)
    if panel.line is not None:
        yield (
            f'<path d="M{at(panel.line):.1f} {HEAD - 6}V{bottom}" stroke="{INK}" '
            'stroke-dasharray="4 3"/>'
        )
    for row, mark in enumerate(panel.marks):
        y = HEAD + ROW * row + 12
        if isinstance(mark, str):
            yield text(left, y + 4, mark, colour=FAINT, size=10)
            continue
        yield (
            f'<path d="M{at(mark.low):.1f} {y}H{at(mark.high):.1f}" stroke="{INK}" '
            'stroke-width="1.5"/>'
        )
        yield f'<circle cx="{at(mark.value):.1f}" cy="{y}" r="3.5" fill="{INK}"/>'
        yield text(left + inner + 6, y + 4, f"n {mark.n:,}", colour=FAINT, size=10)


def lines_svg(
    lines: Sequence[Line],
    *,
    across: str,
    up: str,
    diagonal: bool = False,
) -> bytes:
    """Lines of groups in one frame, told apart by colour and mark; ``diagonal`` draws x = y."""
    shown = lines[:LINES]
    points = [point for line in shown for point in line.points]
    xs, ys = [point[0] for point in points], [y for point in points for y in point[1:]]
    at_x, at_y, parts = framed(xs, ys, across=across, up=up, diagonal=diagonal)
    for place, line in enumerate(shown):
        colour = COLOURS[place]
        path = "L".join(f"{at_x(x):.1f} {at_y(y):.1f}" for x, y, *_ in line.points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for x, y, *ends in line.points:
            if ends:
                low, high = ends
                parts.append(
                    f'<path d="M{at_x(x):.1f} {at_y(low):.1f}V{at_y(high):.1f}" stroke="{colour}"/>'
                )
            parts.append(_mark(place, at_x(x), at_y(y), colour))
        y = TOP + 12 + 18 * place
        parts.append(_mark(place, WIDTH + 8, y - 4, colour))
        parts.append(text(WIDTH + 18, y, _short(line.name)))
    return svg(WIDTH + KEY, HEIGHT, parts)


def _mark(place: int, x: float, y: float, colour: str) -> str:
    """A small mark whose shape says which line it belongs to."""
    shapes = (
        "M-3 0A3 3 0 1 0 3 0A3 3 0 1 0-3 0Z", "M-3-3H3V3H-3Z", "M0-4L4 3H-4Z", "M0-4L4 0 0 4-4 0Z",
        "M-4-3H4L0 4Z", "M-4-1H4V1H-4Z", "M-1-4H1V4H-1Z",
    )  # fmt: skip
    return f'<path transform="translate({x:.1f} {y:.1f})" d="{shapes[place]}" fill="{colour}"/>'


def _short(name: str) -> str:
    """A name that fits beside a row."""
    return name if len(name) <= 22 else f"{name[:21]}…"
