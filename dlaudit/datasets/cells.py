"""Single cells of a table: when one is empty, and when two are alike.

Knows numbers and text; never columns or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Value = bool | int | float | str


def matches(values: np.ndarray, wanted: Sequence[Value]) -> np.ndarray:
    """(n,) bool: which values equal one of the wanted; numbers by value, text by letter.

    A number also matches the text that spells it, so that ``positive = 1`` finds "1".
    """
    import numpy as np

    texts = {value for value in wanted if isinstance(value, str)}
    numbers = {float(value) for value in wanted if not isinstance(value, str)}

    def hit(value: Any) -> bool:
        if isinstance(value, str):
            return value in texts or as_number(value) in numbers
        return float(value) in numbers or plain(value) in texts

    known: dict[Any, bool] = {
        value: hit(value) for value in set(values.tolist()) if not missing(value)
    }
    return np.array([known.get(value, False) for value in values.tolist()], dtype=bool)


def as_number(text: str) -> float | None:
    """The number that a text spells, if it does."""
    try:
        return float(text)
    except ValueError:
        return None


def missing(value: object) -> bool:
    """Whether a cell of a table is empty."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def plain(value: object) -> str:
    """A cell as the name of a class: whole numbers without a decimal point."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
