"""The rows behind the numbers: per-sample tables of evidence, as many rows as a page can hold.

Samples that have a picture on the page come first, so that a row leads to what it looks like.

Knows tables of columns; never what a column means, so that the table of any check is shown. All rows
stand in the file that the digest names.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dlaudit.audit.record import Artifact, AuditRecord, Measured
from dlaudit.reports.columns import TABLE
from dlaudit.reports.pictures import content

if TYPE_CHECKING:
    import numpy as np

ROWS = 40
BUDGET = 1200
"""Rows in the whole report; runs share them."""
COLUMNS = 12
LONGEST = 60


class SampleTable(NamedTuple):
    """The first rows of one table. reason: why there are none."""

    artifact: Artifact
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    total: int = 0
    reason: str = ""


def sample_tables(
    record: AuditRecord, folder: Path | None, pictured: Collection[str] = ()
) -> dict[str, SampleTable]:
    """sha256 -> table, for every table of evidence; each content once. pictured: ids of samples."""
    kept = [answer.artifact for answer in record.answers]
    for run in record.runs:
        if isinstance(run.outcome, Measured):
            kept += [one for one in run.outcome.artifacts if one.media_type == TABLE]
    unique = {one.sha256: one for one in kept}
    most = min(ROWS, max(3, BUDGET // max(1, len(unique))))
    return {sha256: _table(one, folder, most, pictured) for sha256, one in unique.items()}


def _table(
    artifact: Artifact, folder: Path | None, most: int, pictured: Collection[str]
) -> SampleTable:
    stored, reason = content(artifact, folder)
    if reason:
        return SampleTable(artifact, reason=reason)
    import numpy as np

    try:
        with np.load(io.BytesIO(stored), allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        return SampleTable(artifact, reason=f"the table cannot be read: {error}")
    flat = {name: column for name, column in found.items() if column.ndim == 1}
    lengths = {len(column) for column in flat.values()}
    if len(lengths) != 1:
        return SampleTable(artifact, reason="the file holds no table with one row per sample")
    names = sorted(flat, key=lambda name: name != "id")[:COLUMNS]
    total = lengths.pop()
    order: Sequence[int] = range(total)
    if pictured and "id" in flat:
        seen = np.isin(flat["id"].astype(str), list(pictured))
        order = np.argsort(~seen, kind="stable").tolist()
    rows = tuple(tuple(_cell(flat[name][row]) for name in names) for row in order[:most])
    return SampleTable(artifact, tuple(names), rows, total)


def _cell(value: np.generic) -> str:
    plain = value.item()
    if isinstance(plain, bool):
        return "yes" if plain else "no"
    text = f"{plain:.6g}" if isinstance(plain, float) else str(plain)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
