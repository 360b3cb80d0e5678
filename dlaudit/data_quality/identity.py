"""Names of people and of days in columns: read as they are written, missing ones told apart.

Knows cells; refuses to read a day out of what is neither a date nor a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dlaudit.data_quality.rows import Rows


def only_count(train: Rows, test: Rows) -> bool:
    """Whether ids are numbers of rows: decimal, and the same number stands for different inputs."""
    texts = np.concatenate([train.id, test.id])
    if not np.char.isdecimal(texts).all():
        return False
    _, one, other = np.intersect1d(train.id, test.id, return_indices=True)
    return bool((train.digest[one] != test.digest[other]).any())


def named(column: np.ndarray) -> np.ndarray:
    """Cells as text; a missing one is empty. 7 and 7.0 are the same number."""
    return np.array([_text(cell) for cell in column.tolist()], dtype=str)


def _text(cell: Any) -> str:
    if cell is None or cell != cell:  # noqa: PLR0124  (NaN)
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def moments(column: np.ndarray) -> np.ndarray | None:
    """(n,) numbers that order the rows by time; None where a cell is no date and no number."""
    import pandas as pd

    if column.dtype.kind in "iuf":
        values: np.ndarray = column.astype(np.float64)
        return values if np.isfinite(values).all() else None
    cells = pd.Series(
        [None if _text(cell) == "" else cell for cell in column.tolist()], dtype=object
    )
    numbers = pd.to_numeric(cells, errors="coerce")
    if numbers.notna().all():
        return np.asarray(numbers, dtype=np.float64)
    try:
        times = pd.to_datetime(cells.astype(str), format="ISO8601", utc=True)
    except ValueError:
        return None
    if times.isna().any():
        return None
    return np.asarray(times.astype("int64"), dtype=np.float64)
