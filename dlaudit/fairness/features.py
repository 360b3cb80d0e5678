"""The columns of a table as numbers with names, and as conditions that a person can read.

Knows what the data set's card says of its columns; refuses pictures, sounds and tokens, whose single
numbers mean nothing, and refuses to name a bin by anything but its ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from dlaudit.audit.bench import Bench

FEW = 6
"""A column with so few different numbers is divided by each of them, not into bins."""
BINS = 4


class Features(NamedTuple):
    """values: (n, F) float64, NaN in gaps; names: F; codes: column -> its categories by code."""

    values: np.ndarray
    names: tuple[str, ...]
    codes: dict[str, list[Any]]


class Condition(NamedTuple):
    """Samples that share something that can be said in words. member: (n,) bool.

    of: the column or attribute that it speaks of; two conditions on one of them are never combined.
    """

    of: str
    words: str
    member: np.ndarray


def features_of(bench: Bench, split: str, *, most: int) -> Features | None:
    """The features of a table; None for other kinds of data, or more than ``most`` columns.

    A column that holds the recorded decisions themselves is none of them.
    """
    if "tabular" not in bench.data.offers:
        return None
    pieces = [np.asarray(batch.x) for batch in bench.data.batches(split)]
    if pieces[0].ndim != 2 or pieces[0].shape[1] > most or pieces[0].dtype.kind not in "biuf":
        return None
    values = np.concatenate(pieces).astype(np.float64)
    facts = bench.data.card.facts
    known = facts.get("features", ())
    names = known if len(known) == values.shape[1] else [f"x{i}" for i in range(values.shape[1])]
    decided = bench.model.card.facts.get("column")
    kept = [i for i, name in enumerate(names) if decided is None or name != decided]
    return Features(
        values[:, kept], tuple(str(names[i]) for i in kept), dict(facts.get("codes", {}))
    )


def conditions_of(features: Features, fitted: np.ndarray) -> list[Condition]:
    """Every column divided: by its categories, by its few values, or into quarters.

    fitted: (n,) bool, the samples that decide where the quarters end.
    """
    found = []
    for position, name in enumerate(features.names):
        column = features.values[:, position]
        gap = ~np.isfinite(column)
        here = column[fitted & ~gap]
        distinct = np.unique(column[~gap])
        if gap.any():
            found.append(Condition(name, f"{name} is missing", gap))
        if name in features.codes or len(distinct) <= FEW:
            known = features.codes.get(name)
            for value in distinct.tolist():
                said = known[int(value)] if known and 0 <= int(value) < len(known) else f"{value:g}"
                words = f"{name} is {'missing' if said is None else said}"
                found.append(Condition(name, words, column == value))
            continue
        if not len(here):
            continue
        edges = np.unique(np.quantile(here, np.linspace(0, 1, BINS + 1)[1:-1]))
        edges = edges[edges > distinct[0]]  # nothing lies below the smallest value
        places = np.searchsorted(edges, column, side="right")
        for place in range(len(edges) + 1):
            low = f"from {edges[place - 1]:.4g}" if place else ""
            high = f"below {edges[place]:.4g}" if place < len(edges) else ""
            words = " ".join(part for part in (name, low, high) if part)
            found.append(Condition(name, words, (places == place) & ~gap))
    return found


def conditions_of_groups(groups: dict[str, np.ndarray], *, most: int) -> list[Condition]:
    """Every declared attribute divided by its groups; attributes of more than ``most`` left out."""
    found = []
    for name, column in groups.items():
        distinct = np.unique(column).tolist()
        if 1 < len(distinct) <= most:
            found += [Condition(name, f"{name} is {one}", column == one) for one in distinct]
    return found
