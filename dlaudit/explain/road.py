"""ROAD: remove pixels by guessing them from their neighbours, so that the hole itself says nothing.

Knows pictures and masks; never a model. Rong et al. 2022, section 4: each removed pixel is the weighted
mean of its eight neighbours, 1/6 beside and 1/12 across, with a little noise.
"""

from __future__ import annotations

import numpy as np

from dlaudit.explain.faithfulness import ranked

PERCENT = (10, 20, 30, 50, 70, 90)
BESIDE, ACROSS, NOISE = 1 / 6, 1 / 12, 0.01
NEIGHBOURS = [
    (down, across, BESIDE if 0 in {down, across} else ACROSS)
    for down in (-1, 0, 1)
    for across in (-1, 0, 1)
    if (down, across) != (0, 0)
]


def imputed(picture: np.ndarray, gone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture with its removed pixels guessed. picture: (C, H, W); gone: (H, W) bool.

    All removed pixels are solved for together; at the border the weights of the neighbours there are
    add up to 1. A picture that is gone whole becomes its mean.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import spsolve

    filled = picture.astype(np.float64)
    if gone.all():
        filled[:] = filled.mean(axis=(1, 2), keepdims=True)
    elif gone.any():
        down, across = np.nonzero(gone)
        count = len(down)
        number = np.full(gone.shape, -1)
        number[down, across] = np.arange(count)
        rows, columns, values = [np.arange(count)], [np.arange(count)], [np.zeros(count)]
        known = np.zeros((count, len(filled)))
        for step_down, step_across, weight in NEIGHBOURS:
            y, x = down + step_down, across + step_across
            inside = np.flatnonzero((y >= 0) & (y < gone.shape[0]) & (x >= 0) & (x < gone.shape[1]))
            y, x = y[inside], x[inside]
            values[0][inside] += weight
            hidden = gone[y, x]
            rows.append(inside[hidden])
            columns.append(number[y[hidden], x[hidden]])
            values.append(np.full(int(hidden.sum()), -weight))
            known[inside[~hidden]] += weight * filled[:, y[~hidden], x[~hidden]].T
        system = csr_matrix(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        )
        filled[:, down, across] = spsolve(system, known).reshape(count, -1).T
    filled[:, gone] += NOISE * rng.standard_normal((len(filled), int(gone.sum())))
    return filled.astype(picture.dtype)


def removals(scores: np.ndarray, ties: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each percentage the masks (n, P) of the most and of the least relevant positions.

    scores: (n, P), larger is more relevant; ties: (n, P), random numbers that order equal scores.
    """
    rank, positions = ranked(scores, ties), scores.shape[1]
    pieces = []
    for percent in PERCENT:
        count = round(percent / 100 * positions)
        pieces.append((rank < count, rank >= positions - count))
    return pieces
