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
    masks: str | None = None,
    boxes: str | None = None,
    void: int | None = 255,
) -> Dataset:
    """A folder of pictures as x (n, C, H, W) float32 in [0, 1].

    A class per folder, or a CSV table (by default metadata.csv in the folder) with the columns file
    and label, and groups or group_<name>. size: one number or [height, width] to which pictures are
    resized (bilinear); without it all must be of one size. channels: 1 or 3; by default 1 if every
    picture is grey. classes: names in order (default: sorted).

    masks (segmentation): a folder with a picture of class indices for each, of the same name; void: the
    number of pixels that do not count. boxes (detection): a file of JSON Lines with file, boxes (x0, y0,
    x1, y1 in pixels of the file), labels, and optionally crowd. Raises LoadError.
    """
    height_width = _checked_size(size)
    if channels not in {None, 1, 3}:
        raise refusal(None, "channels", expected="1 or 3", got=str(channels))
    if masks is not None or boxes is not None:
        if masks is not None and boxes is not None:
            raise refusal(None, "masks", expected="masks or boxes", got="both")
        if table is not None or groups:
            raise refusal(
                None,
                "table",
                expected="pictures with masks or boxes",
                got="a table or groups as well",
            )

        from dlaudit.datasets.annotated import load_annotated

        return load_annotated(
            root, path, masks=masks, boxes=boxes, void=void, suffixes=SUFFIXES, size=height_width,
            channels=channels, classes=tuple(classes or ()),
        )  # fmt: skip
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
