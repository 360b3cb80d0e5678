"""Which of many classes deserve a full search: successive halving, and controls to compare with.

Knows costs of short searches; never accuses by them. A short search is dear in all classes alike, so its
costs only choose: what is compared are full searches, of the cheapest classes and of controls drawn from
all classes, whatever their cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

FULL = 40
"""Up to so many classes, all are searched in full."""
PART = 3
"""A short search has this part of the steps."""
KEPT, LEAST = 5, 20
"""A round keeps this part of its classes, the cheapest, and at least so many."""
CONTROLS = 20
"""Classes drawn from all for comparison: of fewer, median and deviation are noise."""


def rounds(classes: int, full: int = FULL) -> Iterator[tuple[int, int]]:
    """(classes searched, classes kept) of each round of short searches; none for up to ``full`` classes.

    100 classes: 100 to 20. 1,000 classes: 1,000 to 200, 200 to 40.
    """
    while classes > full:
        kept = max(LEAST, classes // KEPT)
        yield classes, kept
        classes = kept


def cheapest(norms: Sequence[float], keep: int) -> np.ndarray:
    """The places of the ``keep`` smallest costs, in order of place; ties by place."""
    order: np.ndarray = np.sort(np.argsort(norms, kind="stable")[:keep])
    return order


def searches(classes: int, full: int = FULL) -> tuple[float, int]:
    """(searches of full length that screening is worth, classes searched in full, at most)."""
    spent, last = 0.0, classes
    for searched, kept in rounds(classes, full):
        spent, last = spent + searched / PART, kept
    return spent, last if last == classes else min(classes, last + CONTROLS)
