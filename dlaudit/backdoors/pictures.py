"""Recovered triggers as pictures. Knows a mask and a pattern; nothing about classes or verdicts."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (2.4, 2.4)
DPI = 80
MOST = 12
"""Features drawn of a table's trigger: those with the largest mask."""


def trigger_png(mask: np.ndarray, pattern: np.ndarray) -> bytes:
    """PNG bytes: pictures show mask times pattern beside the mask, tables the features that are set.

    mask: (1, H, W), (H, W) or any other shape of numbers in [0, 1]; pattern: the whole input.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image = np.squeeze(mask)
    pictured = image.ndim == 2 and min(image.shape) > 1
    figure = Figure(figsize=(2 * SIZE[0], SIZE[1]), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    if pictured:
        left, right = figure.subplots(1, 2)
        _image(left, _seen(image, pattern), "mask x pattern")
        _image(right, image, "mask")
    else:
        _bars(figure.subplots(), mask.ravel(), np.broadcast_to(pattern, mask.shape).ravel())
    buffer = io.BytesIO()
    # No date and no version: the same trigger gives the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _seen(mask: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """The trigger on a black picture: (H, W), or (H, W, 3) for colours, scaled to [0, 1]."""
    channels = pattern.reshape(-1, *mask.shape)
    span = float(np.ptp(channels)) or 1.0
    shown = mask * (channels - channels.min()) / span
    return np.moveaxis(shown, 0, -1) if len(channels) == 3 else shown.mean(axis=0)


def _image(axes: Axes, values: np.ndarray, title: str) -> None:
    axes.imshow(values, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()


def _bars(axes: Axes, mask: np.ndarray, pattern: np.ndarray) -> None:
    """The features with the largest mask, each with the value that the trigger gives it."""
    top = np.argsort(-mask, kind="stable")[:MOST]
    axes.barh(range(len(top)), mask[top], color="0.35")
    axes.set_yticks(range(len(top)), [f"feature {k} = {pattern[k]:.3g}" for k in top], fontsize=6)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("mask", fontsize=7)
    axes.tick_params(labelsize=6)
