"""Does a map say how much the logit loses, and does it stay when the input hardly moves?

Knows claimed and observed changes, and maps; never how either was made.
"""

from __future__ import annotations

import numpy as np


def infidelity(claimed: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """(n,): what a map misses of the changes that it claims, as a share of them; NaN without changes.

    E[(b I'a - (f(x) - f(x - I)))^2] / E[(f(x) - f(x - I))^2] with the best factor b for each input
    (Yeh et al. 2019, eq. 1, normalised). claimed, happened: (m, n), I'a and the logit's loss in m
    removals I. 0 is exact; an empty map misses 1.
    """
    size = (claimed**2).sum(axis=0)
    factor = np.divide(
        (claimed * happened).sum(axis=0), size, out=np.zeros(len(size)), where=size > 0
    )
    missed = ((factor * claimed - happened) ** 2).mean(axis=0)
    whole = (happened**2).mean(axis=0)
    return np.asarray(np.divide(missed, whole, out=np.full(len(whole), np.nan), where=whole > 0))


def max_sensitivity(maps: np.ndarray, moved: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(n,): the largest ||e(x + d) - e(x)|| / ||e(x)|| (Yeh et al. 2019, eq. 5); NaN where none counts.

    maps: (n, P); moved: (m, n, P), maps of m inputs near by; kept: (m, n) bool, the decision is still
    the same there.
    """
    size = np.linalg.norm(maps, axis=1)
    change = np.where(kept, np.linalg.norm(moved - maps, axis=2), -1).max(axis=0)
    there = kept.any(axis=0) & (size > 0)
    return np.asarray(np.divide(change, size, out=np.full(len(size), np.nan), where=there))
