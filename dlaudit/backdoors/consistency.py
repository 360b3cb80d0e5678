"""How stubbornly a decision stands when its input is mixed with others or covered in places.

Knows a model and rows; never labels. A trigger survives a mixture that the object does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from dlaudit.audit.parts import Model

PIECE = 2048
"""Rows asked at once: what is held in memory does not grow with the data."""


def strip(
    model: Model, x: np.ndarray, others: np.ndarray, rng: np.random.Generator, *, overlays: int
) -> np.ndarray:
    """STRIP's statistic (Gao et al. 2019), negated: minus the mean entropy under superimposition.

    x: (n, *input); others: rows to mix in. Pictures are averaged; of a table's row, half of the
    numbers are exchanged. Returns (n,) nats, larger where the decision never moves.
    """
    total = np.zeros(len(x))
    pictures = x.ndim > 2
    for _ in range(overlays):
        for rows in _pieces(len(x)):
            mixed = others[rng.integers(len(others), size=len(x[rows]))]
            keep = 0.5 if pictures else rng.random(x[rows].shape) < 0.5
            total[rows] += _entropy(model, np.asarray(keep * x[rows] + (1 - keep) * mixed, x.dtype))
    stubborn: np.ndarray = -total / overlays
    return stubborn


def _entropy(model: Model, x: np.ndarray) -> np.ndarray:
    """Shannon entropy of the decision in nats: (n,)."""
    logs = model.logits(x).double().log_softmax(dim=1)
    entropy: np.ndarray = -(logs.exp() * logs).sum(dim=1).cpu().numpy()
    return entropy


def occlusion(
    model: Model, x: np.ndarray, others: np.ndarray, decided: np.ndarray, rng: np.random.Generator,
    *, parts: int = 9,
) -> np.ndarray:  # fmt: skip
    """In how many of ``parts`` covers the decision stays: (n,) share in [0, 1].

    Each cover puts another row's content in one cell of a 3 x 3 grid of a picture (a ninth of a
    table's numbers). A decision that hangs on a trigger stays wherever the trigger is not covered.
    """
    stayed = np.zeros(len(x))
    for cover in covers(x.shape[1:], parts, rng):
        for rows in _pieces(len(x)):
            mixed = others[rng.integers(len(others), size=len(x[rows]))]
            asked = np.where(cover, mixed, x[rows]).astype(x.dtype)
            stayed[rows] += model.logits(asked).argmax(dim=1).cpu().numpy() == decided[rows]
    share: np.ndarray = stayed / parts
    return share


def covers(shape: tuple[int, ...], parts: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Masks that together cover an input once; a grid for pictures, drawn groups for anything else."""
    side = round(parts**0.5)
    if len(shape) >= 2 and side * side == parts and min(shape[-2:]) >= side:
        rows, columns = (np.linspace(0, size, side + 1).astype(int) for size in shape[-2:])
        for top, bottom in pairwise(rows):
            for left, right in pairwise(columns):
                mask = np.zeros(shape[-2:], dtype=bool)
                mask[top:bottom, left:right] = True
                yield np.broadcast_to(mask, shape)
        return
    group = rng.permutation(int(np.prod(shape))) % parts
    for part in range(parts):
        yield (group == part).reshape(shape)


def _pieces(n: int) -> Iterator[slice]:
    return (slice(start, min(start + PIECE, n)) for start in range(0, n, PIECE))
