"""The ROC of membership attacks as SVG, both axes logarithmic: what matters is the lower left.

Knows rates; refuses to draw below what the non-members can show. Text only; the same numbers give the
same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

import numpy as np

SIDE, LEFT, TOP, BOTTOM, KEY = 300, 58, 16, 46, 170
INK, FAINT, GRID = "#1b1b1b", "#6f6f6f", "#e3e3e3"
COLOURS = ("#1b5e8c", "#a8480f", "#3d6b21", "#6b3d82", "#7a5c00")
DASHES = ("", "6 3", "2 2", "8 3 2 3", "1 3")
POINTS = 200


def log_roc_svg(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, least: float) -> bytes:
    """Curves of (false, true) positive rates on log axes from ``least`` to 1; dashed: guessing.

    curves: name -> rates as ``roc`` gives them. least: the smallest false positive rate that can be
    seen, one over the number of non-members.
    """
    low = math.floor(math.log10(least) + 1e-9)

    def across(rate: float) -> float:
        return LEFT + SIDE * (math.log10(max(rate, 10.0**low)) - low) / -low

    def up(rate: float) -> float:
        return TOP + SIDE * math.log10(max(rate, 10.0**low)) / low

    parts = []
    for power in range(low, 1):
        x, y = across(10.0**power), up(10.0**power)
        parts.append(
            f'<path d="M{x:.1f} {TOP}V{TOP + SIDE}M{LEFT} {y:.1f}H{LEFT + SIDE}" stroke="{GRID}"/>'
        )
        name = f"{10.0**power:g}"
        parts.append(_text(x, TOP + SIDE + 16, name, anchor="middle"))
        parts.append(_text(LEFT - 6, y + 4, name, anchor="end"))
    parts.append(
        f'<path d="M{LEFT} {TOP + SIDE}L{LEFT + SIDE} {TOP}" stroke="{FAINT}" stroke-dasharray="4 3"/>'
    )
    for place, (name, (false, true)) in enumerate(curves.items()):
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
        line = f'fill="none" stroke="{colour}" stroke-width="1.6" stroke-dasharray="{dash}"'
        # As many steps per decade everywhere: millions of samples give no larger picture.
        grid = np.geomspace(10.0**low, 1, POINTS)
        seen = true[np.searchsorted(false, grid + 1e-12, side="right") - 1]
        path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in zip(grid, seen, strict=True))
        parts.append(f'<path d="M{path}" {line}/>')
        y = TOP + 12 + 18 * place
        parts.append(f'<path d="M{LEFT + SIDE + 14} {y - 4}h24" {line}/>')
        parts.append(_text(LEFT + SIDE + 44, y, name, colour=INK))
    parts.append(
        _text(LEFT + SIDE / 2, TOP + SIDE + 38, "false positive rate", anchor="middle", colour=INK)
    )
    parts.append(
        f'<g transform="rotate(-90 14 {TOP + SIDE / 2:.0f})">'
        f"{_text(14, TOP + SIDE / 2, 'true positive rate', anchor='middle', colour=INK)}</g>"
    )
    width, height = LEFT + SIDE + KEY, TOP + SIDE + BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif"><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}</svg>"
    ).encode()


def _text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = FAINT) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="11" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )
