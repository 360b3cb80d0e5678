"""Reads CSV and Parquet into columns, each as text and as what the text means.

Knows files, encodings and types of columns; never what a column is for.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dlaudit.audit.files import refusal, said
from dlaudit.datasets.cells import missing
from dlaudit.errors import LoadError
from dlaudit.models import airlock

EMPTY = frozenset(
    {
        "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
        "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
    }
)  # fmt: skip
"""Texts that mean an empty cell, as pandas reads them, so that a pipeline sees what it was fitted on."""

WHOLE = re.compile(r"\s*[+-]?\d{1,18}\s*\Z")
NAMELESS = "column "
"""How a column without a name is called, with its number behind it."""


class Column(NamedTuple):
    """texts: (n,) str or None where empty, as stored. values: (n,) int64, float64, bool or text.

    Empty cells are NaN among values. mixed: an example where some cells are numbers and some are not.
    """

    texts: list[str | None]
    values: np.ndarray
    mixed: str = ""

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers or booleans."""
        return self.values.dtype.kind in "iufb"


def read_csv(
    file: Path, *, encoding: str = "utf-8", separator: str = ",", as_text: Sequence[str] = ()
) -> dict[str, Column]:
    """The columns of a CSV file with a header. Raises LoadError with the line.

    as_text: columns whose cells stay as they are written.
    """
    text = _decoded(file, encoding)
    rows: list[list[str]] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        header = next(reader, [])
        names = _checked_names(header, file, separator)
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise refusal(
                    file, f"line {reader.line_num}", expected=f"{len(names)} fields, as in the header",
                    got=str(len(row)), hint="Is a separator or a quote missing?",
                )  # fmt: skip
            rows.append(row)
    except (csv.Error, TypeError) as error:
        raise refusal(file, expected="CSV", got=said(error)) from error
    if not rows:
        raise refusal(file, expected="at least one row below the header", got="none")
    return {
        name: from_texts(
            [None if cell.strip() in EMPTY else cell for cell in cells], as_text=name in as_text
        )
        for name, cells in zip(names, zip(*rows, strict=True), strict=True)
    }


def _decoded(file: Path, encoding: str) -> str:
    """The file's text. Raises LoadError for other encodings and for what is no text."""
    content = file.read_bytes()
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"} and encoding == "utf-8":
        raise refusal(
            file, expected="text in UTF-8", got="UTF-16", hint='encoding = "utf-16" reads it.'
        )
    kind = airlock.kind_of(file)
    if kind != "unknown":
        raise refusal(file, expected="CSV (text)", got=f"a file of the kind: {kind}")
    try:
        text = content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except LookupError as error:
        raise refusal(
            None, "encoding", expected="an encoding that Python knows", got=repr(encoding)
        ) from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise refusal(
            file, f"line {line}", expected=f"text in {encoding}",
            got=f"byte 0x{content[error.start]:02x}, which is none",
            hint='For older files, encoding = "cp1252" or "latin-1".',
        ) from error  # fmt: skip
    if "\0" in text:
        raise refusal(file, expected="CSV (text)", got="a binary file")
    return text


def _checked_names(header: Sequence[str], file: object, separator: str) -> list[str]:
    names = [name.strip() or f"{NAMELESS}{number}" for number, name in enumerate(header, start=1)]
    for name in names:
        if names.count(name) > 1:
            raise refusal(file, "header", expected="each column once", got=f"{name!r} twice")
    if len(names) == 1:
        other = next((sign for sign in (";", "\t", ",", "|") if sign in names[0]), None)
        if other and other != separator:
            raise refusal(
                file, "header", expected=f"columns separated by {separator!r}", got=f"{other!r} instead",
                hint=f'separator = "{other}" reads it.'.replace("\t", "\\t"),
            )  # fmt: skip
    return names


def from_texts(texts: Sequence[str | None], *, as_text: bool = False) -> Column:
    """A column from its written cells."""
    import pandas as pd

    kept = list(texts)
    present = [cell for cell in kept if cell is not None]
    if as_text or not present:
        return Column(kept, _text_values(kept))
    if {cell.strip().lower() for cell in present} <= {"true", "false"} and len(present) == len(
        kept
    ):
        return Column(kept, np.array([cell.strip().lower() == "true" for cell in present]))
    if all(WHOLE.match(cell) for cell in present) and len(present) == len(kept):
        return Column(kept, np.array([int(cell) for cell in present], dtype=np.int64))
    numbers = pd.to_numeric(pd.Series(kept, dtype=object), errors="coerce").to_numpy(
        dtype=np.float64
    )
    given = np.array([cell is not None for cell in kept])
    odd = given & np.isnan(numbers)
    if not odd.any():
        return Column(kept, numbers)
    mixed = ""
    if (given & ~np.isnan(numbers)).any():
        row = int(np.flatnonzero(odd)[0])
        mixed = f"{kept[row]!r} in row {row}"
    return Column(kept, _text_values(kept), mixed)


