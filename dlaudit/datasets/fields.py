"""Named arrays, checked, as a data set: x, y and optionally id, group_<name>, mask.

Knows numpy; never where the arrays came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from dlaudit.audit.files import refusal
from dlaudit.datasets.arrays import UNKNOWN, ArrayDataset
from dlaudit.datasets.cells import missing, plain
from dlaudit.datasets.streamed import StoredArray, StreamedDataset
from dlaudit.datasets.truths import VOID, Truth, truth_of
from dlaudit.errors import nearest

GROUP = "group_"
FIELDS = ("x", "y", "id", "mask")
ROWS_AT_ONCE = 4096


def dataset_of(
    fields: Mapping[str, Any],
    *,
    place: object,
    name: str,
    classes: Sequence[str] = (),
    scale: float | str | None = None,
    channel_axis: int | None = None,
    tokens: bool = False,
    rows: np.ndarray | None = None,
    task: str = "",
    void: int | None = VOID,
    fingerprint: str = "",
    facts: dict[str, Any] | None = None,
) -> ArrayDataset:
    """A data set out of named arrays; x becomes float32 (int64 with tokens) and is not rescaled.

    scale: a factor for x, a number or ``"1/255"``. channel_axis: where the channels of pictures
    stand in x; they are moved behind the samples, and an axis is made for pictures without one.
    rows: positions to keep; ids keep naming the position in the whole. task, void: what is true where
    that is no class, see ``truth_of``. Raises LoadError naming the field.
    """
    arrays: dict[str, Any] = {
        key: value if isinstance(value, StoredArray) else checked_array(value, place, key)
        for key, value in fields.items()
    }
    for key in ("x",) if task else ("x", "y"):
        if key not in arrays:
            close = nearest(key, [other for other in arrays if other not in FIELDS])
            raise refusal(
                place, f"field {key!r}", expected="an array of this name",
                got=f"only {', '.join(arrays) or 'nothing'}",
                hint=close if close.startswith("Did you mean") else "",
            )  # fmt: skip
    x = arrays["x"]
    if x.ndim == 0 or x.shape[0] == 0:
        raise refusal(
            place,
            "field 'x'",
            expected="at least one row",
            got="none" if x.ndim else "a single number",
        )
    n = x.shape[0]
    y, names = (
        (np.zeros(n, dtype=np.int64), tuple(classes))
        if task
        else labels(arrays["y"], place, classes)
    )
    ids = np.arange(n).astype(str) if "id" not in arrays else texts(arrays["id"], place, "id")
    groups = {
        key.removeprefix(GROUP): texts(value, place, key)
        for key, value in arrays.items()
        if key.startswith(GROUP)
    }
    for key, column in {"y": y, "id": ids, "mask": arrays.get("mask"), **groups}.items():
        if column is not None and (column.ndim == 0 or len(column) != n):
            raise refusal(
                place, f"field {key!r}", expected=f"{n} rows, as in x",
                got=str(len(column) if column.ndim else "a single value"),
            )  # fmt: skip
    keep = slice(None) if rows is None else rows
    mask = arrays.get("mask")
    described: dict[str, Any] = {
        "name": name, "classes": names, "id": ids[keep], "fingerprint": fingerprint, "facts": facts,
        "groups": {key: column[keep] for key, column in groups.items()},
    }  # fmt: skip

    def true_of(shape: tuple[int, ...]) -> Truth | None:
        if not task:
            return None
        size = shape[-2:] if len(shape) > 2 else None
        whole = truth_of(task, arrays, n=n, size=size, place=place, classes=names, void=void)
        return whole if rows is None else whole.at(rows)

    def converted(part: np.ndarray, first: int = 0) -> np.ndarray:
        return inputs(
            part, place, scale=scale, channel_axis=channel_axis, tokens=tokens, first=first
        )

    if isinstance(x, StoredArray):

        def read(start: int, stop: int) -> np.ndarray:
            chosen = slice(start, stop) if rows is None else rows[start:stop]
            return converted(x.rows(chosen), start)

        one = converted(x.rows(slice(1)) if rows is None else x.rows(rows[:1]))
        whole = np.broadcast_to(one[:1], (len(y[keep]), *one.shape[1:]))
        described["mask"] = None if mask is None else masks(mask[keep], whole, place)
        described["truth"] = true_of(whole.shape)
        described["facts"] = {**(facts or {}), "read": "from disk, batch by batch"}
        return StreamedDataset(read, one.shape[1:], y[keep], dtype=str(one.dtype), **described)
    x = converted(x[keep])
    described["mask"] = None if mask is None else masks(mask[keep], x, place)
    described["truth"] = true_of(x.shape)
    return ArrayDataset(x, y[keep], **described)


def checked_array(value: Any, place: object, key: str) -> np.ndarray:
    """A field as an array of numbers, booleans or text. Raises LoadError for objects."""
    value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise refusal(
            place, f"field {key!r}", expected="rows of one shape", got="rows of different shapes"
        ) from error
    if array.dtype == object and all(isinstance(cell, str | None) for cell in array.reshape(-1)):
        array = np.array(["" if cell is None else cell for cell in array.reshape(-1)]).reshape(
            array.shape
        )
    if array.dtype.kind not in "biufUS":
        raise refusal(
            place, f"field {key!r}", expected="numbers, booleans or text", got=f"type {array.dtype}"
        )
    return array


def inputs(
    x: np.ndarray,
    place: object,
    *,
    scale: float | str | None = None,
    channel_axis: int | None = None,
    tokens: bool = False,
    first: int = 0,
) -> np.ndarray:
    """(n, *input) float32 or, for tokens, (n, length) int64. Raises LoadError.

    first: the number of the first row, where x is a part of something larger.
    """
    if x.dtype.kind in "US":
        raise refusal(place, "field 'x'", expected="numbers", got="text", hint="Encode it first.")
    if x.ndim < 2:
        raise refusal(
            place, "field 'x'", expected="shape (n, *input)", got=f"shape {x.shape}",
            hint="One feature per row has shape (n, 1).",
        )  # fmt: skip
    if tokens:
        if x.dtype.kind not in "iu" or x.ndim != 2 or scale is not None or channel_axis is not None:
            raise refusal(
                place, "field 'x'", expected="token ids: whole numbers of shape (n, length), unscaled",
                got=f"{x.dtype} of shape {x.shape}" + (", scaled" if scale is not None else ""),
            )  # fmt: skip
        return x.astype(np.int64)
    if channel_axis is not None:
        x = channels_first(x, channel_axis, place)
    factor = None if scale is None else checked_scale(scale)
    result = np.empty(x.shape, dtype=np.float32)
    for start in range(0, len(x), ROWS_AT_ONCE):
        part = x[start : start + ROWS_AT_ONCE]
        if factor is not None:  # in float64, so that 255 * (1/255) is 1
            part = part.astype(np.float64) * factor.numerator / factor.denominator
        with np.errstate(over="ignore"):
            result[start : start + ROWS_AT_ONCE] = part
        finite = (
            np.isfinite(result[start : start + ROWS_AT_ONCE]).reshape(len(part), -1).all(axis=1)
        )
        if not finite.all():
            row = first + start + int(np.flatnonzero(~finite)[0])
            raise refusal(
                place, "field 'x'", expected="finite numbers", got=f"NaN or infinity in row {row}",
                hint="Impute in the model's own preprocessing, or leave the row out.",
            )  # fmt: skip
    return result


def checked_scale(scale: float | str) -> Fraction:
    """A factor from a number or ``"a/b"``. Raises LoadError unless it is finite and above 0."""
    try:
        factor = Fraction(scale)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise refusal(None, "scale", expected='a number or "1/255"', got=repr(scale)) from error
    if factor <= 0:
        raise refusal(None, "scale", expected="a number above 0", got=repr(scale))
    return factor


def channels_first(x: np.ndarray, axis: int, place: object) -> np.ndarray:
    """Pictures (n, C, H, W) out of (n, H, W) or out of channels that stand elsewhere."""
    whole = x.ndim + (x.ndim == 3)  # an axis is made for pictures without channels
    stands = axis + whole if axis < 0 else axis
    if whole != 4 or not 1 <= stands < whole:
        raise refusal(
            place, "channel_axis", expected="1, 2 or 3 (or -1) of pictures (n, H, W) or (n, H, W, C)",
            got=f"{axis} of shape {x.shape}", hint="Axis 0 counts the samples.",
        )  # fmt: skip
    return x[:, None] if x.ndim == 3 else np.moveaxis(x, stands, 1)


def labels(
    y: np.ndarray, place: object, classes: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class indices, and class names where y has them. Text is sorted unless classes give the order."""
    if y.dtype.kind not in "US":
        return y, tuple(classes)
    y = texts(y, place, "y", empty=None)
    names = tuple(classes) or tuple(sorted(set(y.tolist())))
    if unknown := sorted(set(y.tolist()) - set(names)):
        raise refusal(
            place, "field 'y'", expected=f"one of the classes {', '.join(names)}", got=repr(unknown[0]),
            hint=nearest(unknown[0], names),
        )  # fmt: skip
    index = {name: position for position, name in enumerate(names)}
    return np.array([index[name] for name in y.tolist()], dtype=np.int64), names


