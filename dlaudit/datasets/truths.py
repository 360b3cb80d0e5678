"""What is true where that is no class: label sets, label maps, boxes; checked, and counted.

Knows arrays of labels, maps and corners; never files, and never what a model says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dlaudit.audit.files import refusal
from dlaudit.audit.parts import Boxes
from dlaudit.errors import nearest

VOID = 255
"""The number of pixels that nobody labelled, in Pascal VOC, Cityscapes and ADE20K."""

MANY = 10_000
"""More classes than this are no label map, but a picture."""

BOX, BOX_LABEL, BOX_ROW, BOX_CROWD = "box", "box_label", "box_row", "box_crowd"
BOX_FIELDS = (BOX, BOX_LABEL, BOX_ROW)


class Truth(NamedTuple):
    """task: one of ``TASKS``; rows: as ``Batch.truth`` holds them; counts: how often each class occurs.

    counts: rows that have the label, pixels, or objects.
    """

    task: str
    rows: np.ndarray
    classes: tuple[str, ...]
    counts: tuple[int, ...]

    def at(self, keep: Any) -> Truth:
        """Some rows of it."""
        return counted(self.task, self.rows[keep], self.classes)

    def arrays(self) -> dict[str, np.ndarray]:
        """The content as arrays of numbers, whatever the task: what a digest is made of."""
        if self.task != "detection":
            return {"truth": self.rows}
        return {f"truth {name}": column for name, column in flat(self.rows).items()}


def truth_of(
    task: str,
    fields: Mapping[str, np.ndarray],
    *,
    n: int,
    size: tuple[int, ...] | None,
    place: object,
    classes: Sequence[str] = (),
    void: int | None = VOID,
) -> Truth:
    """The truth of n samples out of named arrays. Raises LoadError naming the field.

    multilabel: y (n, L) of 0 and 1. segmentation: y (n, H, W) of class indices; void: the number of
    pixels that do not count. detection: box (N, 4) of corners x0, y0, x1, y1 in pixels, box_label (N,),
    box_row (N,) the position of its picture, and optionally box_crowd (N,). size: (H, W) of the pictures,
    None where that is not known.
    """
    if task == "detection":
        rows = _boxes(fields, n, size, place, classes)
    elif "y" not in fields:
        raise refusal(
            place,
            "field 'y'",
            expected=f"an array of this name, with the {task} truth",
            got="none",
        )
    elif task == "multilabel":
        rows = _label_sets(fields["y"], n, place, classes)
    else:
        rows = _label_maps(fields["y"], n, size, place, classes=classes, void=void)
    return counted(task, rows, classes)


def counted(task: str, rows: np.ndarray, classes: Sequence[str]) -> Truth:
    """Names for all classes that occur, and how often each does."""
    if task == "multilabel":
        seen = rows.sum(axis=0)
    elif task == "segmentation":
        seen = np.bincount(rows[rows >= 0].ravel())
    else:
        seen = np.bincount(flat(rows)["label"])
    least = 2 if task == "segmentation" else 1
    names = tuple(classes) or tuple(str(index) for index in range(max(least, len(seen))))
    counts = np.zeros(len(names), dtype=np.int64)
    counts[: len(seen)] = seen
    return Truth(task, rows, names, tuple(int(count) for count in counts))


def flat(rows: np.ndarray) -> dict[str, np.ndarray]:
    """All boxes of many pictures in one array each: row, box, label, crowd."""
    sizes = np.array([len(one.label) for one in rows], dtype=np.int64)
    return {
        "row": np.repeat(np.arange(len(rows)), sizes),
        "box": np.concatenate([np.zeros((0, 4)), *(one.box for one in rows)]),
        "label": np.concatenate([np.zeros(0, dtype=np.int64), *(one.label for one in rows)]),
        "crowd": np.concatenate([np.zeros(0, dtype=bool), *(one.crowd for one in rows)]),
    }


def by_picture(
    box: np.ndarray, label: np.ndarray, row: np.ndarray, crowd: np.ndarray, n: int
) -> np.ndarray:
    """(n,) objects of ``Boxes`` out of boxes that name their picture."""
    held = np.empty(n, dtype=object)
    order = np.argsort(row, kind="stable")
    ends = np.searchsorted(row[order], np.arange(n + 1))
    for picture in range(n):
        chosen = order[ends[picture] : ends[picture + 1]]
        held[picture] = Boxes(
            box[chosen].astype(np.float64), label[chosen].astype(np.int64), np.ones(len(chosen)),
            crowd[chosen].astype(bool),
        )  # fmt: skip
    return held


def _label_sets(y: np.ndarray, n: int, place: object, classes: Sequence[str]) -> np.ndarray:
    if y.ndim != 2 or len(y) != n or not y.shape[1] or (classes and y.shape[1] != len(classes)):
        raise refusal(
            place, "field 'y'", expected=f"a column for each of {len(classes) or 'the'} labels: shape "
            f"({n}, {len(classes) or 'L'})", got=f"shape {y.shape}",
        )  # fmt: skip
    if y.dtype.kind not in "biuf" or not np.isin(y, (0, 1)).all():
        raise refusal(
            place, "field 'y'", expected="1 where a row has the label, else 0", got=_other(y, (0, 1))
        )  # fmt: skip
    return y.astype(bool)


def _label_maps(
    y: np.ndarray,
    n: int,
    size: tuple[int, ...] | None,
    place: object,
    *,
    classes: Sequence[str],
    void: int | None,
) -> np.ndarray:
    y = y[:, 0] if y.ndim == 4 and y.shape[1] == 1 else y
    if y.ndim != 3 or len(y) != n or (size is not None and y.shape[1:] != size):
        wanted = f"({n}, {', '.join(map(str, size))})" if size else f"({n}, H, W)"
        raise refusal(
            place, "field 'y'", expected=f"a class for every pixel: shape {wanted}",
            got=f"shape {y.shape}",
        )  # fmt: skip
    if y.dtype.kind not in "biu" and not (y.dtype.kind == "f" and (y == np.round(y)).all()):
        raise refusal(place, "field 'y'", expected="class indices", got=f"type {y.dtype}")
    most = len(classes) or MANY
    uncounted = np.zeros(y.shape, dtype=bool) if void is None else y == void
    wrong = ((y >= most) | (y < 0)) & ~uncounted
    if wrong.any():
        raise refusal(
            place, "field 'y'", expected=f"class indices 0 … {most - 1}, or void = {void}",
            got=str(y[wrong][0]), hint="" if classes else "Are these colours?",
        )  # fmt: skip
    maps = y.astype(np.int16)  # a pixel each: they are many
    maps[uncounted] = -1
    if (maps < 0).all():
        raise refusal(place, "field 'y'", expected="pixels that count", got="void in all of them")
    return maps


def _boxes(
    fields: Mapping[str, np.ndarray], n: int, size: tuple[int, ...] | None, place: object,
    classes: Sequence[str],
) -> np.ndarray:  # fmt: skip
    for key in BOX_FIELDS:
        if key not in fields:
            raise refusal(
                place, f"field {key!r}", expected="an array of this name", got=f"only {', '.join(fields)}",
                hint=nearest(key, fields),
            )  # fmt: skip
    box, label, row = (fields[key] for key in BOX_FIELDS)
    box = box.reshape(-1, 4) if box.size == 0 else box
    count = len(box)
    crowd = fields.get(BOX_CROWD, np.zeros(count, dtype=bool))
    if box.ndim != 2 or box.shape[1] != 4 or box.dtype.kind not in "iuf":
        raise refusal(
            place, f"field {BOX!r}", expected="corners (N, 4)", got=f"{box.dtype} {box.shape}"
        )
    for key, column in ((BOX_LABEL, label), (BOX_ROW, row), (BOX_CROWD, crowd)):
        if column.shape != (count,) or (count and column.dtype.kind not in "biu"):
            raise refusal(
                place, f"field {key!r}", expected=f"a whole number for each of {count} boxes",
                got=f"{column.dtype} of shape {column.shape}",
            )  # fmt: skip
    if not count:
        raise refusal(place, f"field {BOX!r}", expected="at least one box", got="none")
    if not np.isfinite(box).all() or (box[:, 2:] <= box[:, :2]).any():
        bad = int(np.flatnonzero(~np.isfinite(box).all(1) | (box[:, 2:] <= box[:, :2]).any(1))[0])
        raise refusal(
            place, f"field {BOX!r}, box {bad}", expected="x0, y0, x1, y1 with x0 < x1 and y0 < y1",
            got=str(box[bad].tolist()), hint="Are these x, y, width, height?",
        )  # fmt: skip
    if size is not None and (beyond := (box < -1) | (box > np.array([*size[::-1]] * 2) + 1)).any():
        bad = int(np.flatnonzero(beyond.any(axis=1))[0])
        raise refusal(
            place, f"field {BOX!r}, box {bad}",
            expected=f"corners within the picture of {size[1]} x {size[0]} pixels",
            got=str(box[bad].tolist()),
        )  # fmt: skip
    if row.min() < 0 or row.max() >= n:
        raise refusal(
            place, f"field {BOX_ROW!r}", expected=f"positions 0 … {n - 1} of pictures in x",
            got=f"{row.min()} to {row.max()}",
        )  # fmt: skip
    most = len(classes) or MANY
    if label.min() < 0 or label.max() >= most:
        raise refusal(
            place, f"field {BOX_LABEL!r}", expected=f"class indices 0 … {most - 1}",
            got=f"{label.min()} to {label.max()}",
        )  # fmt: skip
    return by_picture(box, label, row, crowd, n)


def _other(y: np.ndarray, known: tuple[int, ...]) -> str:
    if y.dtype.kind not in "biuf":
        return f"type {y.dtype}"
    return str(y[~np.isin(y, known)][0])
