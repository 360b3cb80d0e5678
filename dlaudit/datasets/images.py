"""Loads pictures: a class per folder, or a table that names files, labels and groups.

Knows how pictures may be asked for; files are found by ``listing`` and opened by ``pictures``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlaudit.audit.files import refusal
from dlaudit.audit.parts import Dataset
from dlaudit.datasets.listing import listed

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


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
    height_width = _checked_size(size)
    if channels not in {None, 1, 3}:
        raise refusal(None, "channels", expected="1 or 3", got=str(channels))
    found = listed(
        root, path, what="pictures", suffixes=SUFFIXES, classes=classes, table=table, file=file,
        label=label, groups=groups, settings={"size": height_width, "channels": channels},
    )  # fmt: skip

    from dlaudit.datasets.pictures import PictureDataset

    return PictureDataset(
        found.paths, found.files, found.labels, name=found.folder.name or path, classes=found.classes,
        groups=found.groups, size=height_width, channels=channels, fingerprint=found.fingerprint,
        facts=found.facts,
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