def _text_values(texts: Sequence[str | None]) -> np.ndarray:
    """Text of a fixed length where no cell is empty, else objects with NaN, as pandas has them."""
    if None in texts:
        values = np.empty(len(texts), dtype=object)
        values[:] = [np.nan if cell is None else cell for cell in texts]
        return values
    return np.array(texts, dtype=str)


def read_parquet(file: Path, *, as_text: Sequence[str] = ()) -> dict[str, Column]:
    """The columns of a Parquet or Arrow file. Raises LoadError, also where pyarrow is not installed."""
    return of_frame(_frame(file, _readers()), file, as_text=as_text)


def read_arrow(files: Sequence[Path], *, as_text: Sequence[str] = ()) -> dict[str, Column]:
    """The columns of Arrow files that are parts of one table, one below the other."""
    import pandas as pd

    readers = _readers()
    frames = [_frame(file, readers) for file in files]
    for file, frame in zip(files, frames, strict=True):
        if list(frame.columns) != list(frames[0].columns):
            raise refusal(
                file, "columns", expected=", ".join(frames[0].columns), got=", ".join(frame.columns)
            )
    return of_frame(pd.concat(frames, ignore_index=True), files[0].parent, as_text=as_text)


def _readers() -> dict[bytes, Any]:
    """First bytes -> what reads such a file into a table of Arrow. Raises LoadError without pyarrow."""
    try:
        from pyarrow import ipc, memory_map, parquet
    except ImportError as error:
        raise refusal(
            None, "pyarrow", expected="it to read Parquet and Arrow", got="an installation without it",
            hint="Install it: pip install 'dlaudit[parquet]'.",
        ) from error  # fmt: skip

    def arrow(reader: Any) -> Any:
        return lambda file: reader(memory_map(str(file))).read_all()

    return {
        b"PAR1": parquet.read_table, b"ARRO": arrow(ipc.open_file),
        b"\xff\xff\xff\xff": arrow(ipc.open_stream),
    }  # fmt: skip


def _frame(file: Path, readers: dict[bytes, Any]) -> Any:
    """A file of columns as a frame whose columns keep their written names."""
    with file.open("rb") as opened:
        read = readers.get(opened.read(4))
    if read is None:
        raise refusal(
            file,
            expected="a Parquet or Arrow file",
            got=f"a file of the kind: {airlock.kind_of(file)}",
        )
    kind = "Parquet" if file.suffix.lower() not in {".arrow", ".feather"} else "Arrow"
    try:
        table = read(file)
        names = _checked_names(list(table.column_names), file, ",")
        return table.rename_columns(names).to_pandas()
    except LoadError:
        raise
    except Exception as error:
        raise refusal(
            file, expected=f"a whole {kind} file", got=said(error), hint="Was it copied to its end?"
        ) from error


def of_frame(frame: Any, place: object, *, as_text: Sequence[str] = ()) -> dict[str, Column]:
    """The columns of a pandas frame. Raises LoadError if there is no row, or a name stands twice."""
    names = _checked_names([str(name) for name in frame.columns], place, ",")
    if not len(frame):
        raise refusal(place, expected="at least one row", got="none")
    return {
        name: _from_series(frame.iloc[:, number], as_text=name in as_text)
        for number, name in enumerate(names)
    }


def _from_series(series: Any, *, as_text: bool) -> Column:
    """A column from a typed one."""
    import pandas as pd

    kind = series.dtype
    if isinstance(kind, pd.CategoricalDtype):
        series, kind = series.astype(kind.categories.dtype), kind.categories.dtype
    cells = [
        None if missing(cell) or cell is pd.NA or cell is pd.NaT else cell
        for cell in series.tolist()
    ]
    texts = [None if cell is None else _written(cell) for cell in cells]
    whole = all(cell is not None for cell in cells)
    if not as_text:
        if pd.api.types.is_bool_dtype(kind) and whole:
            return Column(texts, np.array(cells, dtype=bool))
        if pd.api.types.is_signed_integer_dtype(kind) and whole:
            return Column(texts, np.array(cells, dtype=np.int64))
        if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind):
            return Column(
                texts, np.array([np.nan if cell is None else float(cell) for cell in cells])
            )
    odd = next((cell for cell in cells if isinstance(cell, dict | list | np.ndarray | bytes)), None)
    return Column(texts, _text_values(texts), f"a {type(odd).__name__}" if odd is not None else "")


def _written(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)
