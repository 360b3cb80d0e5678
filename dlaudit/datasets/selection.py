"""Which rows of a file are audited: a range, or a list of positions in a file of its own.

Knows positions; never what stands in the rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaudit.audit.files import identity, named_file, refusal, said

if TYPE_CHECKING:
    import numpy as np

RANGE = re.compile(r"(\d*):(\d*)\Z")


def index_file(rows: str | None, root: Path) -> Path | None:
    """The file that ``rows`` names, if it is no range. Raises LoadError if there is none."""
    if rows is None or RANGE.match(rows):
        return None
    return named_file(root, rows, expected='a range "a:b" or a file of row numbers')


def identified(
    files: Mapping[str, Path], settings: Mapping[str, object], rows: str | None, root: Path
) -> tuple[str, dict[str, Any]]:
    """``identity`` of files of which the plan reads some rows: a range is a setting, a list a file."""
    index = index_file(rows, root)
    if index is None:
        return identity(files, {**settings, "rows": rows})
    return identity({**files, "rows": index}, settings)


def selected(rows: str | None, root: Path, n: int) -> np.ndarray | None:
    """Positions (k,) int64 in the order written, or None for everything.

    rows: ``"a:b"`` (from a up to, not including, b; both may be left out, both count from 0), or a
    file with one position per line, or a .npy of whole numbers. n: how many rows there are. Raises
    LoadError for positions that do not exist or stand there twice.
    """
    import numpy as np

    if rows is None:
        return None
    if match := RANGE.match(rows):
        start = int(match[1] or 0)
        stop = int(match[2]) if match[2] else n
        if not start < stop <= n:
            raise refusal(None, "rows", expected=f'a range within "0:{n}"', got=f'"{rows}"')
        return np.arange(start, stop)
    file = named_file(root, rows, expected='a range "a:b" or a file of row numbers')
    chosen = _positions(file)
    if len(chosen) == 0:
        raise refusal(file, expected="at least one row number", got="none")
    if chosen.min() < 0 or chosen.max() >= n:
        beyond = int(chosen.min() if chosen.min() < 0 else chosen.max())
        raise refusal(file, expected=f"row numbers from 0 to {n - 1}", got=str(beyond))
    unique, counts = np.unique(chosen, return_counts=True)
    if len(unique) < len(chosen):
        raise refusal(
            file,
            expected="each row number once",
            got=f"{unique[counts > 1][0]} {counts.max()} times",
        )
    return chosen


def _positions(file: Path) -> np.ndarray:
    import numpy as np

    if file.suffix == ".npy":
        try:
            chosen = np.load(file, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise refusal(file, expected="an array of row numbers", got=said(error)) from error
        if not isinstance(chosen, np.ndarray) or chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            got = (
                f"{chosen.dtype} of shape {chosen.shape}"
                if isinstance(chosen, np.ndarray)
                else "no array"
            )
            raise refusal(file, expected="whole numbers in one dimension", got=got)
        return chosen.astype(np.int64)
    try:
        lines = file.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise refusal(
            file, expected="one row number per line", got="bytes that are no text"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not re.fullmatch(r"\d{1,18}", line):
            raise refusal(file, f"entry {number}", expected="a row number", got=repr(line))
    return np.array([int(line) for line in lines], dtype=np.int64)
