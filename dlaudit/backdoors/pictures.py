"""Recovered triggers as pictures. Knows masks, patterns and changes; nothing about classes or verdicts."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

    from dlaudit.backdoors.forms import AnyTrigger

SIDE, GAP, LINE = 128, 8, 13
"""A panel's side, the space between panels and a line of text, in pixels."""
WHITE, INK, BAR = (255, 255, 255), (20, 20, 20), (90, 90, 90)
MOST = 12
"""Features drawn of a table's trigger: those with the largest mask."""


def drawn(trigger: AnyTrigger) -> bytes:
    """PNG bytes of whatever a search found."""
    made = trigger.columns
    return trigger_png(**made) if "mask" in made else change_png(made["change"])


def change_png(change: np.ndarray) -> bytes:
    """PNG bytes: what is added, darker or brighter than the grey of no change, beside how much of it.

    change: one input; pictures (C, H, W) or (H, W), of anything else the largest changes as bars.
    """
    most = float(np.abs(change).max()) or 1.0
    if change.ndim in {2, 3} and min(change.shape[-2:]) > 1:
        channels = change.reshape(-1, *change.shape[-2:])
        seen = np.moveaxis(channels, 0, -1) if len(channels) == 3 else channels.mean(axis=0)
        amount = np.abs(channels).mean(axis=0)
        return _png(_panels([0.5 + 0.5 * seen / most, amount / (float(amount.max()) or 1.0)]))
    return _png(_bars(np.abs(change).ravel() / most, change.ravel(), sign="+="))


def trigger_png(mask: np.ndarray, pattern: np.ndarray) -> bytes:
    """PNG bytes: pictures show mask times pattern beside the mask, tables the features that are set.

    mask: (1, H, W), (H, W) or any other shape of numbers in [0, 1]; pattern: the whole input.
    """
    flat = np.squeeze(mask)
    if flat.ndim == 2 and min(flat.shape) > 1:
        return _png(_panels([_seen(flat, pattern), flat]))
    return _png(_bars(mask.ravel(), np.broadcast_to(pattern, mask.shape).ravel()))


def rows_png(x: np.ndarray, *, across: int = 6) -> bytes:
    """PNG bytes: pictures side by side, ``across`` in a line. x: (n, C, H, W) or (n, H, W)."""
    span = float(np.ptp(x)) or 1.0
    scaled = (x - x.min()) / span
    shown = [
        np.moveaxis(one, 0, -1)
        if one.ndim == 3 and len(one) == 3
        else one.reshape(-1, *one.shape[-2:]).mean(0)
        for one in scaled
    ]
    lines = [_enlarged(shown[k : k + across]) for k in range(0, len(shown), across)]
    width = max(line.shape[1] for line in lines)
    rows = []
    for line in lines:
        full = np.full((line.shape[0] + GAP, width, 3), 255, dtype=np.uint8)
        full[: line.shape[0], : line.shape[1]] = line
        rows.append(full)
    from PIL import Image

    return _png(Image.fromarray(np.concatenate(rows)))


def _seen(mask: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """The trigger on a black picture: (H, W), or (H, W, 3) for colours, scaled to [0, 1]."""
    channels = pattern.reshape(-1, *mask.shape)
    span = float(np.ptp(channels)) or 1.0
    shown = mask * (channels - channels.min()) / span
    return np.moveaxis(shown, 0, -1) if len(channels) == 3 else shown.mean(axis=0)


def _panels(panels: list[np.ndarray]) -> Image:
    """Pictures in [0, 1] side by side, enlarged by whole pixels."""
    from PIL import Image

    return Image.fromarray(_enlarged(panels))


def _enlarged(panels: list[np.ndarray]) -> np.ndarray:
    """(H, W, 3) bytes of pictures in [0, 1], each (h, w) or (h, w, 3), with gaps between them."""
    large: list[np.ndarray] = []
    for panel in panels:
        colours = panel if panel.ndim == 3 else np.repeat(panel[:, :, None], 3, axis=2)
        times = max(1, SIDE // max(colours.shape[:2]))
        pixels = np.round(255 * np.clip(colours, 0, 1)).astype(np.uint8)
        if large:
            large.append(np.full((len(large[0]), GAP, 3), 255, dtype=np.uint8))
        large.append(pixels.repeat(times, axis=0).repeat(times, axis=1))
    return np.concatenate(large, axis=1)


def _bars(mask: np.ndarray, pattern: np.ndarray, *, sign: str = "=") -> Image:
    """The features with the largest mask, each with the value that the trigger gives it."""
    from PIL import Image, ImageDraw

    top = np.argsort(-mask, kind="stable")[:MOST]
    image = Image.new("RGB", (3 * SIDE + 2 * GAP, (LINE + 3) * len(top) + GAP), WHITE)
    draw = ImageDraw.Draw(image)
    for line, k in enumerate(top):
        y = GAP // 2 + line * (LINE + 3)
        draw.text((GAP, y), f"feature {k} {sign} {pattern[k]:.4g}", fill=INK)
        length = round(SIDE * float(mask[k]))
        draw.rectangle((SIDE + 5 * GAP, y, SIDE + 5 * GAP + length, y + LINE - 1), fill=BAR)
        draw.text((SIDE + 6 * GAP + length, y), f"{mask[k]:.2f}", fill=INK)
    return image


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
