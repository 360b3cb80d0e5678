"""What one column knows of a label. Knows arrays; never names, splits or what would be too much."""

from __future__ import annotations

import numpy as np

BINS = 32


def guesses(seen: np.ndarray, y: np.ndarray, unseen: np.ndarray, classes: int) -> np.ndarray:
    """(m,) the class that each unseen value speaks for, learned from seen values and their labels.

    A value, or a bin where there are more than ``BINS`` different ones, speaks for the class that is
    likeliest in it if all classes are equally frequent: the largest share of a class that lies in it. A gap
    is a value of its own. What was never seen speaks for the most frequent class.
    """
    edges = bins(seen)
    at, asked = places(seen, edges), places(unseen, edges)
    width = int(max(at.max(initial=0), asked.max(initial=0))) + 1
    table = np.bincount(at * classes + y, minlength=width * classes).reshape(width, classes)
    sizes = table.sum(axis=0)
    shares = table / np.maximum(sizes, 1)
    best = np.where(table.sum(axis=1) > 0, shares.argmax(axis=1), sizes.argmax())
    found: np.ndarray = best[asked]
    return found


def bins(seen: np.ndarray) -> np.ndarray:
    """Rising edges between the values seen: halfway between few of them, else quantiles."""
    values = np.unique(seen[np.isfinite(seen)].astype(np.float64))
    if len(values) <= BINS:
        middle: np.ndarray = (values[1:] + values[:-1]) / 2
        return middle
    cuts = np.quantile(seen[np.isfinite(seen)], np.linspace(0, 1, BINS + 1)[1:-1])
    return np.unique(cuts)


def places(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(n,) the bin of each value: 0 for a gap, then from the lowest."""
    found = np.searchsorted(edges, values, side="right") + 1
    found[~np.isfinite(values)] = 0
    return found
