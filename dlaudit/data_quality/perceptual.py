"""The perceptual hash of pictures, from its definition (Zauner 2010), and distances between hashes.

Knows arrays of pixels; refuses to call two pictures the same: it says in how many bits they differ.
"""

from __future__ import annotations

import numpy as np

CHANNELS = 4
INNER, LOW = 32, 8
"""Pictures are shrunk to 32 x 32; the 8 x 8 lowest frequencies but the mean are looked at."""
BITS = LOW * LOW - 1
FLAT = 1e-4
"""Below this share of the picture's own scale its frequencies are rounding, not structure."""
AT_ONCE = 4_000_000


def grey(x: np.ndarray) -> np.ndarray:
    """(n, H, W) float32 of pictures (n, H, W), (n, C, H, W) or (n, H, W, C): the mean of channels."""
    values = x.astype(np.float32)
    if values.ndim == 3:
        return values
    channels_last = values.shape[1] > CHANNELS and values.shape[-1] <= CHANNELS
    found: np.ndarray = values.mean(axis=-1 if channels_last else 1)
    return found


def resized(pictures: np.ndarray, side: int) -> np.ndarray:
    """(n, side, side) by averaging areas: each new pixel is the mean of what lies beneath it."""
    _, height, width = pictures.shape
    found: np.ndarray = _areas(height, side) @ pictures @ _areas(width, side).T
    return found


def _areas(old: int, new: int) -> np.ndarray:
    """(new, old): the share that each old pixel has in each new one."""
    ends = np.linspace(0, old, new + 1)
    low = np.maximum(ends[:-1, None], np.arange(old))
    high = np.minimum(ends[1:, None], np.arange(1, old + 1))
    shares = np.maximum(high - low, 0)
    scaled: np.ndarray = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return scaled


def phash(pictures: np.ndarray) -> np.ndarray:
    """(n, 63) int8, +1 where a low frequency is above the median of all of them, else -1.

    pictures: (n, H, W). Zeros for a picture without structure: it is like nothing.
    """
    from scipy.fft import dctn

    small = resized(pictures, INNER).astype(np.float64)
    low = dctn(small, axes=(1, 2), norm="ortho")[:, :LOW, :LOW].reshape(len(small), -1)
    waves = low[:, 1:]
    bits = np.where(waves > np.median(waves, axis=1, keepdims=True), 1, -1).astype(np.int8)
    scale = np.abs(small).max(axis=(1, 2)) * INNER
    bits[np.abs(waves).max(axis=1) <= FLAT * scale] = 0
    return bits


def closest(queries: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each query hash the nearest point and in how many bits it differs; ties to the first.

    queries: (m, 63); points: (n, 63). All pairs are looked at. A hash of zeros differs in all bits.
    """
    where = np.zeros(len(queries), dtype=np.int64)
    bits = np.full(len(queries), BITS, dtype=np.int64)
    turned = points.astype(np.float32).T
    step = max(1, AT_ONCE // max(1, len(points)))
    for start in range(0, len(queries), step):
        part = queries[start : start + step].astype(np.float32)
        alike = part @ turned  # (part, n): equal bits minus different ones
        best = alike.argmax(axis=1)
        where[start : start + step] = best
        most = alike[np.arange(len(part)), best]
        blank = (part == 0).all(axis=1) | (turned[:, best] == 0).all(axis=0)
        bits[start : start + step] = np.where(blank, BITS, np.rint((BITS - most) / 2))
    return where, bits
