"""Maps and pictures as PNG bytes. Knows arrays; never a model, a method or a verdict.

Signed maps are drawn from purple (against) over white to orange (for), symmetrical about zero: the
scale can be told apart with every common form of colour blindness and in print.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE, DPI = 2.0, 80
SIGNED = "PuOr_r"
MOST_BARS = 15


def strip_png(pictures: Sequence[np.ndarray]) -> bytes:
    """Pictures side by side, on one scale. Each: (H, W), (C, H, W) or (1, H, W)."""
    figure, axes = _panels(len(pictures))
    shown = [_visible(picture) for picture in pictures]
    low, high = min(one.min() for one in shown), max(one.max() for one in shown)
    for ax, picture in zip(axes, shown, strict=True):
        _show(ax, picture, low, high)
    return _png(figure)


def maps_png(
    titles: Sequence[str], maps: Sequence[np.ndarray], picture: np.ndarray | None = None
) -> bytes:
    """Signed maps (H, W) side by side, each on its own symmetrical scale.

    picture: drawn first, and in grey beneath every map; None draws the maps alone.
    """
    figure, axes = _panels(len(maps) + (picture is not None))
    grey = None
    if picture is not None:
        seen = _visible(picture)
        _show(axes[0], seen, float(seen.min()), float(seen.max()))
        axes[0].set_title("input", fontsize=7)
        axes = axes[1:]
        grey = seen.mean(axis=-1) if seen.ndim == 3 else seen
    for ax, title, values in zip(axes, titles, maps, strict=True):
        most = float(np.abs(values).max()) or 1.0
        if grey is not None:
            ax.imshow(grey, cmap="gray", interpolation="nearest")
        drawn = ax.imshow(
            values, cmap=SIGNED, vmin=-most, vmax=most, interpolation="nearest",
            alpha=0.8 if grey is not None else 1.0,
        )  # fmt: skip
        ax.set_title(title, fontsize=7)
        ax.set_axis_off()
        figure.colorbar(drawn, ax=ax, shrink=0.7).ax.tick_params(labelsize=5)
    return _png(figure)


def bars_png(names: Sequence[str], means: np.ndarray, title: str) -> bytes:
    """The largest of some non-negative numbers as bars. names, means: (D,), one per feature."""
    top = np.argsort(-means, kind="stable")[:MOST_BARS]
    figure, (ax,) = _panels(1, width=4.0, height=0.8 + 0.18 * len(top))
    ax.barh(range(len(top)), means[top], color="0.35")
    ax.set_yticks(range(len(top)), [names[k] for k in top], fontsize=6)
    ax.invert_yaxis()
    ax.set_xlabel(title, fontsize=7)
    ax.tick_params(labelsize=6)
    return _png(figure)


def _panels(count: int, *, width: float = SIDE, height: float = SIDE) -> tuple[Figure, Any]:
    """A figure without a window, and its axes in a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * count, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _visible(picture: np.ndarray) -> np.ndarray:
    """(H, W), or (H, W, 3) for three channels; other channels are averaged."""
    if picture.ndim == 2:
        return picture
    return np.moveaxis(picture, 0, -1) if len(picture) == 3 else picture.mean(axis=0)


def _show(ax: Axes, picture: np.ndarray, low: float, high: float) -> None:
    shown = (picture - low) / ((high - low) or 1.0)
    ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()


def _png(figure: Figure) -> bytes:
    """PNG bytes without date or version: the same picture gives the same file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
