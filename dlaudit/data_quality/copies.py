"""Which rows are equal, by their digests. Knows arrays; never splits by name or what a copy means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dlaudit.data_quality.rows import Rows


def equal(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(m,) the place of the first point with each query's digest, -1 for none."""
    known, first = np.unique(points, return_index=True)
    at = np.minimum(np.searchsorted(known, queries), len(known) - 1)
    found: np.ndarray = np.where(known[at] == queries, first[at], -1)
    return found


def repeats(digest: np.ndarray) -> np.ndarray:
    """(n,) bool, whether an earlier row has the same digest."""
    _, first = np.unique(digest, return_index=True)
    again = np.ones(len(digest), dtype=bool)
    again[first] = False
    return again


def vectors(first: Rows, second: Rows) -> tuple[np.ndarray, np.ndarray]:
    """What distances are taken of: standardised columns of tables, all else as it is."""
    from dlaudit.data_quality.rows import COLUMNS, standardised

    if first.space != COLUMNS or not first.vector.shape[1]:
        return first.vector, second.vector
    one, other = standardised((first.vector, second.vector), first.categorical)
    return one, other
