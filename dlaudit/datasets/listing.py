"""Files of a folder with their labels: a class per folder, or a table that names them.

Knows folders and the table; never what a file holds. Nothing outside the folder is read: a link that
leaves it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dlaudit.audit.evidence import digest, file_digest, fingerprint
from dlaudit.audit.files import identity, named_file, named_folder, refusal
from dlaudit.audit.record import canonical
from dlaudit.errors import nearest

if TYPE_CHECKING:
    from dlaudit.datasets.table_reading import Column

TABLE = "metadata.csv"
GROUP = "group_"


class Listing(NamedTuple):
    """Files as they are named below the folder, with label, and groups by attribute."""

    files: list[str]
    labels: list[str]
    groups: dict[str, list[str]]


class Listed(NamedTuple):
    """A folder's files, ready to be opened. labels: class indices; facts and fingerprint: their identity."""

    folder: Path
    paths: list[Path]
    files: list[str]
    labels: list[int]
    classes: tuple[str, ...]
    groups: dict[str, list[str]]
    fingerprint: str
    facts: dict[str, Any]


def listed(
    root: Path,
    path: str,
    *,
    what: str,
    suffixes: Sequence[str],
    classes: Sequence[str] | None,
    table: str | None,
    file: str,
    label: str,
    groups: Sequence[str] | None,
    settings: Mapping[str, Any],
) -> Listed:
    """The files below ``path`` with labels and groups, and who they are. what: the files, in words.

    settings: further arguments that change what is read. Raises LoadError.
    """
    folder = named_folder(root, path, expected=f"a folder of {what}")
    metadata = folder / TABLE if table is None else named_file(root, table, expected="a CSV table")
    tabled = table is not None or metadata.is_file()
    if tabled:
        listing = from_table(metadata, file=file, label=label, groups=groups or [])
    elif groups:
        raise refusal(
            folder,
            "groups",
            expected=f"a table {TABLE} that has these columns",
            got="folders alone",
        )
    else:
        listing = from_folders(folder, suffixes, what=what)
    names = tuple(classes) if classes else tuple(sorted(set(listing.labels)))
    if strange := sorted(set(listing.labels) - set(names)):
        raise refusal(
            metadata if tabled else folder, "label", expected=f"one of the classes {', '.join(names)}",
            got=repr(strange[0]), hint=nearest(strange[0], names),
        )  # fmt: skip
    paths = [inside(folder, written, what=what) for written in listing.files]
    # One digest over (name below the folder, sha256 of the file): a moved folder is the same folder.
    content = fingerprint(
        (name, file_digest(one)) for name, one in zip(listing.files, paths, strict=True)
    )
    whole, facts = identity(
        {"table": metadata} if tabled else {},
        {
            **settings,
            "classes": classes,
            "labels": digest(canonical([listing.labels, listing.groups])),
        },
        digests={what: content},
    )
    return Listed(
        folder, paths, listing.files, [names.index(one) for one in listing.labels], names,
        listing.groups, whole, facts,
    )  # fmt: skip


def from_folders(folder: Path, suffixes: Sequence[str], *, what: str) -> Listing:
    """Files and labels by folder, both in sorted order. what: the files, in words. Raises LoadError."""
    files: list[str] = []
    labels: list[str] = []
    kinds = sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    for kind in kinds:
        inside(folder, kind.name, what=what)
        found = sorted(
            one for one in kind.rglob("*")
            if one.suffix.lower() in suffixes and not one.name.startswith(".")
        )  # fmt: skip
        if not found:
            raise refusal(kind, expected=f"{what} ({', '.join(suffixes)})", got="none")
        files += [one.relative_to(folder).as_posix() for one in found]
        labels += [kind.name] * len(found)
    if not files:
        raise refusal(
            folder, expected=f"a folder for each class, with {what} in it", got="no such folder",
            hint=f"Or a table {TABLE} with the columns file and label.",
        )  # fmt: skip
    return Listing(files, labels, {})


def from_table(table: Path, *, file: str, label: str, groups: Sequence[str]) -> Listing:
    """Files, labels and groups by the table's rows. Raises LoadError."""
    from dlaudit.datasets.table_reading import read_csv

    named_file(table.parent, table.name, expected="a CSV table")
    columns = read_csv(table)
    for name in (file, label, *groups):
        if name not in columns:
            raise refusal(
                table, f"column {name!r}", expected="a column of the table", got="none of this name",
                hint=nearest(name, columns),
            )  # fmt: skip
    files = _whole(columns[file], table, file)
    if len(set(files)) < len(files):
        twice = next(name for name in files if files.count(name) > 1)
        raise refusal(table, f"column {file!r}", expected="each file once", got=f"{twice!r} twice")
    attributes = {name: columns[name] for name in groups} | {
        name.removeprefix(GROUP): column
        for name, column in columns.items()
        if name.startswith(GROUP)
    }
    return Listing(
        files,
        _whole(columns[label], table, label),
        {
            name: ["unknown" if text is None else text for text in column.texts]
            for name, column in attributes.items()
        },
    )


def _whole(column: Column, table: Path, name: str) -> list[str]:
    if None in column.texts:
        raise refusal(
            table, f"column {name!r}", expected="a value in every row",
            got=f"nothing in row {column.texts.index(None)}",
        )  # fmt: skip
    return [text for text in column.texts if text is not None]


def inside(folder: Path, written: str, *, what: str) -> Path:
    """A path below the folder, links followed. Raises LoadError if it leaves the folder or is missing."""
    path = folder / written
    if not path.resolve().is_relative_to(folder.resolve()):
        raise refusal(
            folder, expected="files inside the folder", got=f"{written!r}, which leads out of it",
            hint="Copy what the link points to.",
        )  # fmt: skip
    if path.is_dir():
        return path
    return named_file(folder, written, expected=what)
