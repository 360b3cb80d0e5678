"""A data set that lies in memory as arrays: what most loaders end in.

Knows numpy; never files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlaudit.audit.evidence import digest, fingerprint
from dlaudit.audit.parts import Batch, Dataset
from dlaudit.audit.record import Card, canonical
from dlaudit.errors import LoadError

if TYPE_CHECKING:
    from dlaudit.datasets.truths import Truth

BATCH = 1024
UNKNOWN = "unknown"


class ArrayDataset(Dataset):
    """One split, ``test``, held as arrays.

    x: (n, *input); y: (n,) integers 0..C-1; id: (n,) str; groups: attribute -> (n,) str.
    """

    batch: int = BATCH
    """Samples that are handed out together."""

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        name: str = "arrays",
        classes: tuple[str, ...] = (),
        id: np.ndarray | None = None,
        groups: Mapping[str, np.ndarray] | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
        mask: np.ndarray | None = None,
        kind: str | None = None,
        quantity: str = "",
        truth: Truth | None = None,
        fingerprint: str = "",
        facts: dict[str, Any] | None = None,
    ) -> None:
        """kind: ``images``, ``tabular``, ``tokens`` or ``audio``; guessed from x if None.

        quantity: the column that holds what is to be predicted, where that is a number and no class; y
        is then all zeros, and the data offer ``values`` instead of ``labels``. truth: what is true where that
        is another task; y is then all zeros, and the data offer the task instead.

        Raises LoadError if lengths differ, labels are not 0..C-1, or ids repeat.
        """
        n = len(x)
        self._x, self._y = x, checked_labels(y, n, name)
        self._id = np.arange(n).astype(str) if id is None else np.asarray(id).astype(str)
        self._groups = {
            key: group_names(np.asarray(column)) for key, column in (groups or {}).items()
        }
        self._columns = dict(columns or {})
        self._mask, self._truth = mask, truth
        classes = truth.classes if truth is not None else classes
        refuse_misfits(name, n, {**self._groups, **self._columns})
        others = {"id": self._id, "mask": mask, "truth": None if truth is None else truth.rows}
        refuse_misfits(name, n, others)
        refuse_repeated(name, self._id)
        found = int(self._y.max()) + 1 if n else 0
        self.classes = tuple(classes) or tuple(str(i) for i in range(found))
        if found > len(self.classes):
            message = (
                f"{name}: field 'y': expected labels below {len(self.classes)} "
                f"(the number of classes), got {found - 1}"
            )
            raise LoadError(message)
        self.kind = kind or guessed_kind(x)
        words = {truth.task if truth else "values" if quantity else "labels", self.kind}
        self.classes = () if quantity else self.classes
        words |= {"groups"} if self._groups else set()
        words |= {"mask"} if mask is not None else set()
        self.offers = frozenset(words)
        described = self._described(x, quantity) | (facts or {})
        self.card = Card(
            name=name, fingerprint=fingerprint or self._content_digest(), facts=described
        )

    def _described(self, x: np.ndarray, quantity: str) -> dict[str, Any]:
        """What the card says of the samples: shape, kind, classes and groups with their counts."""
        counted = np.bincount(self._y, minlength=len(self.classes))[: len(self.classes)]
        if self._truth is not None:
            counted = np.array(self._truth.counts)
        described = {
            "n": len(x),
            "shape": list(x.shape[1:]),
            "dtype": str(x.dtype),
            "kind": self.kind,
            "classes": list(self.classes),
            "class_counts": [int(count) for count in counted],
            "groups": {
                key: {
                    str(v): int(c)
                    for v, c in zip(*np.unique(column, return_counts=True), strict=True)
                }
                for key, column in self._groups.items()
            },
        }
        described |= {"quantity": quantity} if quantity else {}
        described |= {"task": self._truth.task} if self._truth is not None else {}
        return described

    def batches(self, split: str = "test") -> Iterator[Batch]:
        """See ``Dataset.batches``; the only split is ``test``."""
        if split != "test":
            message = f"{self.card.name} holds no split {split!r}"
            raise LoadError(message)
        for start in range(0, len(self._y), self.batch):
            part = slice(start, min(start + self.batch, len(self._y)))
            yield Batch(
                self.inputs(part), self._y[part], self._id[part],
                {key: column[part] for key, column in self._groups.items()},
                {key: column[part] for key, column in self._columns.items()},
                None if self._mask is None else self._mask[part],
                None if self._truth is None else self._truth.rows[part],
            )  # fmt: skip

    def inputs(self, part: slice) -> np.ndarray:
        """The inputs of consecutive samples."""
        # torch warns of arrays that it may not write to (mapped files, frozen columns): copy those.
        return np.require(self._x[part], requirements="W")

    def size(self, split: str = "test") -> int:
        """See ``Dataset.size``."""
        del split
        return len(self._y)

    def _content_digest(self) -> str:
        arrays = {"x": self._x, "y": self._y, "id": self._id}
        arrays |= {} if self._mask is None else {"mask": self._mask}
        arrays |= {} if self._truth is None else self._truth.arrays()
        arrays |= {f"group_{key}": column for key, column in self._groups.items()}
        arrays |= {f"column_{key}": np.asarray(column) for key, column in self._columns.items()}
        return fingerprint((key, array_digest(value)) for key, value in arrays.items())


def refuse_misfits(name: str, n: int, columns: Mapping[str, Any]) -> None:
    """Raise LoadError unless every column that is there has n rows."""
    for key, column in columns.items():
        if column is not None and len(column) != n:
            message = f"{name}: field {key!r}: expected {n} rows as in x, got {len(column)}"
            raise LoadError(message)


def refuse_repeated(name: str, ids: np.ndarray) -> None:
    """Raise LoadError unless every id stands once."""
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        twice = str(unique[counts > 1][0])
        message = (
            f"{name}: field 'id': expected one row per id, got {counts.max()} rows of {twice!r}"
        )
        raise LoadError(message)


def group_names(column: np.ndarray) -> np.ndarray:
    """Group values as text; a missing one (None, NaN, empty) is a group of its own, ``unknown``."""
    if column.dtype.kind == "f" and np.isfinite(column).any():
        whole = column[np.isfinite(column)]
        # Codes that became floats only because one is missing keep their names: 1, not 1.0.
        if (whole == np.round(whole)).all():
            column = np.array([None if np.isnan(one) else int(one) for one in column], dtype=object)
    names = [
        UNKNOWN if one is None or one != one or str(one) == "" else str(one)  # noqa: PLR0124
        for one in column.tolist()
    ]
    return np.array(names, dtype=str)


def array_digest(array: np.ndarray) -> str:
    """sha256 over an array's type, shape and content."""
    header = f"{array.dtype.str} {array.shape} ".encode()
    return digest(
        header + (canonical(array.tolist()) if array.dtype.hasobject else array.tobytes())
    )


