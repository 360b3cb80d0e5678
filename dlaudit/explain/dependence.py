"""How a model's mean answer goes with one column: partial dependence and accumulated local effects.

Knows rows and a function of rows; never a model. numpy in, numpy out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Answer = Callable[[np.ndarray], np.ndarray]


class Course(NamedTuple):
    """x: (k,) values of the column; y: (k,) the mean answer there."""

    x: np.ndarray
    y: np.ndarray


def partial(rows: np.ndarray, column: int, answer: Answer, *, points: int) -> Course:
    """The mean answer with the column set to each quantile of its values (Friedman 2001)."""
    grid = np.unique(np.quantile(rows[:, column], np.linspace(0, 1, points)))
    means = []
    for value in grid:
        moved = rows.copy()
        moved[:, column] = value
        means.append(float(answer(moved).mean()))
    return Course(grid, np.array(means))


def accumulated(rows: np.ndarray, column: int, answer: Answer, *, bins: int) -> Course:
    """Accumulated local effects, around the mean answer (Apley & Zhu 2020, eq. 15-16).

    In each bin between two quantiles the rows that lie there move to its ends, and the mean differences
    are added up: no row is asked about far from where it is.
    """
    values = rows[:, column]
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    place = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, len(edges) - 2)
    low, high = rows.copy(), rows.copy()
    low[:, column], high[:, column] = edges[place], edges[place + 1]
    count = np.bincount(place, minlength=len(edges) - 1)
    steps = np.bincount(place, weights=answer(high) - answer(low), minlength=len(edges) - 1)
    means = np.divide(steps, count, out=np.zeros(len(count)), where=count > 0)
    course = np.concatenate([[0.0], np.cumsum(means)])
    middle = float(((course[:-1] + course[1:]) / 2 * count).sum() / count.sum())
    return Course(edges, course - middle + float(answer(rows).mean()))
