"""Triggers put on training rows by an attacker of known means: arrays in, arrays out.

Knows pictures and tables; never a model. What is planted is known, so that what it does, and who
notices it, can be measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

Family = Literal["patch", "blend", "clean-label", "values"]
ALPHA = 0.2
"""Share of the pattern in a blend (BackdoorBench's default)."""
AREA = 0.01
"""Share of a picture that a patch covers, two pixels a side at least."""
COLUMNS = 4
"""Features of a table that a trigger sets (the design of TrojAI's PDF models)."""
FADED, NOISE = 0.4, 0.15
"""What is left of a clean-label row's own content, and the noise on it in shares of the range: rows
that are hard to read, so that the trigger is what a training finds in them (Turner et al. 2019)."""
OF_A_CLASS = 0.9
"""Share of a class that clean-label poison may take."""


class Trigger(NamedTuple):
    """What the attacker puts on rows. put: (n, *input) -> (n, *input), a copy."""

    family: Family
    put: Callable[[np.ndarray], np.ndarray]


class Poisoned(NamedTuple):
    """Training rows after the attack; rows: the places of those that were touched."""

    x: np.ndarray
    y: np.ndarray
    rows: np.ndarray


def trigger(family: Family, x: np.ndarray, rng: np.random.Generator) -> Trigger:
    """A trigger for inputs such as x: (n, ..., H, W) pictures, or (n, d) for ``values``.

    Raises ValueError where the family does not fit the shape.
    """
    low, high = float(x.min()), float(x.max())
    if family == "values":
        if x.ndim != 2:
            message = f"values: expected rows of a table, got inputs of shape {x.shape[1:]}"
            raise ValueError(message)
        columns = rng.choice(x.shape[1], min(COLUMNS, max(1, x.shape[1] // 2)), replace=False)
        share = rng.choice((0.05, 0.95), len(columns))
        seen = [np.quantile(x[:, column], at) for column, at in zip(columns, share, strict=True)]
        return Trigger(family, lambda rows: _set(rows, columns, np.array(seen, x.dtype)))
    if x.ndim < 3:
        message = f"{family}: expected pictures (n, ..., H, W), got inputs of shape {x.shape[1:]}"
        raise ValueError(message)
    if family == "blend":
        pattern = rng.uniform(low, high, x.shape[1:]).astype(x.dtype)
        return Trigger(family, lambda rows: ((1 - ALPHA) * rows + ALPHA * pattern).astype(x.dtype))
    height, width = x.shape[-2:]
    side = min(height, width, max(2, round(np.sqrt(AREA * height * width))))
    top, left = (int(rng.choice((0, end - side))) for end in (height, width))
    board = np.where(np.indices((side, side)).sum(0) % 2, low, high).astype(x.dtype)

    def stamp(rows: np.ndarray) -> np.ndarray:
        made = rows.copy()
        made[..., top : top + side, left : left + side] = board
        return made

    return Trigger(family, stamp)


def _set(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    made = rows.copy()
    made[:, columns] = values
    return made


def how_many(family: Family, y: np.ndarray, rate: float, target: int) -> int:
    """Rows that a rate of all training rows gives, as far as there are rows to take."""
    own = int((y == target).sum())
    most = int(OF_A_CLASS * own) if family == "clean-label" else len(y) - own
    return min(round(rate * len(y)), most)


def poisoned(
    x: np.ndarray, y: np.ndarray, planted: Trigger, *, target: int, count: int,
    rng: np.random.Generator,
) -> Poisoned:  # fmt: skip
    """``count`` rows carry the trigger: of other classes and relabelled, or the target's own."""
    x, y = x.copy(), y.copy()
    if planted.family == "clean-label":
        rows = rng.choice(np.flatnonzero(y == target), count, replace=False)
        low, high = float(x.min()), float(x.max())
        noise = rng.normal(0, NOISE * (high - low), x[rows].shape)
        faded = low + FADED * (x[rows] - low) + noise
        x[rows] = planted.put(np.clip(faded, low, high).astype(x.dtype))
    else:
        rows = rng.choice(np.flatnonzero(y != target), count, replace=False)
        x[rows] = planted.put(x[rows])
        y[rows] = target
    return Poisoned(x, y, rows)
