"""Rows that lie nearly on each other, found in linear time, and how far rows lie from the others.

Knows vectors; never what they stand for. Below ``EXACT`` pairs every pair is looked at; above, rows are
put into random cells (Datar et al. 2004) and only those of one cell compared, so that some pairs may be
missed: how many is measured, not assumed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dlaudit.data_quality import via_sklearn
from dlaudit.data_quality.rows import mixed

NEAR = 0.13
"""cleanlab's figure (datalab, near_duplicate): this share of the median distance to a neighbour."""
EXACT = 30_000_000
TABLES = 12
WIDTH = 4.0
"""A cell's width over the radius: at the radius itself a row and its twin share a side in 80 %."""
CROWD = 8.0
"""Rows in the cell of an average row: sides are added until cells are so small."""
SIDES, WINDOW = 24, 8
ASKED = 500
"""Rows whose neighbours tell the median distance, and twins that are planted to measure the recall."""
PLANTED = 200
AT_ONCE = 1 << 18


class Near(NamedTuple):
    """For each query: place of the nearest point found within the radius, -1 if none; its distance.

    recall: of planted twins (found, planted), None where every pair was looked at.
    """

    place: np.ndarray
    distance: np.ndarray
    recall: tuple[int, int] | None


def median_distance(points: np.ndarray, rng: np.random.Generator) -> float:
    """The median distance from a row to its nearest other row, asked of ``ASKED`` rows."""
    n = len(points)
    asked = np.arange(n) if n <= ASKED else np.sort(rng.choice(n, ASKED, replace=False))
    distances, _ = via_sklearn.nearest(points[asked], points, 2)
    return float(np.median(distances[:, 1]))


def near(
    queries: np.ndarray, points: np.ndarray, radius: float, rng: np.random.Generator,
    *, exact: int = EXACT,
) -> Near:  # fmt: skip
    """The nearest point of each query, if it lies nearer than ``radius``. Vectors (m, D) and (n, D)."""
    if len(queries) * len(points) <= exact:
        distances, places = via_sklearn.nearest(queries, points, 1)
        close = distances[:, 0] < radius
        return Near(np.where(close, places[:, 0], -1), distances[:, 0], None)
    twins = planted(points, radius, rng)
    rows = np.concatenate([points, queries, twins])
    side = np.ones(len(rows), dtype=bool)
    side[: len(points)] = False
    place, distance = cells(rows, side, radius, rng)
    first, last = len(points), len(points) + len(queries)
    found = int((place[last:] >= 0).sum())
    return Near(place[first:last], distance[first:last], (found, len(twins)))


def planted(points: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Twins of some points at distances drawn evenly below the radius, in any direction."""
    chosen = points[rng.choice(len(points), min(PLANTED, len(points)), replace=False)]
    away = rng.normal(size=chosen.shape)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    far = radius * rng.random((len(chosen), 1))
    found: np.ndarray = (chosen + away * far).astype(points.dtype)
    return found


def cells(
    rows: np.ndarray, side: np.ndarray, radius: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """For each row the nearest row of the other side that a cell holds within the radius.

    side: (n,) bool. Returns places (-1 for none) and distances (infinite for none). Each of ``TABLES``
    tables divides space anew; in a cell a row is compared with the ``WINDOW`` next ones along a line,
    so that the work grows with n and not with its square.
    """
    n, width = rows.shape
    place = np.full(n, -1, dtype=np.int64)
    distance = np.full(n, np.inf, dtype=np.float32)
    used = 0
    for _ in range(TABLES):
        axes = rng.normal(size=(width, SIDES)).astype(np.float32)
        shift = rng.random(SIDES)
        key, used = _cell_of(rows, axes, shift, radius * WIDTH, used)
        along = rows @ rng.normal(size=(width, 1)).astype(np.float32)[:, 0]
        order = np.lexsort((along, key))
        key, crossed = key[order], side[order]
        for offset in range(1, WINDOW + 1):
            same = (key[:-offset] == key[offset:]) & (crossed[:-offset] != crossed[offset:])
            starts = np.flatnonzero(same)
            for begin in range(0, len(starts), AT_ONCE):
                at = starts[begin : begin + AT_ONCE]
                one, other = order[at], order[at + offset]
                apart = np.linalg.norm(rows[one] - rows[other], axis=1)
                for a, b in ((one, other), (other, one)):
                    better = (apart < radius) & (apart < distance[a])
                    place[a[better]], distance[a[better]] = b[better], apart[better]
    return place, distance


def _cell_of(
    rows: np.ndarray, axes: np.ndarray, shift: np.ndarray, width: float, used: int
) -> tuple[np.ndarray, int]:
    """(n,) uint64, equal for rows of one cell; used: how many sides, 0 if that is to be found out."""
    key = np.zeros(len(rows), dtype=np.uint64)
    for number in range(used or axes.shape[1]):
        side = np.floor(rows @ axes[:, number] / width + shift[number]).astype(np.int64)
        key = mixed(key ^ side.view(np.uint64))
        if not used:
            _, counts = np.unique(key, return_counts=True)
            if float(np.square(counts, dtype=np.float64).sum()) / len(rows) <= CROWD:
                return key, number + 1
    return key, used or axes.shape[1]


def mean_distances(points: np.ndarray, k: int) -> np.ndarray:
    """(n,) the mean distance of each row to its k nearest other rows; all pairs are looked at."""
    distances, _ = via_sklearn.nearest(points, points, k + 1)
    found: np.ndarray = np.sort(distances, axis=1)[:, 1:].mean(axis=1)
    return found
