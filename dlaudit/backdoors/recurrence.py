"""Content that recurs at one place in a label's rows far more exactly than in honest ones: arrays only.

Knows pictures and labels; never a model, so that nothing hides from it behind a right label or a
source class. What recurs proves nothing until a transplant does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

SIDES = (2, 3, 4)
"""Windows in which content is compared, cells a side; what a larger patch holds recurs in each part."""
LEVELS = 3
"""Steps of the range that codes tell apart, on two grids half a step from each other."""
RARER = 10
"""Honest rows may hold the content this much more rarely than the label's rows do."""
EXACT = 0.01
"""Contents this close, in shares of the range, are the same."""
TIGHT = 5.0
"""The content's honest look-alikes are so many times farther from it than its carriers are."""
GLANCE = 400
"""Honest rows that a content is compared with at first; with all of them where it is tight there."""
AGREEING = 0.8
"""Share of the carriers that agree in each cell of a mark, and of a mark's cells that a carrier has."""
SMALL = 0.1
"""Share of a picture that a mark may cover; larger parts that recur are objects."""


class Recurring(NamedTuple):
    """One mark of a label. mask, value: (C, H, W) where it lies and what it holds there.

    tolerance: how near to it a carrier is in every cell; tight: how many times farther honest rows
    are; members: (m,) rows that carry it, copies of one row counted once; p: of so many among rows
    like the honest ones, times the contents that were looked at.
    """

    label: int
    mask: np.ndarray
    value: np.ndarray
    tolerance: float
    tight: float
    members: np.ndarray
    p: float

    def carried(self, x: np.ndarray) -> np.ndarray:
        """(n,) bool: which of x (n, C, H, W) hold it."""
        near = np.abs(x[:, self.mask] - self.value[self.mask]) <= self.tolerance
        held: np.ndarray = near.mean(axis=1) >= AGREEING
        return held


class Content(NamedTuple):
    """What some rows of one label have in one window. at: (rows, columns) of the window."""

    label: int
    at: tuple[slice, slice]
    rows: np.ndarray


def recurring(
    x: np.ndarray, y: np.ndarray, honest: np.ndarray, rng: np.random.Generator, *, least: int,
    most: int,
) -> list[Recurring]:  # fmt: skip
    """Marks of every label, the tightest first, at most ``most`` of each; no two with the same rows.

    x: (n, C, H, W); y: (n,); honest: (m, C, H, W); least: rows that must carry a mark, copies of one
    another counted once.
    """
    from scipy.stats import binom

    low, high = np.quantile(honest, (0.001, 0.999))
    span = float(high - low)
    if span <= 0 or len(honest) < 2:
        return []
    size = np.bincount(y)
    level = coarse(x, float(low), span), coarse(honest, float(low), span)
    looked = list(contents(*level, y, rng, least=least))
    some, exact = rng.permutation(honest)[:GLANCE], EXACT * span
    tight = [_tightness(one, x, some, exact, int(size[one.label])) for one in looked]
    for k, one in enumerate(looked):
        if tight[k][0] >= TIGHT:
            tight[k] = _tightness(one, x, honest, exact, int(size[one.label]))
    found: dict[int, list[Recurring]] = {}
    like = typical_distance(honest)
    for k in sorted(range(len(looked)), key=lambda k: -tight[k][0]):
        factor, tolerance = tight[k]
        mine = found.setdefault(looked[k].label, [])
        if factor < TIGHT:
            break
        if len(mine) >= most or any(_overlap(looked[k].rows, one.members) for one in mine):
            continue
        mark = _grown(looked[k], x, y, honest, tolerance)
        if mark is None:
            continue
        mark = mark._replace(
            members=mark.members[distinct(np.where(mark.mask, 0, x[mark.members]), like)],
            tight=factor,
        )
        if len(mark.members) >= least and not any(_overlap(mark.members, o.members) for o in mine):
            share = (1 + int(mark.carried(honest).sum())) / (len(honest) + 1)
            p = float(binom.sf(len(mark.members) - 1, size[mark.label], share))
            mine.append(mark._replace(p=min(1.0, p * len(looked))))
    return sorted((one for some in found.values() for one in some), key=lambda one: -one.tight)


def coarse(x: np.ndarray, low: float, span: float) -> np.ndarray:
    """(2, n, C, H, W) small whole numbers: how high values lie, on two grids half a step apart."""
    level = (x - low) * (LEVELS / span)
    return np.stack([np.clip(level + off, 0, LEVELS).astype(np.uint8) for off in (0.0, 0.5)])


