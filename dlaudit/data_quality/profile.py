"""What single columns look like: gaps, constants, mixed cells, ranges, and rows far from all others.

Knows arrays; never what a column means or how much of anything is too much.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

NEIGHBOURS = 10
FAR = 0.37037
"""cleanlab's figure (datalab, outlier): far is above Q3 + (1 / 0.37037 - 1) times the spread Q3 - Q1."""
RARE = 0.1
"""cleanlab's figure (datalab, class_imbalance): a class is rare below this share of 1 / K."""


class Far(NamedTuple):
    """distance: (n,) mean distance to the ten nearest rows; limit: beyond it a row lies far out."""

    distance: np.ndarray
    limit: float


def gaps(values: np.ndarray) -> np.ndarray:
    """(n, F) bool, where a cell holds no finite number."""
    found: np.ndarray = ~np.isfinite(values)
    return found


def constant(values: np.ndarray) -> np.ndarray:
    """(F,) bool: a column of at most one value, gaps left aside."""
    with np.errstate(invalid="ignore"):
        low = np.where(np.isfinite(values), values, np.inf).min(axis=0)
        high = np.where(np.isfinite(values), values, -np.inf).max(axis=0)
    found: np.ndarray = low >= high
    return found


def mixed(column: np.ndarray) -> np.ndarray | None:
    """(n,) bool, the cells of the rarer kind where a column holds numbers and words; None if it does not.

    An empty cell is of neither kind.
    """
    if column.dtype.kind in "biuf":
        return None
    kinds = np.array([_kind(cell) for cell in column.tolist()])
    numbers, words = kinds == 1, kinds == 2
    if not numbers.any() or not words.any():
        return None
    rarer: np.ndarray = numbers if numbers.sum() < words.sum() else words
    return rarer


def _kind(cell: Any) -> int:
    """0 for an empty cell, 1 for a number, 2 for a word."""
    if cell is None or cell != cell or cell == "":  # noqa: PLR0124  (NaN)
        return 0
    try:
        float(cell)
    except (TypeError, ValueError):
        return 2
    return 1


def outside(values: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """(n, F) bool, below low or above high; a gap is inside."""
    with np.errstate(invalid="ignore"):
        found: np.ndarray = (values < low) | (values > high)
    return found


def far(distance: np.ndarray) -> Far:
    """Where a mean distance to neighbours is itself an outlier among these distances.

    Rows on a grid are all equally far from each other: rounding is no spread.
    """
    first, third = np.quantile(distance, [0.25, 0.75])
    return Far(distance, float(third + max((1 / FAR - 1) * (third - first), 1e-3 * third)))
