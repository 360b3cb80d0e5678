"""Makes a data set out of columns and of what a plan declares them to be.

Knows targets, groups, bins, features and their types; never files. Features may have gaps: recorded
decisions need no features, so a gap is told in the card and refused only by a model that would be
given it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from dlaudit.audit.files import sentence
from dlaudit.datasets.arrays import UNKNOWN, ArrayDataset
from dlaudit.datasets.cells import Value, matches, missing, plain
from dlaudit.datasets.table_reading import NAMELESS, Column
from dlaudit.datasets.truths import Truth, counted
from dlaudit.errors import LoadError, nearest

CLASSES = 1000
"""More different targets than this are quantities, not classes."""

TYPES = ("number", "category")


class Schema(NamedTuple):
    """What a plan declares about a table; the words of ``[data] args``."""

    target: str
    positive: tuple[Value, ...] | None = None
    classes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    bins: Mapping[str, Sequence[float]] = {}
    id: str | None = None
    date: str | None = None
    weight: str | None = None
    types: Mapping[str, str | Sequence[Value]] = {}
    immutable: tuple[str, ...] = ()
    features: tuple[str, ...] | None = None
    targets: tuple[str, ...] = ()
    """Columns of several labels a row; the first is ``target``."""

    @property
    def is_quantity(self) -> bool:
        """Whether the target is a number to be predicted, as ``types`` says of it."""
        return (
            not self.targets and self.positive is None and self.types.get(self.target) == "number"
        )

    @property
    def grouped(self) -> tuple[str, ...]:
        """Every attribute that makes groups: those declared and those that are binned."""
        return (*self.groups, *(name for name in self.bins if name not in self.groups))


def table_dataset(
    columns: Mapping[str, Column],
    schema: Schema,
    *,
    place: object,
    name: str,
    rows: np.ndarray | None = None,
    fingerprint: str = "",
    facts: dict[str, Any] | None = None,
) -> ArrayDataset:
    """A data set with x (n, F) float32, y, groups, and every column as it is stored.

    rows: positions to keep; ids are the file's own, or positions in the whole file. Raises LoadError
    with everything that does not fit, each naming its column.
    """
    problems = list(_unknown_columns(columns, schema, place))
    if problems:
        raise LoadError(*problems)
    n = len(columns[schema.target].texts)
    ids = np.arange(n).astype(str) if schema.id is None else _texts(columns[schema.id], "")
    if rows is not None:
        columns = {key: _kept(column, rows) for key, column in columns.items()}
        ids = ids[rows]
    table = _Table(columns, schema, place)
    y, classes = table.target() if not schema.targets else (np.zeros(len(ids), np.int64), ())
    truth = table.label_sets() if schema.targets else None
    groups = {key: table.group(key) for key in schema.grouped}
    x, features = table.inputs()
    table.check_date_and_weight()
    if schema.id is not None and (empty := np.flatnonzero(ids == "")).size:
        table.refuse(schema.id, expected="a value in every row", got=f"nothing in row {empty[0]}")
    if table.problems:
        raise LoadError(*table.problems)
    described = {
        "target": list(schema.targets) or schema.target,
        "positive": None if schema.positive is None else list(schema.positive),
        "features": features, "columns": list(columns), "codes": table.codes, "missing": table.missing,
        "not_numbers": table.not_numbers, "immutable": list(schema.immutable), "date": schema.date,
        "weight": schema.weight,
    }  # fmt: skip
    return ArrayDataset(
        x, y, name=name, classes=classes, id=ids, groups=groups, kind="tabular",
        quantity=schema.target if schema.is_quantity else "", truth=truth,
        columns={key: column.values for key, column in columns.items()}, fingerprint=fingerprint,
        facts={key: fact for key, fact in described.items() if fact not in (None, [], {})} | (facts or {}),
    )  # fmt: skip


def bin_label(edges: Sequence[float], place: int) -> str:
    """The name of a left-closed interval: ``<25``, ``25-44``, ``>=45``; ``[0.5, 1.5)`` between fractions.

    place: 0 below the first edge, ``len(edges)`` from the last one on.
    """
    if place == 0:
        return f"<{plain(float(edges[0]))}"
    low = float(edges[place - 1])
    if place == len(edges):
        return f">={plain(low)}"
    high = float(edges[place])
    if low.is_integer() and high.is_integer():
        return plain(low) if high - low == 1 else f"{plain(low)}-{plain(high - 1)}"
    return f"[{plain(low)}, {plain(high)})"


def binned(numbers: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """(n,) labels of left-closed bins; ``unknown`` where the number is NaN."""
    places = np.searchsorted(np.asarray(edges, dtype=np.float64), numbers, side="right")
    labels = np.array([bin_label(edges, place) for place in range(len(edges) + 1)])
    result = labels[places].astype(object)
    result[np.isnan(numbers)] = UNKNOWN
    return result.astype(str)


def _unknown_columns(columns: Mapping[str, Column], schema: Schema, place: object) -> list[str]:
    named = {
        "target": schema.targets or [schema.target], "groups": schema.groups,
        "bins": schema.bins, "types": schema.types,
        "id": [schema.id], "date": [schema.date], "weight": [schema.weight],
        "immutable": schema.immutable, "features": schema.features or (),
    }  # fmt: skip
    return [
        sentence(
            place, f"{field}: column {name!r}", expected="a column of the table", got="none of this name",
            hint=nearest(name, columns),
        )
        for field, names in named.items()
        for name in names
        if name is not None and name not in columns
    ]  # fmt: skip


def _kept(column: Column, rows: np.ndarray) -> Column:
    return Column([column.texts[row] for row in rows], column.values[rows], column.mixed)


def _texts(column: Column, empty: str) -> np.ndarray:
    return np.array([empty if text is None else text for text in column.texts], dtype=str)


class _Table:
    """Reads columns for their purposes, collecting problems as it goes."""

    def __init__(self, columns: Mapping[str, Column], schema: Schema, place: object) -> None:
        self.columns, self.schema, self.place = columns, schema, place
        self.problems: list[str] = []
        self.codes: dict[str, list[Any]] = {}
        self.missing: dict[str, int] = {}
        self.not_numbers: dict[str, str] = {}

    def refuse(self, column: str, *, expected: str, got: str, hint: str = "") -> None:
        self.problems.append(
            sentence(self.place, f"column {column!r}", expected=expected, got=got, hint=hint)
        )

    def target(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """(n,) int64 and the class names; zeros where a problem was noted."""
        name, column = self.schema.target, self.columns[self.schema.target]
        nothing = np.zeros(len(column.texts), dtype=np.int64), self.schema.classes
        if None in column.texts:
            row = column.texts.index(None)
            gaps = column.texts.count(None)
            self.refuse(
                name,
                expected="a target in every row",
                got=f"{gaps} empty cells, first in row {row}",
            )
            return nothing
        values = column.values.tolist()
        if self.schema.is_quantity:
            if not column.numeric:
                got = column.mixed or repr(next(iter(column.texts)))
                self.refuse(name, expected="numbers, as types says", got=got)
            return np.zeros(len(column.texts), dtype=np.int64), ()
        distinct: list[Any] = sorted(set(values if column.numeric else column.texts))
        if self.schema.positive is not None:
            return self._positive(column, [plain(value) for value in distinct])
        if column.numeric and not all(float(value).is_integer() for value in distinct):
            self.refuse(
                name, expected="classes", got=f"numbers such as {distinct[0]}",
                hint="A quantity is no class: positive = … makes two classes of a column, "
                f'types = {{ {name} = "number" }} says that a number is to be predicted.',
            )  # fmt: skip
            return nothing
        if len(distinct) > CLASSES:
            self.refuse(
                name, expected=f"at most {CLASSES} classes", got=f"{len(distinct)} different values"
            )
            return nothing
        return self._classes(column, distinct)

    def label_sets(self) -> Truth:
        """Which labels each row has; nowhere where a problem was noted."""
        n, names = len(self.columns[self.schema.target].texts), self.schema.targets
        held = np.zeros((n, len(names)), dtype=bool)
        positive = self.schema.positive or (1,)
        for place, name in enumerate(names):
            column = self.columns[name]
            values = column.values if column.numeric else np.array(column.texts, dtype=object)
            cells = {plain(value) for value in values.tolist() if not missing(value)}
            if None in column.texts:
                self.refuse(name, expected="a value in every row", got="empty cells")
                continue
            held[:, place] = matches(values, positive)
            if self.schema.positive is None and not cells <= {"0", "1"}:
                strange = min(cells - {"0", "1"})
                self.refuse(
                    name, expected="1 where a row has the label, else 0", got=repr(strange),
                    hint="positive = … says which value means that it has.",
                )  # fmt: skip
        if self.schema.classes and len(self.schema.classes) != len(names):
            self.refuse(
                names[0], expected=f"a name for each of {len(names)} labels in classes",
                got=str(len(self.schema.classes)),
            )  # fmt: skip
            return counted("multilabel", held, names)
        return counted("multilabel", held, self.schema.classes or names)

    def _positive(self, column: Column, distinct: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
        positive = self.schema.positive or ()
        values = column.values if column.numeric else np.array(column.texts)
        y = np.zeros(len(column.texts), dtype=np.int64)
        for value in positive:
            found = matches(values, (value,))
            if not found.any():
                shown = ", ".join(distinct[:6]) + (", …" if len(distinct) > 6 else "")
                self.refuse(
                    self.schema.target, expected=f"positive to be one of its values ({shown})",
                    got=repr(value), hint=nearest(str(value), distinct[:50]),
                )  # fmt: skip
            y[found] = 1
        if self.schema.classes:
            return y, self.schema.classes
        chosen = [plain(value) for value in positive]
        others = [name for name in distinct if name not in chosen]
        return y, (
            others[0] if len(others) == 1 else f"not {' or '.join(chosen)}", " or ".join(chosen)
        )  # fmt: skip

    def _classes(self, column: Column, distinct: list[Any]) -> tuple[np.ndarray, tuple[str, ...]]:
        """Every value a class. Whole numbers from 0 are indices already."""
        texts = (
            [plain(value) for value in column.values.tolist()] if column.numeric else column.texts
        )
        names = tuple(plain(value) for value in distinct)
        counted = column.values.dtype.kind in "if"
        if self.schema.classes:
            names = self.schema.classes
        elif counted and distinct[0] == 0 and distinct[-1] < CLASSES:
            names = tuple(str(index) for index in range(int(distinct[-1]) + 1))
        index = {name: position for position, name in enumerate(names)}
        unknown = sorted({text for text in texts if text is not None and text not in index})
        if unknown and counted and {int(text) for text in unknown} <= set(range(len(names))):
            return np.array(column.values, dtype=np.int64), names  # names given to indices
        if unknown:
            self.refuse(
                self.schema.target, expected=f"one of the classes {', '.join(names)}", got=repr(unknown[0]),
                hint=nearest(unknown[0], names),
            )  # fmt: skip
            return np.zeros(len(texts), dtype=np.int64), names
        return np.array([index[text] for text in texts if text is not None], dtype=np.int64), names

    def group(self, name: str) -> np.ndarray:
        """(n,) values of an attribute; empty cells are ``unknown``."""
        column = self.columns[name]
        if name not in self.schema.bins:
            return _texts(column, UNKNOWN)
        edges = list(self.schema.bins[name])
        if not edges or any(low >= high for low, high in pairwise(edges)):
            self.refuse(name, expected="bins at one or more rising numbers", got=str(edges))
            return _texts(column, UNKNOWN)
        if not column.numeric and any(text is not None for text in column.texts):
            example = column.mixed or repr(next(text for text in column.texts if text is not None))
            self.refuse(name, expected="numbers to put in bins", got=example)
            return _texts(column, UNKNOWN)
        if not column.numeric:
            return _texts(column, UNKNOWN)
        return binned(column.values.astype(np.float64), edges)

    def inputs(self) -> tuple[np.ndarray, list[str]]:
        """(n, F) float32 with NaN in the gaps, and the names of its columns."""
        schema = self.schema
        left_out = {
            schema.target,
            *schema.targets,
            schema.id,
            schema.date,
            schema.weight,
            *schema.grouped,
        }
        features = (
            [
                name
                for name in self.columns
                if name not in left_out and not name.startswith(NAMELESS)
            ]
            if schema.features is None
            else list(schema.features)
        )
        for name in features:
            if features.count(name) > 1 or name in {schema.target, *schema.targets}:
                got = "twice" if features.count(name) > 1 else "the target"
                self.refuse(name, expected="features that differ and exclude the target", got=got)
        columns = [self._input(name) for name in features]
        n = len(self.columns[schema.target].texts)
        x = np.stack(columns, axis=1) if columns else np.zeros((n, 0))
        with np.errstate(over="ignore"):
            return x.astype(np.float32), features

    def _input(self, name: str) -> np.ndarray:
        column = self.columns[name]
        declared = self.schema.types.get(name)
        if isinstance(declared, str) and declared not in TYPES:
            self.refuse(
                name, expected=f'a type out of {", ".join(TYPES)}, or a list of categories',
                got=repr(declared), hint=nearest(declared, TYPES),
            )  # fmt: skip
        elif declared is not None and not isinstance(declared, str):
            return self._coded(name, column, list(declared))
        elif declared == "category" or (
            declared is None and not column.numeric and not column.mixed
        ):
            return self._coded(name, column, None)
        if not column.numeric:
            if declared == "number":
                got = column.mixed or "text"
                self.refuse(name, expected="numbers, as types says", got=got)
            self.not_numbers[name] = column.mixed
            return np.full(len(column.texts), np.nan)
        numbers = column.values.astype(np.float64)
        if gaps := int((~np.isfinite(numbers)).sum()):
            self.missing[name] = gaps
        return numbers

    def _coded(self, name: str, column: Column, categories: list[Value] | None) -> np.ndarray:
        """Ordinal codes of a category: the position in sorted order, or in the declared order.

        The last code stands for empty cells, where there are any; its category is null.
        """
        values = column.values.tolist() if column.numeric else column.texts
        cells: list[Any] = [None if missing(value) else value for value in values]
        known: list[Any] = list(categories or sorted({cell for cell in cells if cell is not None}))
        codes = np.full(len(cells), -1, dtype=np.int64)
        for code, category in enumerate(known):
            codes[matches(np.array(values, dtype=object), [category])] = code
        empty = np.array([cell is None for cell in cells])
        if strange := [cells[row] for row in np.flatnonzero((codes < 0) & ~empty)[:1]]:
            self.refuse(
                name, expected=f"one of the categories {known}", got=repr(strange[0]),
                hint=nearest(str(strange[0]), map(str, known)),
            )  # fmt: skip
        if empty.any():
            codes[empty] = len(known)
            known.append(None)
        self.codes[name] = known
        return codes.astype(np.float64)

    def check_date_and_weight(self) -> None:
        """Dates must be dates, weights must be numbers of at least 0."""
        if (name := self.schema.date) is not None:
            import pandas as pd

            column = self.columns[name]
            dates = pd.to_datetime(
                pd.Series(column.texts, dtype=object), errors="coerce", format="ISO8601"
            )
            if bad := np.flatnonzero(dates.isna().to_numpy()).tolist():
                self.refuse(
                    name, expected="a date in every row, such as 2026-01-31",
                    got=f"{column.texts[bad[0]]!r} in row {bad[0]}",
                )  # fmt: skip
        if (name := self.schema.weight) is not None:
            column = self.columns[name]
            given = column.values  # noqa: PD011  (a Column's, no Series')
            weights = given.astype(float) if column.numeric else np.full(1, np.nan)
            if not (np.isfinite(weights) & (weights >= 0)).all():
                self.refuse(
                    name, expected="a weight of at least 0 in every row", got="something else"
                )