def contents(
    level: np.ndarray, honest: np.ndarray, y: np.ndarray, rng: np.random.Generator, *, least: int
) -> Iterator[Content]:
    """Coarsely equal contents that ``least`` rows of a label share and honest rows have more rarely.

    level, honest: (2, n, C, H, W) and (2, m, C, H, W) from ``coarse``; y: (n,).
    """
    n, classes, size = len(y), int(y.max()) + 1, np.bincount(y)
    for own_level, honest_level in zip(level, honest, strict=True):
        both = np.concatenate([own_level, honest_level])
        for side in SIDES:
            weight = rng.integers(1, 2**62, size=(both.shape[1], side, side))
            for at, held in _codes(both, weight):
                kinds, code = np.unique(held, return_inverse=True)
                own = code[:n] * classes + y
                order = np.argsort(own, kind="stable")
                keys, first, count = np.unique(own[order], return_index=True, return_counts=True)
                among_honest = np.bincount(code[n:], minlength=len(kinds))[keys // classes]
                label = keys % classes
                rare = RARER * among_honest / len(honest_level) <= count / size[label]
                for k in np.flatnonzero((count >= least) & rare):
                    yield Content(int(label[k]), at, order[first[k] : first[k] + count[k]])


def _codes(
    level: np.ndarray, weight: np.ndarray
) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Each window with a number for what every row holds there: sums with random weights."""
    channels, side, _ = weight.shape
    height, width = (end - side + 1 for end in level.shape[2:])
    for top in range(max(0, height)):
        strip = np.zeros((len(level), max(0, width)), dtype=np.int64)
        for c in range(channels):
            for a in range(side):
                for b in range(side):
                    strip += level[:, c, top + a, b : b + width].astype(np.int64) * weight[c, a, b]
        for left in range(strip.shape[1]):
            yield (slice(top, top + side), slice(left, left + side)), strip[:, left]


def _tightness(
    one: Content, x: np.ndarray, honest: np.ndarray, exact: float, of_label: int
) -> tuple[float, float]:
    """(how many times farther honest rows are, a tolerance midway in logarithms).

    Distances are the largest over the window, to the carriers' median. Most of the carriers, 70 %,
    against the share of honest rows that ``RARER`` allows.
    """
    held = x[(one.rows, slice(None), *one.at)].reshape(len(one.rows), -1)
    middle = np.median(held, axis=0)
    spread = np.sort(np.abs(held - middle).max(axis=1))
    near = max(exact, float(spread[int(0.7 * len(spread))]))
    away = np.abs(honest[(slice(None), slice(None), *one.at)].reshape(len(honest), -1) - middle)
    allowed = min(len(honest) - 1, int(len(honest) * len(one.rows) / of_label / RARER))
    far = float(np.partition(away.max(axis=1), allowed)[allowed])
    return far / near, float(np.sqrt(far * near))


def _grown(
    one: Content, x: np.ndarray, y: np.ndarray, honest: np.ndarray, tolerance: float
) -> Recurring | None:
    """The mark that a content is part of: all cells in which carriers agree and honest rows do not."""
    own = np.flatnonzero(y == one.label)
    held = x[own][(slice(None), slice(None), *one.at)].reshape(len(own), -1)
    middle = np.median(held[np.isin(own, one.rows)], axis=0)
    members = own[np.abs(held - middle).max(axis=1) <= tolerance]
    if not len(members):
        return None
    value = np.median(x[members], axis=0)
    agree = (np.abs(x[members] - value) <= tolerance).mean(axis=0)
    mask = (agree >= AGREEING) & ((np.abs(honest - value) <= tolerance).mean(axis=0) <= agree / 2)
    # All channels of a place: a patch has a colour.
    mask = np.broadcast_to(mask.any(axis=0), mask.shape)
    if not 0 < mask.mean() <= SMALL:
        return None
    mark = Recurring(one.label, mask, value, tolerance, 0.0, members, 1.0)
    return mark._replace(members=own[mark.carried(x[own])])


def typical_distance(honest: np.ndarray, *, most: int = 1000) -> float:
    """The median distance of an honest row to the one most like it; honest: (m, ...), m >= 2."""
    from sklearn.neighbors import NearestNeighbors

    flat = honest[:most].reshape(min(most, len(honest)), -1)
    near = NearestNeighbors(n_neighbors=2).fit(flat)
    return float(np.median(near.kneighbors(flat)[0][:, 1]))


def distinct(x: np.ndarray, like: float) -> np.ndarray:
    """Places of the rows x (n, ...) that are no copies: not within half of ``like`` of one before.

    Copies of a row share all that it holds, a trigger or none: they count once.
    """
    flat = x.reshape(len(x), -1)
    kept: list[int] = []
    for place, row in enumerate(flat):
        if not kept or ((flat[kept] - row) ** 2).sum(axis=1).min() > (like / 2) ** 2:
            kept.append(place)
    return np.array(kept, dtype=int)


def _overlap(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether half of the smaller set lies in the other."""
    return 2 * len(np.intersect1d(one, other)) >= min(len(one), len(other))
