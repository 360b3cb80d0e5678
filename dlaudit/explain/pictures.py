"""Maps and pictures as PNG bytes. Knows arrays; never a model, a method or a verdict.

Signed maps are drawn from purple (against) over white to orange (for), symmetrical about zero: a
scale that can be told apart with every common form of colour blindness and in grey print.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE, GAP, LINE = 128, 8, 13
"""A panel's side, the space between panels and a line of text, in pixels."""
ANCHORS = np.array(
    [
        [45, 0, 75], [84, 39, 136], [128, 115, 172], [178, 171, 210], [216, 218, 235],
        [247, 247, 247],
        [254, 224, 182], [253, 184, 99], [224, 130, 20], [179, 88, 6], [127, 59, 8],
    ],
    dtype=np.float64,
)  # fmt: skip
"""Purple to orange in eleven steps (ColorBrewer's PuOr), from -1 to 1."""
VEIL = 0.75
"""Share of the map where it lies over its picture."""
WHITE, INK = (255, 255, 255), (20, 20, 20)
MOST_BARS = 15


def strip_png(pictures: Sequence[np.ndarray]) -> bytes:
    """Pictures side by side, on one scale. Each: (H, W), (C, H, W)."""
    shown = [_visible(picture) for picture in pictures]
    low, high = min(one.min() for one in shown), max(one.max() for one in shown)
    return _joined([(_enlarged(_grey(one, low, high)), ()) for one in shown])


def maps_png(
    titles: Sequence[str], maps: Sequence[np.ndarray], picture: np.ndarray | None = None
) -> bytes:
    """Signed maps (H, W) side by side, each on its own symmetrical scale, which stands beneath it.

    picture: (H, W) or (C, H, W), drawn first and in grey beneath every map; None draws maps alone.
    """
    panels: list[tuple[np.ndarray, Sequence[str]]] = []
    beneath: np.ndarray | None = None
    if picture is not None:
        seen = _visible(picture)
        shown = _grey(seen, seen.min(), seen.max())
        panels.append((_enlarged(shown), ("input",)))
        beneath = shown.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    for title, values in zip(titles, maps, strict=True):
        most = float(np.abs(values).max())
        colours = coloured(values / (most or 1.0))
        if beneath is not None:
            colours = VEIL * colours + (1 - VEIL) * beneath
        panels.append((_enlarged(colours), (*title.split("\n"), f"-{most:.2g} to {most:.2g}")))
    return _joined(panels)


def coloured(values: np.ndarray) -> np.ndarray:
    """(H, W) numbers in [-1, 1] as (H, W, 3) colours in [0, 255]; 0 is the scale's white."""
    at = np.linspace(-1, 1, len(ANCHORS))
    return np.stack([np.interp(values, at, ANCHORS[:, k]) for k in range(3)], axis=-1)


def bars_png(names: Sequence[str], sizes: np.ndarray) -> bytes:
    """The largest of some non-negative numbers as bars with their values. names, sizes: (D,)."""
    from PIL import Image, ImageDraw

    top = np.argsort(-sizes, kind="stable")[:MOST_BARS]
    most = float(sizes[top].max()) or 1.0
    image = Image.new("RGB", (4 * SIDE, (LINE + 3) * len(top) + GAP), WHITE)
    draw = ImageDraw.Draw(image)
    for line, k in enumerate(top):
        y = GAP // 2 + line * (LINE + 3)
        draw.text((GAP, y), _printable(names[k]), fill=INK)
        length = round(2 * SIDE * float(sizes[k]) / most)
        draw.rectangle((SIDE, y, SIDE + length, y + LINE - 1), fill=(90, 90, 90))
        draw.text((SIDE + length + GAP, y), f"{sizes[k]:.3g}", fill=INK)
    return _png(image)


COLOURS = ("#b35806", "#542788", "#1b7837", "#2166ac", "#b2182b", "#737373")
DASHES = ("6 3", "2 3", "8 3 2 3", "1 2")


