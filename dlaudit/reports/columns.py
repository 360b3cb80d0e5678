"""Per-sample evidence as columns, read back for figures.

Knows digests, file formats and which columns a figure asks for; never what they mean. A file is read
only from inside the run's folder and only if its digest is the recorded one; whatever is wrong with
it is said, never guessed.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from dlaudit.audit.record import Artifact, CheckRun, Measured
from dlaudit.reports.pictures import content

if TYPE_CHECKING:
    import numpy as np

TABLE = "application/vnd.numpy.npz"
JSON = "application/json"


class Columns(NamedTuple):
    """One row per sample; each column is an array (n,). ``reason``: why there are none."""

    n: int = 0
    by_name: Mapping[str, np.ndarray] = MappingProxyType({})
    reason: str = ""


def of_run(
    run: CheckRun, name: str, folder: Path | None, *, needed: Mapping[str, str], optional: str = ""
) -> Columns:
    """The table ``<run>.<name>`` of a run.

    needed: column -> the kinds of numbers it may hold (numpy's letters: ``b`` truth, ``i`` and ``u``
    whole, ``f`` real, ``U`` text). optional: further columns, separated by blanks, read where they
    hold whole or real numbers.
    """
    artifact = find(run, name, TABLE)
    if artifact is None:
        return Columns(reason="the run kept no table of its samples")
    stored, reason = content(artifact, folder)
    if reason:
        return Columns(reason=reason)
    return table(stored, needed=needed, optional=optional.split())


def find(run: CheckRun, name: str, media_type: str) -> Artifact | None:
    """The artifact ``<run>.<name>`` of a media type, if the run kept one."""
    kept = run.outcome.artifacts if isinstance(run.outcome, Measured) else ()
    wanted = f"{run.id}.{name}"
    return next((a for a in kept if a.name == wanted and a.media_type == media_type), None)


def table(stored: bytes, *, needed: Mapping[str, str], optional: Iterable[str] = ()) -> Columns:
    """The columns inside the bytes of an ``.npz``; see ``of_run``."""
    import numpy as np

    found: dict[str, np.ndarray] = {}
    try:
        with np.load(io.BytesIO(stored), allow_pickle=False) as columns:
            present = set(columns.files)
            wanted = [*needed, *(name for name in optional if name in present)]
            found = {name: columns[name] for name in wanted}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        return Columns(reason=f"the table cannot be read: {error}")
    for name in optional:
        if name in found and not _fits(found[name], "iuf"):
            del found[name]
    for name, kinds in needed.items():
        if not _fits(found[name], kinds):
            shape = f"{found[name].dtype} of shape {found[name].shape}"
            return Columns(reason=f"the table's column {name!r} holds {shape}")
    lengths = {len(column) for column in found.values()}
    if len(lengths) != 1:
        return Columns(reason="the table's columns are of different lengths")
    return Columns(lengths.pop(), found)


def _fits(column: np.ndarray, kinds: str) -> bool:
    """One value per sample, of these kinds, and no NaN."""
    if column.ndim != 1 or column.dtype.kind not in kinds:
        return False
    return column.dtype.kind != "f" or bool((column == column).all())  # noqa: PLR0124  (NaN)


def listed(run: CheckRun, name: str, folder: Path | None) -> list[dict[str, Any]]:
    """The objects of the JSON list ``<run>.<name>``; empty if there is none or it cannot be read."""
    artifact = find(run, name, JSON)
    if artifact is None:
        return []
    stored, reason = content(artifact, folder)
    if reason:
        return []
    try:
        found = json.loads(stored)
    except ValueError:
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
