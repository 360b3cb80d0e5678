"""Reads a training history: which column of a log is the loss or the accuracy of which split.

Knows tables as trainers write them (CSV, JSON, exports of TensorBoard's scalars); refuses to guess
between two columns that could both be meant.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dlaudit.errors import LoadError, nearest

ROLES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
TIMES = ("epoch", "epochs", "step", "steps", "global_step", "iteration")
LOSS = {"loss", "nll", "crossentropy", "xent", "objective"}
ACCURACY = {"acc", "accuracy"}
TRAINED = {"train", "training", "tr"}
HELD_OUT = {"val", "valid", "validation", "eval", "evaluation", "dev"}
NOISE = {"epoch", "mean", "avg", "average", "total", "categorical", "sparse", "binary", "top1",
         "cross", "entropy", "scalar"}  # fmt: skip
ROWS = ("log_history", "history", "rows")


class Series(NamedTuple):
    """One quantity over training. at: epochs or steps, rising; values: as logged, NaN and infinite too."""

    at: list[float]
    values: list[float]


class Log(NamedTuple):
    """A history: role -> its series, and what ``at`` counts (``epoch``, ``step`` or ``row``)."""

    series: dict[str, Series]
    time: str
    columns: dict[str, str]


def read_log(path: Path, declared: Mapping[str, str]) -> Log:
    """The history in a file. declared: role or ``time`` -> the name of its column.

    Raises LoadError in one sentence: a file that is no table, a declared column that is not there, two
    columns for one role, a cell that is no number, and a history without any loss.
    """
    rows = _pivoted(_rows(path))
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = _columns(path, names, declared)
    time = columns.pop("time", "")
    if "val_loss" not in columns and "train_loss" not in columns:
        raise _refusal(
            path, "a column with a loss, such as train_loss and val_loss", _listed(names)
        )
    series = {role: _series(path, rows, name, time) for role, name in columns.items()}
    return Log({role: one for role, one in series.items() if one.at}, time or "row", columns)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV or JSON file, a dictionary each; cells as text or numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise _refusal(path, "text in UTF-8", str(error)) from error
    if text.lstrip()[:1] not in {"{", "["}:
        return _csv_rows(path, text)
    try:
        return _json_rows(json.loads(text), path)
    except json.JSONDecodeError:
        pass
    try:  # JSON lines: a row a line
        return _json_rows([json.loads(line) for line in text.splitlines() if line.strip()], path)
    except json.JSONDecodeError as error:
        raise _refusal(path, "JSON, or one JSON object a line", str(error)) from error


def _csv_rows(path: Path, text: str) -> list[dict[str, Any]]:
    """Rows by the names in the first line. The separator is the one that its first line holds most of."""
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    table = list(csv.reader(io.StringIO(text), delimiter=separator))
    head, *rest = [[cell.strip() for cell in row] for row in table if any(row)] or [[]]
    if not head or not rest:
        raise _refusal(path, "a line of column names and rows below it", f"{len(table)} lines")
    if any(_number(cell) is not None for cell in head):
        raise _refusal(path, "column names in the first line", "numbers")
    for line, row in enumerate(rest, start=2):
        if len(row) != len(head):
            raise _refusal(path, f"{len(head)} cells in row {line}", f"{len(row)}")
    return [dict(zip(head, row, strict=True)) for row in rest]


def _json_rows(value: Any, path: Path) -> list[dict[str, Any]]:
    """Rows of JSON: a list of objects, an object of columns, or either below a known key."""
    if isinstance(value, dict):
        for key in ROWS:
            if isinstance(value.get(key), dict | list) and not _is_column(value[key]):
                return _json_rows(value[key], path)
        columns = {str(name): one for name, one in value.items() if _is_column(one)}
        if len({len(one) for one in columns.values()}) == 1:
            return [
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            ]
        raise _refusal(
            path, "columns of one length", ", ".join(f"{k}: {len(v)}" for k, v in columns.items())
        )
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return [{str(name): cell for name, cell in row.items()} for row in value]
    raise _refusal(path, "a list of objects, or an object of columns", type(value).__name__)


def _is_column(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and not isinstance(value[0], dict | list)


def _pivoted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Long tables (tag, step, value), as TensorBoard exports them, with a column per tag."""
    words = {name.strip().lower(): name for name in rows[0]}
    if not {"tag", "step", "value"} <= set(words):
        return rows
    tag, step, value = (words[name] for name in ("tag", "step", "value"))
    return [{"step": row[step], str(row[tag]): row[value]} for row in rows]


def _columns(path: Path, names: Sequence[str], declared: Mapping[str, str]) -> dict[str, str]:
    """Role -> column, of ``time`` too: as declared, else as the names say."""
    found: dict[str, str] = {}
    for role, name in declared.items():
        if name not in names:
            raise _refusal(
                path, f"a column {name!r} for {role}", f"{_listed(names)}. {nearest(name, names)}"
            )
        found[role] = name
    meant: dict[str, list[str]] = {}
    for name in names:
        if name not in found.values() and (said := role_of(name)) and said not in found:
            meant.setdefault(said, []).append(name)
    for part, candidates in meant.items():
        if len(candidates) > 1:
            raise _refusal(
                path, f"one column for {part}",
                f"{_listed(candidates)}. Say which: columns = {{ {part} = {candidates[0]!r} }}",
            )  # fmt: skip
        found[part] = candidates[0]
    if "time" not in found:
        by_word = {name.strip().lower(): name for name in names}
        if known := [by_word[word] for word in TIMES if word in by_word]:
            found["time"] = known[0]
    return found


def role_of(name: str) -> str | None:
    """What a column's name says: loss or accuracy, of training (also unsaid) or of held-out data."""
    words = set(re.findall(r"[a-z]+1?", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()))
    kinds = [kind for kind, known in (("loss", LOSS), ("accuracy", ACCURACY)) if words & known]
    trained, held_out = bool(words & TRAINED), bool(words & HELD_OUT)
    if len(kinds) != 1 or (trained and held_out):
        return None
    if words - LOSS - ACCURACY - TRAINED - HELD_OUT - NOISE:
        return None
    return f"{'val' if held_out else 'train'}_{kinds[0]}"


def _series(path: Path, rows: Iterable[Mapping[str, Any]], name: str, time: str) -> Series:
    """A column over time; several values of one epoch are averaged, blank cells are no values."""
    sums: dict[float, list[float]] = {}
    for place, row in enumerate(rows, start=1):
        cell = row.get(name)
        if cell is None or cell == "":
            continue
        value = _number(cell)
        at = _number(row.get(time)) if time else float(place)
        if value is None or at is None or not math.isfinite(at):
            wrong, what = (cell, name) if value is None else (row.get(time), time)
            raise _refusal(path, f"a number in column {what!r} of row {place}", repr(wrong))
        sums.setdefault(at, []).append(value)
    at_sorted = sorted(sums)
    return Series(
        at_sorted, [math.fsum(_finite_or_nan(sums[at])) / len(sums[at]) for at in at_sorted]
    )


def _finite_or_nan(values: Sequence[float]) -> Iterator[float]:
    """The values; all NaN where one is not finite, for infinities of both signs have no sum."""
    whole = all(math.isfinite(value) for value in values)
    yield from (value if whole else math.nan for value in values)


def _number(cell: Any) -> float | None:
    """A cell as a number, ``nan`` and ``inf`` among them; None where it is none."""
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def _refusal(path: Path, expected: str, got: str) -> LoadError:
    """A LoadError of one sentence."""
    return LoadError(f"{path.name}: expected {expected}, got {got.rstrip('.')}.")
