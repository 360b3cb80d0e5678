"""Loads tables, CSV and Parquet, as a plan declares them, and describes them for ``dlaudit init``.

Knows the words of the plan; reading and checking stand in ``table_reading`` and ``table_schema``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dlaudit.audit.evidence import fingerprint
from dlaudit.audit.files import identity, named_file, named_path, refusal, said
from dlaudit.audit.parts import Dataset
from dlaudit.datasets.listing import inside
from dlaudit.datasets.selection import identified, selected
from dlaudit.errors import nearest

if TYPE_CHECKING:
    from dlaudit.datasets.table_reading import Column

Value = bool | int | float | str

PARQUET = {".parquet", ".pq", ".arrow", ".feather"}
FEW = 20
"""A target, or a group that is not cut into bins, has at most so many values."""

TARGETS = (
    "target",
    "label",
    "y",
    "class",
    "outcome",
    "two_year_recid",
    "default",
    "income",
    "approved",
)
"""Names that a target often has."""

GROUPS = ("sex", "gender", "race", "ethnicity", "age", "nationality", "religion", "disability")
"""Names that protected attributes often have."""

SPECIAL = ("race", "ethnicity", "religion", "disability")
"""Those of them that are special categories of personal data: nobody's guess to look at."""

IDS = ("id", "uid", "uuid", "index", "row_id", "sample_id")
"""Names that the identity of a row often has."""


def load_csv(
    *,
    root: Path,
    path: str,
    target: str | list[str],
    positive: Value | list[Value] | None = None,
    classes: list[str] | None = None,
    groups: list[str] | None = None,
    bins: dict[str, list[float]] | None = None,
    id: str | None = None,
    date: str | None = None,
    weight: str | None = None,
    types: dict[str, str | list[Value]] | None = None,
    immutable: list[str] | None = None,
    features: list[str] | None = None,
    rows: str | None = None,
    encoding: str = "utf-8",
    separator: str = ",",
) -> Dataset:
    """A CSV table with a header.

    target: the column of labels, or the columns of several labels a row (multilabel), each 1 or one of
    positive where the row has it; positive: its value, or values, that are class 1 (without it every
    value is a class, named in order by classes). groups: protected attributes; bins: numbers cut into
    left-closed groups, ``{ age = [25] }``. features: the columns of x, by default all but target, id,
    date, weight and groups; text becomes codes in sorted order. types: ``"number"``, ``"category"`` or
    a list of categories, per column. immutable: what a person cannot change. rows: ``"a:b"`` or a
    file of positions. Every column is kept as it is stored, for recorded decisions and pipelines.
    Raises LoadError with all that does not fit.
    """
    file = named_file(root, path, expected="a CSV file")
    declared = _declared(
        target=target, positive=positive, classes=classes, groups=groups, bins=bins, id=id, date=date,
        weight=weight, types=types, immutable=immutable, features=features,
    )  # fmt: skip
    if len(separator) != 1:
        raise refusal(None, "separator", expected="one character", got=repr(separator))

    from dlaudit.datasets.table_reading import read_csv

    columns = read_csv(file, encoding=encoding, separator=separator, as_text=_written(id, date))
    return _dataset(columns, declared, file, root, rows)


def load_parquet(
    *,
    root: Path,
    path: str,
    target: str | list[str],
    positive: Value | list[Value] | None = None,
    classes: list[str] | None = None,
    groups: list[str] | None = None,
    bins: dict[str, list[float]] | None = None,
    id: str | None = None,
    date: str | None = None,
    weight: str | None = None,
    types: dict[str, str | list[Value]] | None = None,
    immutable: list[str] | None = None,
    features: list[str] | None = None,
    rows: str | None = None,
) -> Dataset:
    """A Parquet or Arrow table (with the extra ``parquet``); the arguments are those of ``csv``.

    A folder holds a data set that was saved by Hugging Face's ``datasets``. Raises LoadError with all
    that does not fit, or if pyarrow is missing.
    """
    parts = arrow_parts(named_path(root, path, expected="a table"))
    file = parts[0] if parts else named_file(root, path, expected="a Parquet or Arrow file")
    declared = _declared(
        target=target, positive=positive, classes=classes, groups=groups, bins=bins, id=id, date=date,
        weight=weight, types=types, immutable=immutable, features=features,
    )  # fmt: skip

    from dlaudit.datasets.table_reading import read_arrow, read_parquet

    as_text = _written(id, date)
    columns = read_arrow(parts, as_text=as_text) if parts else read_parquet(file, as_text=as_text)
    return _dataset(columns, declared, file, root, rows, more=parts[1:])


