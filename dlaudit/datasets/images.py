"""Loads pictures: a class per folder, or a table that names files, labels and groups.

Knows folders and the table; pictures are opened by ``pictures``. Nothing outside the folder is read:
a link that leaves it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dlaudit.audit.evidence import digest, file_digest, fingerprint
from dlaudit.audit.files import identity, named_file, named_folder, refusal
from dlaudit.audit.parts import Dataset
from dlaudit.audit.record import canonical
from dlaudit.errors import nearest

if TYPE_CHECKING:
    from dlaudit.datasets.table_reading import Column

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
TABLE = "metadata.csv"
GROUP = "group_"


class Listing(NamedTuple):
    """Files as they are named below the folder, with label, and groups by attribute."""

    files: list[str]
    labels: list[str]
    groups: dict[str, list[str]]


def load(
    *,
    root: Path,
    path: str,
    size: int | list[int] | None = None,
    channels: int | None = None,
    classes: list[str] | None = None,
    table: str | None = None,
    file: str = "file",
    label: str = "label",
    groups: list[str] | None = None,
) -> Dataset:
    """A folder of pictures as x (n, C, H, W) float32 in [0, 1].

    A class per folder, or a CSV table (by default metadata.csv in the folder) with the columns file
    and label, and groups or group_<name>. size: one number or [height, width] to which pictures are
    resized (bilinear); without it all must be of one size. channels: 1 or 3; by default 1 if every
    picture is grey. classes: names in order (default: sorted). Raises LoadError.
    """
    folder = named_folder(root, path, expected="a folder of pictures")
    listed = folder / TABLE if table is None else named_file(root, table, expected="a CSV table")
    tabled = table is not None or listed.is_file()
    if tabled:
        listing = _from_table(listed, file=file, label=label, groups=groups or [])
    elif groups:
        raise refusal(
            folder,
            "groups",
            expected=f"a table {TABLE} that has these columns",
            got="folders alone",
        )
    else:
        listing = _from_folders(folder)
    height_width = _checked_size(size)
    if channels not in {None, 1, 3}:
        raise refusal(None, "channels", expected="1 or 3", got=str(channels))
    names = tuple(classes) if classes else tuple(sorted(set(listing.labels)))
    if strange := sorted(set(listing.labels) - set(names)):
        raise refusal(
            listed if tabled else folder, "label", expected=f"one of the classes {', '.join(names)}",
            got=repr(strange[0]), hint=nearest(strange[0], names),
        )  # fmt: skip
    paths = [_inside(folder, written) for written in listing.files]

    from dlaudit.datasets.pictures import PictureDataset

    # One digest over (name below the folder, sha256 of the file): a moved folder is the same folder.
    content = fingerprint(
        (name, file_digest(one)) for name, one in zip(listing.files, paths, strict=True)
    )
    settings = {
        "size": height_width, "channels": channels, "classes": classes,
        "labels": digest(canonical([listing.labels, listing.groups])),
    }  # fmt: skip
    whole, facts = identity(
        {"table": listed} if tabled else {}, settings, digests={"pictures": content}
    )
    return PictureDataset(
        paths, listing.files, [names.index(one) for one in listing.labels], name=folder.name or path,
        classes=names, groups=listing.groups, size=height_width, channels=channels, fingerprint=whole,
        facts=facts,
    )  # fmt: skip


def _checked_size(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    pair = (size, size) if isinstance(size, int) else size
    if pair is None:
        return None
    if len(pair) != 2 or any(side < 1 for side in pair):
        raise refusal(
            None, "size", expected="a number of pixels, or [height, width]", got=str(size)
        )
    return (pair[0], pair[1])


def _from_folders(folder: Path) -> Listing:
    """Files and labels by folder, both in sorted order."""
    files: list[str] = []
    labels: list[str] = []
    kinds = sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    for kind in kinds:
        _inside(folder, kind.name)
        found = sorted(
            one for one in kind.rglob("*")
            if one.suffix.lower() in SUFFIXES and not one.name.startswith(".")
        )  # fmt: skip
        if not found:
            raise refusal(kind, expected=f"pictures ({', '.join(SUFFIXES)})", got="none")
        files += [one.relative_to(folder).as_posix() for one in found]
        labels += [kind.name] * len(found)
    if not files:
        raise refusal(
            folder, expected="a folder for each class, with pictures in it", got="no such folder",
            hint=f"Or a table {TABLE} with the columns file and label.",
        )  # fmt: skip
    return Listing(files, labels, {})


def _from_table(table: Path, *, file: str, label: str, groups: Sequence[str]) -> Listing:
    """Files, labels and groups by the table's rows."""
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
        raise refusal(
            table, f"column {file!r}", expected="each picture once", got=f"{twice!r} twice"
        )
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


def _inside(folder: Path, written: str) -> Path:
    """A path below the folder, links followed. Raises LoadError if it leaves the folder or is missing."""
    path = folder / written
    if not path.resolve().is_relative_to(folder.resolve()):
        raise refusal(
            folder, expected="files inside the folder", got=f"{written!r}, which leads out of it",
            hint="Copy what the link points to.",
        )  # fmt: skip
    if path.is_dir():
        return path
    return named_file(folder, written, expected="a picture")
