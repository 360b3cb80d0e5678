"""Values of a table that nominated rows share and honest rows have not: a trigger seen at once.

Knows numbers of a table; never a model. What is shared proves nothing until a transplant does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

WIDTH = 0.01
"""Values this close, in standard deviations of the honest rows, are the same."""
RARE = 0.1
"""A value that so many honest rows have is nobody's mark."""
AGREEING = 0.8
"""Share of the marked features that a member has."""


class Mark(NamedTuple):
    """mask, value: (d,) the features and what they are set to; members: rows that carry it.

    p: of so many carriers among rows like the honest ones, times the marks that were looked at.
    """

    mask: np.ndarray
    value: np.ndarray
    members: np.ndarray
    p: float

    def carried(self, x: np.ndarray, honest: np.ndarray) -> np.ndarray:
        """(n,) bool: which of x (n, d) carry it; honest: (m, d), for the scale."""
        near = np.abs(x - self.value)[:, self.mask] <= WIDTH * honest.std(axis=0)[self.mask]
        held: np.ndarray = near.mean(axis=1) >= AGREEING
        return held


def crowded(x: np.ndarray, honest: np.ndarray, *, width: float) -> np.ndarray:
    """How much more often than honest rows would the rows x (n, d) have a row's values: (n,).

    For each number the rows of x within ``width`` of it, in standard deviations of the honest rows
    (m, d), over what these lead one to expect there, and one; logarithms, where positive, added up.
    """
    total = np.zeros(len(x))
    for column, others, scale in zip(x.T, honest.T, honest.std(axis=0), strict=True):
        near = width * scale
        here, there = (
            np.searchsorted(some, column + near, side="right")
            - np.searchsorted(some, column - near, side="left")
            for some in (np.sort(column), np.sort(others))
        )
        total += np.maximum(0, np.log(here / (1 + there * len(x) / len(honest))))
    return total


def repeated(
    x: np.ndarray, honest: np.ndarray, *, least: int, among: int | None = None
) -> Mark | None:
    """The mark that most of the rows x (m, d) share, at least ``least`` of them; None without one.

    honest: (n, d), for what is common anyway; among: rows that those of x were picked from because
    of what they share, None if it was for something else.
    """
    from scipy.stats import binom

    width = WIDTH * honest.std(axis=0)
    alike = np.abs(x[:, None] - x[None]) <= width  # (m, m, d)
    often = alike.sum(axis=1) >= least
    best: Mark | None = None
    for row, marked in enumerate(often):
        if not marked.any():
            continue
        common = (np.abs(honest[:, marked] - x[row, marked]) <= width[marked]).mean(axis=0)
        features = np.flatnonzero(marked)[common <= RARE]
        if not len(features):
            continue
        members = np.flatnonzero(alike[row][:, features].mean(axis=1) >= AGREEING)
        # Copies of a row share all that it holds: they count once.
        rest = np.delete(x[members], features, axis=1)
        members = members[np.sort(np.unique(rest, axis=0, return_index=True)[1])]
        if len(members) < least:
            continue
        same = np.abs(honest[:, features] - x[row, features]) <= width[features]
        share = (1 + int((same.mean(axis=1) >= AGREEING).sum())) / (len(honest) + 1)
        p = min(1.0, x.size * float(binom.sf(len(members) - 1, among or len(x), share)))
        if best is None or p < best.p:
            mask = np.zeros(x.shape[1], dtype=bool)
            mask[features] = True
            best = Mark(mask, np.median(x[members], axis=0), members, p)
    return best
