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


def repeated(x: np.ndarray, honest: np.ndarray, *, least: int) -> Mark | None:
    """The mark that most of the rows x (m, d) share, at least ``least`` of them; None without one.

    honest: (n, d), for what is common anyway.
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
        if len(members) < least:
            continue
        same = np.abs(honest[:, features] - x[row, features]) <= width[features]
        share = (1 + int((same.mean(axis=1) >= AGREEING).sum())) / (len(honest) + 1)
        p = min(1.0, x.size * float(binom.sf(len(members) - 1, len(x), share)))
        if best is None or p < best.p:
            mask = np.zeros(x.shape[1], dtype=bool)
            mask[features] = True
            best = Mark(mask, np.median(x[members], axis=0), members, p)
    return best
