"""Reads off a table what its columns are: whole numbers, indicators, categories, and how far they spread.

Knows values and what the data set's card declares; never a model. What is found is stated in the
conditions of every number, so that a wrong guess can be seen and declared otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from dlaudit.attacks.relations import Relation, read_relation
from dlaudit.attacks.table_rules import Rules
from dlaudit.audit.parts import Dataset
from dlaudit.errors import NotOffered, PlanError, nearest

NORMAL = 1.349
"""The interquartile range of a normal distribution in standard deviations: the unit of a column whose
middle half is one value."""


class Declared(NamedTuple):
    """What the plan says of the columns. whole, one_hot: None where they are to be detected."""

    immutable: Sequence[str] = ()
    increasing: Sequence[str] = ()
    decreasing: Sequence[str] = ()
    integers: Sequence[str] | None = None
    one_hot: Sequence[Sequence[str]] | None = None
    relations: Sequence[str] = ()
    changes: int = 1


class Columns(NamedTuple):
    """What the columns are. units: (F,) float64, how far epsilon 1 reaches in each, 0 for none.

    span: (F,) float64, how far a category's code can move at all, 0 for numbers. split: whose values
    the units are of.
    """

    rules: Rules
    units: np.ndarray
    span: np.ndarray
    split: str

    @property
    def told(self) -> str:
        """The columns in words, for the conditions of a number."""
        rules = self.rules
        still = set(np.flatnonzero((self.units == 0) & (self.span == 0)).tolist()) - set(
            rules.fixed
        )
        counts = {
            "fixed": len(rules.fixed), "constant": len(still), "whole": len(rules.whole - rules.fixed),
            "coded": len(set(rules.codes) - rules.fixed), "one-hot groups": len(rules.one_hot),
            "relations": len(rules.relations),
        }  # fmt: skip
        said = [f"{count} {name}" for name, count in counts.items() if count]
        return ", ".join([f"{len(rules.features)} columns", *said])


def columns_of(data: Dataset, declared: Declared) -> Columns:
    """What the columns of a data set are, by its card, by the plan and by their values.

    Spread is taken from the split ``train`` where there is one. Raises NotOffered for inputs that
    are no rows of numbers, PlanError with everything that is declared wrongly.
    """
    split = "train" if "train" in data.offers else "test"
    values = everything(data, split)
    shown = values if split == "test" else np.concatenate([values, everything(data, "test")])
    features = names_of(data, values.shape[1])
    facts = data.card.facts
    problems = unknown(features, declared)
    relations: list[Relation] = []
    for text in declared.relations:
        try:
            relations.append(read_relation(text, features))
        except ValueError as error:
            problems.append(f"relations: {error}")
    if problems:
        raise PlanError(*problems)
    place = {name: index for index, name in enumerate(features)}
    codes = {
        place[name]: len(known) for name, known in facts.get("codes", {}).items() if name in place
    }
    one_hot = (
        detected_groups(features, shown, set(codes))
        if declared.one_hot is None
        else tuple(tuple(place[name] for name in group) for group in declared.one_hot)
    )
    grouped = set(chain(*one_hot))
    related = {place[name] for relation in relations for name in relation.weights}
    if declared.integers is None:
        # A lone column of zeros and ones is a category of two; in a relation it is a number.
        for column in set(range(len(features))) - grouped - set(codes) - related:
            if indicator(shown[:, column]):
                codes[column] = 2
        whole = {c for c in range(len(features)) if whole_numbers(shown[:, c])}
    else:
        whole = {place[name] for name in declared.integers}
    fixed = {
        place[name] for name in (*facts.get("immutable", ()), *declared.immutable) if name in place
    }
    rules = Rules(
        features=features, fixed=frozenset(fixed), whole=frozenset(whole - grouped - set(codes)),
        rising=frozenset(place[name] for name in declared.increasing),
        falling=frozenset(place[name] for name in declared.decreasing),
        codes=codes, one_hot=one_hot, changes=declared.changes, relations=tuple(relations), facts=dict(facts),
    )  # fmt: skip
    categories = grouped | set(codes)
    units, span = spread(values), np.zeros(len(features))
    for column in categories:
        units[column] = 0
        span[column] = 1 if column in grouped else codes[column] - 1
    units[sorted(fixed)] = span[sorted(fixed)] = 0
    return Columns(rules, units, span, split)


def everything(data: Dataset, split: str) -> np.ndarray:
    """(n, F) float64: all rows of a split. Raises NotOffered for inputs of another form."""
    pieces = [np.asarray(batch.x) for batch in data.batches(split)]
    values = np.concatenate(pieces)
    if values.ndim != 2 or values.dtype.kind != "f":
        message = (
            f"{data.card.name}: expected rows of numbers, (n, columns) of floats, got {values.dtype} of "
            f"shape {values.shape}"
        )
        raise NotOffered(message)
    return values.astype(np.float64)


def names_of(data: Dataset, width: int) -> tuple[str, ...]:
    """The columns' names, ``x0``, ``x1``, … where the data set has none."""
    names = tuple(str(name) for name in data.card.facts.get("features", ()))
    return names if len(names) == width else tuple(f"x{place}" for place in range(width))


def unknown(features: Sequence[str], declared: Declared) -> list[str]:
    """Sentences about declared names that no column has, and columns in two groups."""
    groups = list(chain(*(declared.one_hot or ())))
    problems = [
        f"one_hot: {name!r} stands in two groups" for name in groups if groups.count(name) > 1
    ]
    named = {
        "immutable": declared.immutable, "increasing": declared.increasing,
        "decreasing": declared.decreasing, "integers": declared.integers or (), "one_hot": groups,
    }  # fmt: skip
    problems += [
        f"{field}: no column is called {name!r}. {nearest(name, features)}"
        for field, names in named.items()
        for name in names
        if name not in features
    ]
    return list(dict.fromkeys(problems))


def spread(values: np.ndarray) -> np.ndarray:
    """(n, F) -> (F,): the interquartile range of each column; of one without, 1.349 deviations."""
    finite = np.where(np.isfinite(values), values, np.nan)
    known = np.isfinite(finite).any(axis=0)
    finite[:, ~known] = 0
    low, high = np.nanpercentile(finite, [25, 75], axis=0)
    wide: np.ndarray = high - low
    return np.where(wide > 0, wide, NORMAL * np.nanstd(finite, axis=0))


def indicator(column: np.ndarray) -> bool:
    """Whether a column holds zeros and ones, and both."""
    return set(np.unique(column).tolist()) == {0.0, 1.0}


def whole_numbers(column: np.ndarray) -> bool:
    """Whether every value is a whole number that float32 can tell from its neighbours."""
    return bool(
        (np.isfinite(column) & (column == np.floor(column)) & (np.abs(column) < 2**24)).all()
    )


def detected_groups(
    features: Sequence[str], values: np.ndarray, taken: set[int]
) -> tuple[tuple[int, ...], ...]:
    """Indicators that share a name up to the last ``=`` or ``_``, one of them 1 in every row."""
    stems: dict[str, list[int]] = {}
    for column, name in enumerate(features):
        cut = max(name.rfind("="), name.rfind("_"))
        if (
            cut > 0
            and column not in taken
            and set(np.unique(values[:, column]).tolist()) <= {0.0, 1.0}
        ):
            stems.setdefault(name[:cut], []).append(column)
    return tuple(
        tuple(members)
        for members in stems.values()
        if len(members) > 1 and (values[:, members].sum(axis=1) == 1).all()
    )