def texts(
    column: np.ndarray, place: object, key: str, *, empty: str | None = UNKNOWN
) -> np.ndarray:
    """(n,) text; empty cells become ``empty``, or raise LoadError if that is None or key is ``id``."""
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        raise refusal(
            place, f"field {key!r}", expected="one value per row", got=f"shape {column.shape}"
        )
    if column.dtype.kind == "S":
        try:
            column = np.char.decode(column, "utf-8")
        except UnicodeDecodeError as error:
            raise refusal(
                place, f"field {key!r}", expected="text in UTF-8", got="other bytes"
            ) from error
    if column.dtype.kind == "f":
        cells = ["" if missing(cell) else plain(cell) for cell in column.tolist()]
    else:
        cells = [str(cell) for cell in column.tolist()]
    if "" in cells and (empty is None or key == "id"):
        raise refusal(
            place, f"field {key!r}", expected="a value in every row",
            got=f"nothing in row {cells.index('')}",
        )  # fmt: skip
    return np.array([cell or empty for cell in cells])


def masks(mask: np.ndarray, x: np.ndarray, place: object) -> np.ndarray:
    """(n, *spatial) bool out of zeros and ones. Raises LoadError where it does not cover x."""
    spatial = x.shape[2:] if x.ndim == 4 else x.shape[1:]
    if mask.ndim == len(spatial) + 2 and mask.shape[1] == 1:
        mask = mask[:, 0]
    if mask.shape[1:] != spatial:
        raise refusal(
            place, "field 'mask'", expected=f"shape {(len(x), *spatial)}, one value per place of x",
            got=str(mask.shape),
        )  # fmt: skip
    if mask.dtype.kind in "US" or not np.isin(mask, (0, 1)).all():
        raise refusal(
            place, "field 'mask'", expected="1 where the object is, else 0", got="other values"
        )
    return mask.astype(bool)