def curves_svg(panels: Mapping[str, Mapping[str, np.ndarray]], *, methods: int) -> bytes:
    """Lines from 0 to 1 over 0 to 1, a panel for each group of them, with a legend beside.

    panels: title -> name -> (K,) values. The first ``methods`` lines are solid, the others dashed.
    """
    width, height, margin, legend = 280, 200, 34, 190
    parts = []
    names = list(next(iter(panels.values())))
    for place, (title, lines) in enumerate(panels.items()):
        left = margin + place * (width + margin)
        parts.append(
            f'<rect x="{left}" y="20" width="{width}" height="{height}" fill="none" stroke="#999"/>'
            f'<text x="{left}" y="14">{escape(title)}</text>'
            f'<text x="{left}" y="{height + 34}">0 %</text>'
            f'<text x="{left + width}" y="{height + 34}" text-anchor="end">100 % of the input</text>'
            f'<text x="{left - 4}" y="26" text-anchor="end">1</text>'
            f'<text x="{left - 4}" y="{height + 20}" text-anchor="end">0</text>'
        )
        for k, values in enumerate(lines.values()):
            along = np.linspace(left, left + width, len(values))
            points = " ".join(
                f"{x:.1f},{20 + height * (1 - y):.1f}" for x, y in zip(along, values, strict=True)
            )
            parts.append(f'<polyline points="{points}" {_stroke(k, methods)}/>')
    right = margin + len(panels) * (width + margin)
    for k, name in enumerate(names):
        y = 28 + 16 * k
        parts.append(
            f'<line x1="{right}" x2="{right + 26}" y1="{y}" y2="{y}" {_stroke(k, methods)}/>'
            f'<text x="{right + 32}" y="{y + 4}">{escape(name)}</text>'
        )
    return _svg(right + legend, max(height + 44, 40 + 16 * len(names)), parts)


def waterfall_svg(names: Sequence[str], values: np.ndarray, end: float) -> bytes:
    """Bars from the baseline's logit to ``end``, the largest contribution first, the rest in one bar."""
    order = np.argsort(-np.abs(values), kind="stable")
    shown, rest = order[:MOST_BARS], order[MOST_BARS:]
    bars = [(names[k], float(values[k])) for k in shown]
    bars += [(f"{len(rest)} others", float(values[rest].sum()))] if len(rest) else []
    at = end - sum(size for _, size in bars)
    ends = np.cumsum([at, *(size for _, size in bars)])
    low, wide = float(ends.min()), float(np.ptp(ends)) or 1.0
    parts = [_words(150, 14, f"baseline {at:.3g}", "middle")]
    for k, (name, size) in enumerate(bars):
        left, right = (170 + 300 * (edge - low) / wide for edge in sorted((ends[k], ends[k + 1])))
        colour = COLOURS[0] if size > 0 else COLOURS[1]
        parts.append(
            f'<rect x="{left:.1f}" y="{22 + 18 * k}" width="{max(right - left, 1):.1f}" height="14" '
            f'fill="{colour}"/>'
        )
        parts.append(_words(160, 33 + 18 * k, name, "end"))
        parts.append(_words(round(right) + 5, 33 + 18 * k, f"{size:+.3g}", "start"))
    parts.append(_words(150, 38 + 18 * len(bars), f"logit {end:.3g}", "middle"))
    return _svg(560, 46 + 18 * len(bars), parts)


A_LINE = 12
"""Tokens on a line of a text."""