def arrow_parts(folder: Path) -> list[Path]:
    """The Arrow files of a data set that Hugging Face's ``datasets`` saved; none if it is no folder.

    Raises LoadError where its list of files is missing, or leads out of the folder.
    """
    if not folder.is_dir():
        return []
    state = named_file(folder, "state.json", expected="a saved data set's list of files")
    try:
        names = [str(one["filename"]) for one in json.loads(state.read_bytes())["_data_files"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise refusal(
            state, expected="JSON that lists files under _data_files", got=said(error)
        ) from error
    if not names:
        raise refusal(state, "_data_files", expected="at least one file", got="none")
    return [inside(folder, name, what="an Arrow file") for name in names]


def _declared(*, positive: Value | list[Value] | None, **declared: Any) -> dict[str, Any]:
    """The arguments as ``Schema`` has them: lists as tuples, what is not given left out."""
    made = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in declared.items()
        if value is not None
    }
    if isinstance(several := made["target"], tuple):
        if len(set(several)) < max(2, len(several)):
            raise refusal(
                None, "target", expected="a column, or two or more that differ", got=str(list(several))
            )  # fmt: skip
        made |= {"target": several[0], "targets": several}
    if positive is not None:
        made["positive"] = tuple(positive) if isinstance(positive, list) else (positive,)
        if not made["positive"]:
            raise refusal(None, "positive", expected="at least one value", got="an empty list")
    return made


def _written(*columns: str | None) -> tuple[str, ...]:
    """Columns that stay as they are written: ``007`` is no 7."""
    return tuple(column for column in columns if column is not None)


def _dataset(
    columns: Mapping[str, Column],
    declared: dict[str, Any],
    file: Path,
    root: Path,
    rows: str | None,
    *,
    more: Sequence[Path] = (),
) -> Dataset:
    from dlaudit.datasets.table_schema import Schema, table_dataset

    files = {"data": file, **{f"data {number}": one for number, one in enumerate(more, start=1)}}
    fingerprint, facts = identified(files, declared, rows, root)
    n = len(next(iter(columns.values())).texts)
    return table_dataset(
        columns, Schema(**declared), place=file, name=file.name, rows=selected(rows, root, n),
        fingerprint=fingerprint, facts=facts,
    )  # fmt: skip


def from_frame(frame: Any, declared: Mapping[str, Any], *, name: str = "frame") -> Dataset:
    """A pandas frame as a data set. declared: ``target`` and whatever else ``csv`` takes of a table.

    Raises LoadError with all that does not fit.
    """
    from dlaudit.datasets.arrays import array_digest
    from dlaudit.datasets.table_reading import of_frame
    from dlaudit.datasets.table_schema import Schema, table_dataset

    known = set(Schema._fields) - {"targets"}
    if strange := sorted(set(declared) - known):
        raise refusal(
            name,
            strange[0],
            expected="a word of tables",
            got="none",
            hint=nearest(strange[0], known),
        )
    if "target" not in declared:
        raise refusal(name, "target", expected="the column of labels", got="nothing")
    made = _declared(**{"positive": None, **declared})
    columns = of_frame(frame, name, as_text=_written(declared.get("id"), declared.get("date")))
    content = fingerprint((key, array_digest(column.values)) for key, column in columns.items())
    whole, _ = identity({}, made, digests={"data": content})
    return table_dataset(columns, Schema(**made), place=name, name=name, fingerprint=whole)


class ColumnDescription(NamedTuple):
    """type: ``number``, ``category`` or ``mixed``; distinct: different values; missing: empty cells."""

    name: str
    type: str
    distinct: int
    missing: int
    examples: tuple[str, ...]
    middle: float | None = None


class TableDescription(NamedTuple):
    """targets and groups: columns that may be meant, the likeliest first."""

    rows: int
    columns: tuple[ColumnDescription, ...]
    targets: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def args(self) -> dict[str, Any]:
        """A first guess at the loader's arguments: target, id, groups, and bins at the median."""
        known = {column.name: column for column in self.columns}
        groups = [name for name in self.groups if name not in self.special]
        wide = [name for name in groups if known[name].distinct > FEW]
        guessed: dict[str, Any] = {
            "target": self.targets[0],
            "id": next(
                (
                    column.name
                    for column in self.columns
                    if column.name.lower() in IDS and column.distinct == self.rows
                ),
                None,
            ),
            "groups": [name for name in groups if name not in wide and name != self.targets[0]],
            "bins": {name: [middle] for name in wide if (middle := known[name].middle) is not None},
        }
        if self.special:
            # A column that is no group is a feature, unless it is said to be neither.
            apart = {guessed["target"], guessed["id"], *self.groups}
            guessed["features"] = [one.name for one in self.columns if one.name not in apart]
        return {key: value for key, value in guessed.items() if value}

    @property
    def special(self) -> tuple[str, ...]:
        """The groups that are looked at only on a declared basis."""
        return tuple(name for name in self.groups if name.lower() in SPECIAL)

    @property
    def notes(self) -> list[str]:
        """What was guessed, and what else could be meant; one sentence each."""
        others = ", ".join(self.targets[1:5])
        notes = [f"target is a guess{f'; it could also be: {others}' if others else ''}."]
        if set(self.groups) - set(self.special):
            notes.append(
                "groups are guessed from the names of columns; bins are cut at the median."
            )
        else:
            notes.append(
                "No column is called like a protected attribute; name groups = […] if there is one."
            )
        notes += [
            f"{name} is called like a special category of personal data: declare [context] "
            f"special_category_basis, then add it to groups. Until then nothing looks at it."
            for name in self.special
        ]
        notes += [
            f'{column.name} holds numbers and text; types = {{ {column.name} = "category" }} says which.'
            for column in self.columns
            if column.type == "mixed"
        ]
        return notes


def describe_table(path: Path) -> TableDescription:
    """What ``dlaudit init`` needs to know of a CSV or Parquet file.

    Raises LoadError, also where no column could be a target.
    """
    from dlaudit.datasets.table_reading import read_csv, read_parquet

    file = named_file(Path(), str(path), expected="a table")
    columns = read_parquet(file) if file.suffix.lower() in PARQUET else read_csv(file)
    described = tuple(_described(name, column) for name, column in columns.items())
    n = len(next(iter(columns.values())).texts)
    # A target has few values and no gaps; by convention it stands last.
    few = [one.name for one in described if 2 <= one.distinct <= FEW and not one.missing]
    if not few:
        raise refusal(
            file, expected=f"a column that could be a target (2 to {FEW} values, no gaps)", got="none",
            hint="Write the plan by hand, with target = … and positive = ….",
        )  # fmt: skip
    named = [name for name in few if name.lower() in TARGETS]
    groups = [one.name for one in described if one.name.lower() in GROUPS]
    binary = [
        one.name for one in reversed(described)
        if one.name in few and one.distinct == 2 and one.name not in groups
    ]  # fmt: skip
    return TableDescription(
        rows=n,
        columns=described,
        targets=tuple(dict.fromkeys([*named, *binary, *reversed(few)])),
        groups=tuple(groups),
    )


def _described(name: str, column: Column) -> ColumnDescription:
    import numpy as np

    present = [text for text in column.texts if text is not None]
    distinct = list(dict.fromkeys(present))
    kind = "mixed" if column.mixed else "number" if column.numeric else "category"
    middle = float(np.nanmedian(column.values)) if kind == "number" else None
    return ColumnDescription(
        name, kind, len(distinct), len(column.texts) - len(present), tuple(distinct[:5]), middle
    )