def checked_labels(y: np.ndarray, n: int, name: str) -> np.ndarray:
    """Labels as (n,) int64. Raises LoadError naming what is wrong with them."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != (n,):
        message = f"{name}: field 'y': expected shape ({n},), one label per row of x, got {y.shape}"
        raise LoadError(message + structured(y, n))
    if n == 0:
        message = f"{name}: expected at least one row, got none"
        raise LoadError(message)
    whole = y.astype(np.int64) if y.dtype.kind in "iub" or _whole(y) else None
    if whole is None or whole.min() < 0:
        got = y[:3].tolist() if whole is None else int(whole.min())
        message = f"{name}: field 'y': expected class indices 0, 1, …, got {got}"
        raise LoadError(message)
    return whole


def structured(y: np.ndarray, n: int) -> str:
    """What to do with labels that are more than one class per row; nothing where that is no label at all."""
    if y.ndim == 2 and len(y) == n:
        return (
            '. Several labels a row? Say task = "multilabel". One of many as zeros and ones? Give '
            "y.argmax(axis=1)."
        )
    if y.ndim > 2 and len(y) == n:
        return (
            '. A class for every pixel? Say task = "segmentation". Where the object of the class is? Give '
            "that as field 'mask'."
        )
    return ""


def _whole(y: np.ndarray) -> bool:
    return y.dtype.kind == "f" and bool(np.isfinite(y).all()) and bool((y == np.round(y)).all())


def guessed_kind(x: np.ndarray) -> str:
    """``images`` for (n, C, H, W) or (n, H, W), ``tokens`` for integer sequences, else ``tabular``."""
    if x.ndim >= 3:
        return "images"
    return "tokens" if x.dtype.kind in "iu" and x.ndim == 2 else "tabular"


class Splits(Dataset):
    """Several data sets as the named splits of one; the first, ``test``, gives its description."""

    def __init__(self, parts: Mapping[str, Dataset]) -> None:
        """parts: split name -> a data set; must hold ``test``. Class lists must agree.

        A part that itself holds a split of that name gives that one, otherwise its ``test``.
        """
        first = parts["test"]
        self._parts = dict(parts)
        self.classes = max((part.classes for part in parts.values()), key=len)
        for split, part in parts.items():
            if part.classes != self.classes[: len(part.classes)]:
                message = f"data.{split}: expected the classes {list(self.classes)}, got {list(part.classes)}"
                raise LoadError(message)
        self.offers = first.offers | (frozenset(parts) - {"test"})
        cards = {split: part.card for split, part in parts.items()}
        self.card = Card(
            name=first.card.name,
            fingerprint=fingerprint((split, card.fingerprint) for split, card in cards.items()),
            facts=first.card.facts,
            splits=cards,
        )

    def batches(self, split: str = "test") -> Iterator[Batch]:
        """See ``Dataset.batches``."""
        if split in self._parts:
            part = self._parts[split]
            return part.batches(split if split in part.offers else "test")
        return self._parts["test"].batches(split)

    def size(self, split: str = "test") -> int:
        """See ``Dataset.size``."""
        part = self._parts.get(split, self._parts["test"])
        return part.size(split if split in part.offers else "test")
