"""Loads arrays from an .npz archive, as they are stored.

Knows the archive and its headers; refuses objects, which are pickles, and archives that unpack to
more than they should.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dlaudit.audit.files import identity, named_file, refusal, said
from dlaudit.audit.parts import Dataset
from dlaudit.datasets.selection import index_file, selected
from dlaudit.errors import UntrustedModel, nearest
from dlaudit.models import airlock, zip_reading

if TYPE_CHECKING:
    import zipfile

    import numpy as np


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
) -> Dataset:
    """Arrays x and y, and optionally id, group_<name> and mask, from an .npz archive.

    x is cast to float32 and never rescaled unless scale says so (a factor, such as ``"1/255"``);
    pictures (n, H, W) get no axis of channels unless channel_axis says where channels stand or shall
    stand; tokens: x holds token ids and stays whole. x, y, id: the names of these arrays. rows:
    ``"a:b"`` or a file of positions. mask: 1 where the object is. Raises LoadError naming the field.
    """
    file = named_file(root, path, expected="an .npz archive")
    names = {"x": x, "y": y, "id": id}
    fields = _read(file, names)
    files = {"data": file}
    if index := index_file(rows, root):
        files["rows"] = index
    settings = {
        "scale": scale, "channel_axis": channel_axis, "tokens": tokens, "classes": classes,
        "rows": None if index else rows,
        "names": {key: name for key, name in names.items() if name != key},
    }  # fmt: skip
    fingerprint, facts = identity(files, settings)

    from dlaudit.datasets.fields import dataset_of

    return dataset_of(
        fields, place=file, name=file.name, classes=classes or (), scale=scale,
        channel_axis=channel_axis, tokens=tokens,
        rows=selected(rows, root, len(fields["x"]) if getattr(fields.get("x"), "ndim", 0) else 0),
        fingerprint=fingerprint, facts=facts,
    )  # fmt: skip


def _read(file: Path, names: dict[str, str]) -> dict[str, np.ndarray]:
    """The arrays that the data set has a use for. Raises LoadError, UntrustedModel for pickles."""
    airlock.admit(file, accepts={"npz"}, expected="an .npz archive (numpy.savez)")
    fields: dict[str, np.ndarray] = {}
    with file.open("rb") as opened:
        zipped = zip_reading.archive(opened, file)
        stored = [name.removesuffix(".npy") for name in zipped.namelist()]
        for key, name in names.items():
            if name in stored:
                fields[key] = _array(zipped, name, file)
            elif key != "id" or name != "id":
                raise refusal(
                    file, f"field {name!r}", expected="an array of this name",
                    got=f"only {', '.join(stored)}", hint=nearest(name, stored),
                )  # fmt: skip
        for name in stored:
            if name == "mask" or name.startswith("group_"):
                fields[name] = _array(zipped, name, file)
    return fields


def _array(zipped: zipfile.ZipFile, name: str, file: Path) -> np.ndarray:
    import numpy as np

    place = f"{file}: field {name!r}"
    with zip_reading.opened(zipped, f"{name}.npy", place) as inner:
        _check_header(inner, zipped.getinfo(f"{name}.npy").file_size, file, name)
        inner.seek(0)
        try:
            return np.lib.format.read_array(inner, allow_pickle=False)
        except (ValueError, MemoryError, EOFError) as error:
            raise refusal(
                file, f"field {name!r}", expected="a whole array", got=said(error)
            ) from error


def _check_header(inner: IO[bytes], size: int, file: Path, name: str) -> None:
    """Raise unless the header is numpy's, holds no objects, and fits the number of bytes behind it."""
    import numpy as np

    try:
        version = np.lib.format.read_magic(inner)
        readers: dict[Any, Any] = {
            (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0,
        }  # fmt: skip
        shape, _, dtype = readers[version](inner)
    except (ValueError, KeyError) as error:
        raise refusal(
            file, f"field {name!r}", expected="an array as numpy stores it", got=said(error)
        ) from error
    if dtype.hasobject:
        message = (
            f"{file}: field {name!r}: expected numbers or text, got Python objects (a pickle, which would "
            "run code). It was not loaded. Save numbers, or text of a fixed length: array.astype(str)."
        )
        raise UntrustedModel(message)
    expected = inner.tell() + math.prod(shape) * dtype.itemsize
    if expected != size:
        raise refusal(
            file, f"field {name!r}", expected=f"{expected} bytes for shape {tuple(shape)} of {dtype}",
            got=str(size), hint="Was the file copied to its end?",
        )  # fmt: skip
