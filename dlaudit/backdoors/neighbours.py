"""Whether rows that look alike carry the same label: no model is asked, so none can hide anything.

Knows inputs and labels; never the audited model. Blind to poison that keeps its right label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from dlaudit.backdoors.latent import Basis

NEIGHBOURS = 10
DIMENSIONS = 32
MOST = 20_000
"""Rows that neighbours are sought among, drawn at random where there are more: the cost stays linear."""
FITTED = 5_000
"""Rows that the embedding is fitted on."""
SIDE = 32
"""Larger pictures are averaged down to about so many pixels a side before they are compared."""


def plain(x: np.ndarray) -> np.ndarray:
    """(n, *input) -> (n, d) float32: the numbers of a row, a large picture's averaged over cells."""
    small = cells(x)
    return small.reshape(len(x), math.prod(small.shape[1:]))


def cell(size: int) -> int:
    """Pixels that are averaged into one cell, along a side of ``size`` pixels."""
    return -(-size // SIDE)


def cells(x: np.ndarray) -> np.ndarray:
    """(n, *input) float32, the sides of a large picture averaged down to at most ``SIDE`` cells."""
    if x.ndim >= 3:
        for axis in (-2, -1):
            step = cell(x.shape[axis])
            starts = np.arange(0, x.shape[axis], step)
            if step > 1:
                size = np.diff([*starts, x.shape[axis]])
                shape = [1] * x.ndim
                shape[axis] = len(size)
                x = np.add.reduceat(x, starts, axis=axis) / size.reshape(shape)
    return x.astype(np.float32)


class Neighbourhood(NamedTuple):
    """Rows to compare with, in a plain embedding: principal components of the inputs."""

    basis: Basis
    rows: np.ndarray
    y: np.ndarray
    number: np.ndarray

    @classmethod
    def of(
        cls, read: Callable[[], Iterable[np.ndarray]], y: np.ndarray, rng: np.random.Generator
    ) -> Neighbourhood:
        """read: begins to hand out the rows in their order, in pieces (m, *input); it is asked twice.

        y: (n,) labels as given.
        """
        number = np.sort(rng.permutation(len(y))[:MOST])
        fitted = np.sort(number[rng.permutation(len(number))[:FITTED]])
        basis = Basis.of(np.concatenate(list(_some(read(), fitted))), most=DIMENSIONS)
        rows = np.concatenate([basis.on(x) for x in _some(read(), number)]).astype(np.float32)
        return cls(basis, rows, y[number], number)

    def disagreement(
        self, x: np.ndarray, y: np.ndarray, *, own: np.ndarray | None = None
    ) -> np.ndarray:
        """d_i: share of the nearest rows, weighted by closeness, that carry another label; (n,).

        own: the number of each row among those that the neighbourhood was made of, so that no row is
        its own neighbour. Closeness is 1 / rank: ties among few neighbours would say little.
        """
        from sklearn.neighbors import NearestNeighbors

        k = min(NEIGHBOURS + 1, len(self.rows))
        near = NearestNeighbors(n_neighbors=k).fit(self.rows)
        found = np.empty(len(x))
        for start in range(0, len(x), 4096):
            part = slice(start, start + 4096)
            at = near.kneighbors(self.basis.on(plain(x[part])).astype(np.float32))[1]
            self_ = np.zeros(at.shape, bool) if own is None else self.number[at] == own[part, None]
            weight = np.where(self_, 0.0, 1 / np.arange(1, k + 1))
            other = (self.y[at] != y[part, None]) * weight
            found[part] = other.sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)
        return found

    def nearest(self, x: np.ndarray, *, apart: np.ndarray | None = None) -> np.ndarray:
        """(n,) places in ``number`` of the row most like each; apart: each row's own, left out."""
        from sklearn.neighbors import NearestNeighbors

        k = 1 if apart is None else min(2, len(self.rows))
        near = NearestNeighbors(n_neighbors=k).fit(self.rows)
        at: np.ndarray = near.kneighbors(self.basis.on(plain(x)).astype(np.float32))[1]
        if apart is None or k == 1:
            return at[:, 0]
        itself = self.number[at[:, 0]] == apart
        return np.where(itself, at[:, 1], at[:, 0])


def _some(pieces: Iterable[np.ndarray], chosen: np.ndarray) -> Iterator[np.ndarray]:
    """The rows at sorted positions, plain, piece by piece."""
    seen = 0
    for piece in pieces:
        first, last = np.searchsorted(chosen, (seen, seen + len(piece)))
        yield plain(piece[chosen[first:last] - seen])
        seen += len(piece)
