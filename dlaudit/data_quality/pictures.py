"""Pictures of data: twins side by side, and features ranked by how far they drifted.

Knows arrays, numbers and words; never a model or a verdict. No colour judges; the same input gives the
same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dlaudit.audit.curves import INK, svg

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench
    from dlaudit.data_quality.rows import Rows

PAIRS, CELLS = 12, 6
"""Pairs in one picture, and cells of a row in one."""
SIDE, GAP, LINE = 96, 10, 13
ROW, LABEL, WIDE, NUMBER = 22, 150, 360, 130
FAINT, GREY, MARKED = "#767676", "#d9d9d9", "#f3e3b3"


class Bar(NamedTuple):
    """A feature's distance with its interval; flagged: whether a detector spoke of it."""

    name: str
    value: float
    low: float
    high: float
    flagged: bool


def inputs(bench: Bench, wanted: Mapping[str, Sequence[int]]) -> dict[str, list[np.ndarray]]:
    """The inputs at some positions of each split, in the order asked for, read in one passage."""
    shown = {}
    for split, places in wanted.items():
        order = sorted(set(places))
        held = dict(
            zip(
                order,
                (x for b in bench.blocks_at(split, np.array(order)) for x in b.batch.x),
                strict=True,
            )
        )
        shown[split] = [np.asarray(held[place]) for place in places]
    return shown


def pairs_png(
    left: Sequence[np.ndarray], right: Sequence[np.ndarray], titles: Sequence[tuple[str, str]]
) -> bytes:
    """Pairs of pictures (C, H, W) or (H, W), each pair on one scale of grey, four pairs a line."""
    from PIL import Image, ImageDraw

    across = 3
    wide, high = 2 * SIDE + 3 * GAP, SIDE + 2 * LINE + GAP
    lines = -(-len(titles) // across)
    image = Image.new("RGB", (across * wide, lines * high), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for number, (one, other, words) in enumerate(zip(left, right, titles, strict=True)):
        x, y = (number % across) * wide, (number // across) * high
        low, top = min(one.min(), other.min()), max(one.max(), other.max())
        for place, picture in enumerate((one, other)):
            image.paste(_panel(picture, float(low), float(top)), (x + place * (SIDE + GAP), y))
        for place, said in enumerate(words):
            text = said if len(said) <= 32 else f"{said[:31]}~"
            printable = text.encode("ascii", "replace").decode()
            draw.text((x, y + SIDE + place * LINE), printable, fill=(20, 20, 20))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _panel(picture: np.ndarray, low: float, top: float):  # type: ignore[no-untyped-def]  # noqa: ANN202
    from PIL import Image

    seen = picture
    if seen.ndim == 3:
        seen = np.moveaxis(seen, 0, -1) if len(seen) == 3 else seen.mean(axis=0)
    scaled = 255 * (seen.astype(np.float64) - low) / ((top - low) or 1.0)
    if scaled.ndim == 2:
        scaled = np.repeat(scaled[:, :, None], 3, axis=2)
    found = Image.fromarray(np.round(np.clip(scaled, 0, 255)).astype(np.uint8))
    return found.resize((SIDE, SIDE), Image.Resampling.NEAREST)


def cells_svg(
    test: Rows, train: Rows, pairs: Sequence[tuple[int, int]], words: Sequence[str]
) -> bytes:
    """Pairs of rows of a table beneath each other, a line each; cells that differ are marked."""
    names = test.names[:CELLS]
    width, parts = 170 + 110 * len(names), []
    parts += [
        _text(170 + 110 * k, 16, _short(name, 15), colour=FAINT) for k, name in enumerate(names)
    ]
    y = 24
    for (row, twin), how in zip(pairs, words, strict=True):
        one, other = test.values[row], train.values[twin]
        differ = (one != other) & ~(np.isnan(one) & np.isnan(other))
        parts.append(f'<path d="M0 {y}H{width}" stroke="{GREY}"/>')
        for line, (rows, at, split) in enumerate(((test, row, "test"), (train, twin, "train"))):
            base = y + 16 + 18 * line
            said = f"{split} {rows.id[at]}" + (f", {how}" if line else "")
            parts.append(_text(4, base, _short(said, 24)))
            for k in range(len(names)):
                if differ[k]:
                    parts.append(
                        f'<rect x="{166 + 110 * k}" y="{base - 13}" width="104" height="17" fill="{MARKED}"/>'
                    )
                parts.append(_text(170 + 110 * k, base, f"{rows.values[at, k]:.6g}"))
        y += 44
    more = len(test.names) - len(names)
    parts.append(
        _text(4, y + 14, f"{more} further columns are not shown." if more > 0 else "", colour=FAINT)
    )
    return svg(width, y + 24, parts)


def ranking_svg(bars: Sequence[Bar], *, across: str) -> bytes:
    """Features from the one that drifted most, each with its interval; flagged ones have a full dot."""
    top = max([one.high for one in bars] + [1e-9])
    parts = []
    for row, one in enumerate(bars):
        y = 30 + ROW * row
        at, low, high = (LABEL + WIDE * value / top for value in (one.value, one.low, one.high))
        parts.append(_text(4, y + 4, _short(one.name, 22)))
        parts.append(f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="{INK}" stroke-width="1.5"/>')
        fill = INK if one.flagged else "#fff"
        parts.append(f'<circle cx="{at:.1f}" cy="{y}" r="4" fill="{fill}" stroke="{INK}"/>')
        said = f"{one.value:.3f}" + (", drifted" if one.flagged else "")
        parts.append(_text(LABEL + WIDE + 12, y + 4, said))
    foot = 30 + ROW * len(bars)
    parts.append(f'<path d="M{LABEL} 14V{foot - 8}" stroke="{GREY}"/>')
    parts.append(_text(LABEL, foot + 10, f"0 to {top:.3g}: {across}", colour=FAINT))
    return svg(LABEL + WIDE + NUMBER, foot + 20, parts)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _text(x: float, y: float, words: str, *, colour: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="12">{escape(words)}</text>'