def text_svg(tokens: Sequence[str], values: np.ndarray) -> bytes:
    """A text with each token on its colour, on one symmetrical scale that stands beneath. values: (L,)."""
    most = float(np.abs(values).max())
    colours = np.round(coloured(values[None] / (most or 1.0))[0]).astype(int)  # (L, 3)
    parts = []
    for at, (token, colour) in enumerate(zip(tokens, colours, strict=True)):
        x, y = 8 + 52 * (at % A_LINE), 8 + 24 * (at // A_LINE)
        # Dark ground, light letters: below this brightness black cannot be read.
        ink = "#fff" if colour @ (0.299, 0.587, 0.114) < 128 else "#222"
        shade = ",".join(str(one) for one in colour)
        parts.append(f'<rect x="{x}" y="{y}" width="50" height="20" fill="rgb({shade})"/>')
        parts.append(
            f'<text x="{x + 25}" y="{y + 14}" text-anchor="middle" fill="{ink}">{escape(token[:8])}</text>'
        )
    height = 8 + 24 * -(-len(tokens) // A_LINE)
    parts.append(
        _words(8, height + 14, f"-{most:.2g} to {most:.2g}, in units of the logit", "start")
    )
    return _svg(16 + 52 * min(len(tokens), A_LINE), height + 22, parts)


def courses_svg(name: str, courses: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    """Lines over the values of one column. courses: name -> (k,) values and (k,) heights."""
    across = np.concatenate([x for x, _ in courses.values()]).astype(np.float64)
    heights = np.concatenate([y for _, y in courses.values()])
    left, low = float(across.min()), float(heights.min())
    wide, tall = float(np.ptp(across)) or 1.0, float(np.ptp(heights)) or 1.0
    parts = ['<rect x="60" y="20" width="300" height="180" fill="none" stroke="#999"/>']
    for k, (title, (x, y)) in enumerate(courses.items()):
        points = " ".join(
            f"{60 + 300 * (float(a) - left) / wide:.1f},{200 - 180 * (float(b) - low) / tall:.1f}"
            for a, b in zip(x, y, strict=True)
        )
        parts.append(f'<polyline points="{points}" {_stroke(k, len(courses))}/>')
        parts.append(
            f'<line x1="375" x2="400" y1="{30 + 16 * k}" y2="{30 + 16 * k}" {_stroke(k, 9)}/>'
        )
        parts.append(_words(406, 34 + 16 * k, title, "start"))
    parts += [
        _words(55, 26, f"{low + tall:.3g}", "end"), _words(55, 204, f"{low:.3g}", "end"),
        _words(60, 216, f"{left:.3g}", "start"), _words(360, 216, f"{left + wide:.3g}", "end"),
        _words(210, 216, name, "middle"),
    ]  # fmt: skip
    return _svg(570, 224, parts)


def _words(x: int, y: int, words: str, anchor: str) -> str:
    """A line of text."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(width: int, height: int, parts: Sequence[str]) -> bytes:
    """A drawing of some parts."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11" fill="#222">'
    )
    return "".join((head, *parts, "</svg>")).encode()


def _stroke(k: int, methods: int) -> str:
    """A method's line is solid, a control's grey and dashed."""
    if k < methods:
        return f'fill="none" stroke="{COLOURS[k % len(COLOURS)]}" stroke-width="2"'
    dash = DASHES[(k - methods) % len(DASHES)]
    return f'fill="none" stroke="#555" stroke-width="1.2" stroke-dasharray="{dash}"'


def _joined(panels: Sequence[tuple[np.ndarray, Sequence[str]]]) -> bytes:
    """Panels (h, w, 3) in a row, each with lines of text beneath it."""
    from PIL import Image, ImageDraw

    lines = max(len(text) for _, text in panels)
    height = max(len(panel) for panel, _ in panels) + lines * LINE
    widths = [max(panel.shape[1], SIDE) for panel, _ in panels]
    image = Image.new("RGB", (sum(widths) + GAP * (len(panels) - 1), height), WHITE)
    draw = ImageDraw.Draw(image)
    left = 0
    for (panel, text), width in zip(panels, widths, strict=True):
        image.paste(Image.fromarray(np.round(np.clip(panel, 0, 255)).astype(np.uint8)), (left, 0))
        for line, words in enumerate(text):
            draw.text((left, len(panel) + line * LINE), _printable(words), fill=INK)
        left += width + GAP
    return _png(image)


def _visible(picture: np.ndarray) -> np.ndarray:
    """(H, W), or (H, W, 3) for three channels; other channels are averaged."""
    if picture.ndim == 2:
        return picture
    return np.moveaxis(picture, 0, -1) if len(picture) == 3 else picture.mean(axis=0)


def _grey(picture: np.ndarray, low: float, high: float) -> np.ndarray:
    """A visible picture as (H, W, 3) in [0, 255]."""
    scaled = 255 * (picture.astype(np.float64) - low) / ((high - low) or 1.0)
    return scaled if scaled.ndim == 3 else np.repeat(scaled[:, :, None], 3, axis=2)


def _enlarged(panel: np.ndarray) -> np.ndarray:
    """Whole copies of every pixel, until the panel is large enough to be seen."""
    times = max(1, SIDE // max(panel.shape[:2]))
    return panel.repeat(times, axis=0).repeat(times, axis=1)


def _printable(words: str) -> str:
    """The font that is always there knows ASCII only; captions carry the full text."""
    return words.encode("ascii", "replace").decode()


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
