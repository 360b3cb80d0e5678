"""Replaces a region of a picture by that of another picture, its donor; arrays in, arrays out.

Knows pixels and masks; never a model. A donor gives its background only: where its own object
stands, the mean background of that place is used, so that no object is pasted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Box = tuple[int, int, int, int]
"""top, left, height, width, in pixels."""


class Pictures(NamedTuple):
    """x: (n, *channels, H, W); background: (n, H, W) bool, or None where nobody marked the object.

    filler: (*channels, H, W), the mean background of each place.
    """

    x: np.ndarray
    background: np.ndarray | None
    filler: np.ndarray

    def replaced(self, rows: np.ndarray, region: np.ndarray, donors: np.ndarray) -> np.ndarray:
        """Some rows of x, (m, *channels, H, W), each with its region taken from its donor.

        rows, donors: (m,) row numbers; region: (n, H, W) bool.
        """
        given = self.x[donors]
        if self.background is not None:
            given = np.where(_over_channels(self.background[donors], given), given, self.filler)
        filled: np.ndarray = np.where(_over_channels(region[rows], given), given, self.x[rows])
        return filled


def pictures(x: np.ndarray, mask: Any, *, margin: int = 0) -> Pictures:
    """Pictures with what is background in them.

    mask: (n, H, W) or (n, 1, H, W), true where the object is, or None. margin: so many pixels
    around the object are counted as object, for masks that are drawn too tightly. Raises ValueError
    if the mask does not fit the pictures.
    """
    if mask is None:
        return Pictures(x, None, x.mean(axis=0))
    n, height, width = len(x), *x.shape[-2:]
    marked = np.asarray(mask, dtype=bool)
    if marked.size != n * height * width:
        message = (
            f"mask: expected one value per pixel, shape {(n, height, width)} for pictures of shape "
            f"{x.shape}, got {marked.shape}"
        )
        raise ValueError(message)
    background = ~_grown(marked.reshape(n, height, width), margin)
    there = _over_channels(background, x)
    count = there.sum(axis=0)
    # Where no picture shows background, the mean of what stands there is the best there is.
    seen = np.where(there, x, 0).sum(axis=0, dtype=np.float64) / np.maximum(count, 1)
    filler = np.where(count > 0, seen, x.mean(axis=0, dtype=np.float64))
    return Pictures(x, background, filler.astype(x.dtype))


def boxed(box: Box, shape: tuple[int, ...]) -> np.ndarray:
    """(n, H, W) bool: the same box in every picture. Raises ValueError if it does not fit.

    shape: of the pictures, (n, *channels, H, W).
    """
    top, left, height, width = box
    if (
        min(top, left) < 0
        or min(height, width) < 1
        or top + height > shape[-2]
        or left + width > shape[-1]
    ):
        message = (
            f"expected [top, left, height, width] inside pictures of {shape[-2]} x {shape[-1]} "
            f"pixels, got {list(box)}"
        )
        raise ValueError(message)
    region = np.zeros((shape[0], *shape[-2:]), dtype=bool)
    region[:, top : top + height, left : left + width] = True
    return region


def donors(
    groups: np.ndarray, wanted: np.ndarray, rng: np.random.Generator, *, same: bool
) -> np.ndarray:
    """For each row a random other row whose group is (not) the wanted one; -1 where there is none.

    groups: (n,) the group of each possible donor; wanted: (n,) the group to match or to avoid.
    """
    chosen = np.full(len(wanted), -1)
    for group in np.unique(wanted):
        receivers = np.flatnonzero(wanted == group)
        givers = np.flatnonzero((groups == group) == same)
        if not len(givers):
            continue
        drawn = givers[rng.integers(len(givers), size=len(receivers))]
        own = drawn == receivers
        if own.any():
            # The next giver instead: no row is its own donor, and each other one is as likely.
            place = np.searchsorted(givers, receivers[own])
            step = rng.integers(1, max(len(givers), 2), size=int(own.sum()))
            drawn[own] = givers[(place + step) % len(givers)]
        chosen[receivers] = np.where(drawn == receivers, -1, drawn)
    return chosen


def _over_channels(flags: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(n, H, W) flags as an array that broadcasts over the channels of x."""
    return flags.reshape(len(flags), *(1,) * (x.ndim - 3), *flags.shape[-2:])


def _grown(mask: np.ndarray, margin: int) -> np.ndarray:
    """The mask with a margin of so many pixels around it, each picture for itself."""
    if not margin:
        return mask
    from scipy.ndimage import binary_dilation

    across = np.ones((1, 3, 3), dtype=bool)
    return np.asarray(binary_dilation(mask, across, iterations=margin))
