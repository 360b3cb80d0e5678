"""Loads arrays from an .npz archive, as they are stored.

Knows the archive and its headers; refuses objects, which are pickles, and archives that unpack to
more than they should.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaudit.audit.files import named_file, refusal, said
from dlaudit.audit.parts import Dataset
from dlaudit.datasets.selection import identified, selected
from dlaudit.errors import nearest
from dlaudit.models import airlock, zip_reading
from dlaudit.models.declared import checked_task

if TYPE_CHECKING:
    import zipfile

    import numpy as np

    from dlaudit.datasets.streamed import StoredArray

HELD = 256 * 1024 * 1024
"""Bytes of x that are held in memory; what is larger is read batch by batch, unless it is packed."""


def load(
    *,
    root: Path,
    path: str,
    scale: float | str | None = None,
    channel_axis: int | None = None,
    tokens: bool = False,
    classes: list[str] | None = None,
    rows: str | None = None,
    x: str = "x",
    y: str = "y",
    id: str = "id",
    task: str = "",
    void: int | None = 255,
) -> Dataset:
    """Arrays x and y, and optionally id, group_<name> and mask, from an .npz archive.

    x is cast to float32 and never rescaled unless scale says so (a factor, such as ``"1/255"``);
    pictures (n, H, W) get no axis of channels unless channel_axis says where channels stand or shall
    stand; tokens: x holds token ids and stays whole. x, y, id: the names of these arrays. rows:
    ``"a:b"`` or a file of positions. mask: 1 where the object is. task: ``multilabel``
    (y (n, L) of 0 and 1), ``segmentation`` (y (n, H, W) of class indices; void: the number of pixels that
    do not count) or ``detection`` (box (N, 4) of corners x0, y0, x1, y1 in pixels, box_label, box_row: the
    position of its picture in x, and optionally box_crowd). A large x that is not packed
    (numpy.savez) stays on disk. Raises LoadError naming the field.
    """
    file = named_file(root, path, expected="an .npz archive")
    names = {"x": x, "y": y, "id": id}

    fields = _read(file, names, checked_task(task))
    settings = {
        "scale": scale, "channel_axis": channel_axis, "tokens": tokens, "classes": classes,
        **({"task": task, "void": void} if task else {}),
        "names": {key: name for key, name in names.items() if name != key},
    }  # fmt: skip
    fingerprint, facts = identified({"data": file}, settings, rows, root)

    from dlaudit.datasets.fields import dataset_of

    return dataset_of(
        fields, place=file, name=file.name, classes=classes or (), scale=scale,
        channel_axis=channel_axis, tokens=tokens, task=task, void=void,
        rows=selected(rows, root, fields["x"].shape[0] if getattr(fields.get("x"), "ndim", 0) else 0),
        fingerprint=fingerprint, facts=facts,
    )  # fmt: skip


def _read(file: Path, names: dict[str, str], task: str) -> dict[str, Any]:
    """The arrays that the data set has a use for. Raises LoadError, UntrustedModel for pickles."""
    airlock.admit(file, accepts={"npz"}, expected="an .npz archive (numpy.savez)")
    fields: dict[str, Any] = {}
    with file.open("rb") as opened:
        zipped = zip_reading.archive(opened, file)
        stored = [name.removesuffix(".npy") for name in zipped.namelist()]
        for key, name in names.items():
            if name in stored:
                fields[key] = _array(zipped, name, file, keep_on_disk=key == "x")
            elif (key, name) != ("id", "id") and (key, task) != ("y", "detection"):
                raise refusal(
                    file, f"field {name!r}", expected="an array of this name",
                    got=f"only {', '.join(stored)}", hint=nearest(name, stored),
                )  # fmt: skip
        for name in stored:
            if name == "mask" or name.startswith(("group_", "box") if task else "group_"):
                fields[name] = _array(zipped, name, file)
    return fields


def _array(
    zipped: zipfile.ZipFile, name: str, file: Path, *, keep_on_disk: bool = False
) -> np.ndarray | StoredArray:
    """An array; x stays on disk if it is large and lies there as it is."""
    import numpy as np

    from dlaudit.datasets.streamed import StoredArray, header_of

    entry = zipped.getinfo(f"{name}.npy")
    place = f"{file}: field {name!r}"
    with zip_reading.opened(zipped, f"{name}.npy", place) as inner:
        header = header_of(inner, entry.file_size, file, f"field {name!r}")
        if (
            keep_on_disk
            and entry.compress_type == 0
            and entry.file_size > HELD
            and not header.fortran
        ):
            start = zip_reading.content_starts(zipped, entry) + header.start
            return StoredArray(file, start, header.shape, header.dtype)
        inner.seek(0)
        try:
            return np.lib.format.read_array(inner, allow_pickle=False)
        except (ValueError, MemoryError, EOFError) as error:
            raise refusal(
                file, f"field {name!r}", expected="a whole array", got=said(error)
            ) from error
