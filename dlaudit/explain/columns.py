"""Columns of a table: their names, which may not change, and how far their values spread.

Knows rows of numbers and what the data set's card declares; never a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dlaudit.audit.bench import Bench
from dlaudit.errors import NotOffered, PlanError, nearest


class Rows(NamedTuple):
    """id: (n,) str; x: (n, F) floats as the model takes them; names: of the columns.

    fixed: (F,) bool, may not change; spread: (F,) float64, the interquartile range, of a column without
    one its standard deviation, 1 for a constant.
    """

    id: np.ndarray
    x: np.ndarray
    names: tuple[str, ...]
    fixed: np.ndarray
    spread: np.ndarray


def rows_of(bench: Bench, samples: int | None, immutable: Sequence[str] = ()) -> Rows:
    """The test rows. Raises NotOffered for what is no table of numbers, PlanError for unknown columns."""
    batches = [block.batch for block in bench.blocks(samples=samples)]
    x = np.concatenate([np.asarray(batch.x) for batch in batches])
    if x.ndim != 2 or x.dtype.kind != "f":
        message = (
            f"{bench.data.card.name}: expected rows of numbers, (n, columns) of floats, got {x.dtype} "
            f"of shape {x.shape}"
        )
        raise NotOffered(message)
    names = tuple(str(name) for name in bench.data.card.facts.get("features", ()))
    if len(names) != x.shape[1]:
        names = tuple(f"x{place}" for place in range(x.shape[1]))
    declared = (*bench.data.card.facts.get("immutable", ()), *immutable)
    fixed = np.isin(names, [*declared])
    places(names, immutable, "immutable")
    ids = np.concatenate([np.asarray(batch.id).astype(str) for batch in batches])
    return Rows(ids, x, names, fixed, spread(x.astype(np.float64)))


def places(names: Sequence[str], wanted: Sequence[str], field: str) -> list[int]:
    """Where some columns stand. Raises PlanError naming those that are not there."""
    problems = [
        f"{field}: no column is called {name!r}. {nearest(name, names)}"
        for name in wanted
        if name not in names
    ]
    if problems:
        raise PlanError(*problems)
    return [names.index(name) for name in wanted]


def spread(x: np.ndarray) -> np.ndarray:
    """(n, F) -> (F,): the interquartile range; a deviation where it is 0; 1 where that is 0 too."""
    low, high = np.percentile(x, [25, 75], axis=0)
    wide = np.where(high > low, high - low, x.std(axis=0))
    return np.where(wide > 0, wide, 1.0)


def decided(bench: Bench, x: np.ndarray) -> np.ndarray:
    """(n,) int64: the model's decisions on rows of its own."""
    return np.asarray(bench.model.logits(x).argmax(dim=1).cpu().numpy())
