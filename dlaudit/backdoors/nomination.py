"""From scores to nominations: conformal p-values against trusted rows, and a budget where they end.

Knows scores, larger being more suspicious; accuses nobody: a nomination is only worth an experiment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def conformal(score: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """p_i = (1 + #{trusted >= s_i}) / (n_trusted + 1), uniform or larger for a row like the trusted.

    score: (n,); trusted: (m,) scores of rows known to be honest. Never below 1 / (m + 1).
    """
    order = np.sort(trusted)
    above = len(order) - np.searchsorted(order, score, side="left")
    p: np.ndarray = (1 + above) / (len(order) + 1)
    return p


def fused(scores: Sequence[np.ndarray], trusted: Sequence[np.ndarray]) -> np.ndarray:
    """The smallest of a row's conformal p-values times the number of scores (Bonferroni), at most 1."""
    columns = [conformal(s, t) for s, t in zip(scores, trusted, strict=True)]
    p: np.ndarray = np.minimum(1.0, len(columns) * np.min(columns, axis=0))
    return p


class Nominated(NamedTuple):
    """rows: in the order of nomination; discovered: how many of all the false-discovery rate let in."""

    rows: np.ndarray
    discovered: int


def nominated(
    p: np.ndarray, ranks: Sequence[np.ndarray], *, budget: int, rate: float = 0.1
) -> Nominated:
    """At most ``budget`` rows: Benjamini-Hochberg's first, then each score's next in turn.

    p: (n,) fused; ranks: per score the rows from the most suspicious on. Few trusted rows cannot make
    a p-value small enough for a discovery among many: there the budget alone nominates.
    """
    from dlaudit.audit.statistics import benjamini_hochberg

    found = np.flatnonzero(np.asarray(benjamini_hochberg(list(p))) <= rate)
    chosen: dict[int, None] = {}
    for row in found[np.argsort(p[found], kind="stable")][:budget]:
        chosen[int(row)] = None
    for place in range(max((len(rank) for rank in ranks), default=0)):
        for rank in ranks:
            if len(chosen) >= budget:
                return Nominated(np.array(list(chosen), dtype=int), len(found))
            if place < len(rank):
                chosen[int(rank[place])] = None
    return Nominated(np.array(list(chosen), dtype=int), len(found))
