"""Loads inputs and labels from single arrays (.npy), which stay on disk.

Knows which file holds what; refuses objects, which are pickles.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dlaudit.audit.files import named_file, refusal
from dlaudit.audit.parts import Dataset
from dlaudit.datasets.selection import identified, selected
from dlaudit.models import airlock
from dlaudit.models.declared import checked_task

if TYPE_CHECKING:
    from dlaudit.datasets.streamed import StoredArray


def load(
    *,
    root: Path,
    path: str,
    labels: str,
    id: str | None = None,
    groups: dict[str, str] | None = None,
    mask: str | None = None,
    scale: float | str | None = None,
    channel_axis: int | None = None,
    tokens: bool = False,
    classes: list[str] | None = None,
    rows: str | None = None,
    task: str = "",
    void: int | None = 255,
) -> Dataset:
    """Inputs in one .npy, labels in another; of any size, because inputs are read batch by batch.

    id, mask: further files; groups: attribute -> file; task: ``multilabel`` or
    ``segmentation``. The rest is as for ``npz``. Raises LoadError, UntrustedModel for arrays of Python
    objects.
    """
    if task == "detection":
        raise refusal(
            None, "task", expected="multilabel or segmentation", got="'detection'",
            hint="An .npz holds boxes beside the pictures, a folder of images a file of boxes.",
        )  # fmt: skip
    named = {"x": path, "y": labels} | {
        key: written for key, written in (("id", id), ("mask", mask)) if written is not None
    }
    named |= {f"group_{name}": written for name, written in (groups or {}).items()}
    files = {
        key: named_file(root, written, expected="an array (.npy)") for key, written in named.items()
    }
    stored = {key: _stored(file) for key, file in files.items()}
    fields = {
        key: array if key == "x" else array.rows(slice(None)) for key, array in stored.items()
    }
    settings = {
        "scale": scale, "channel_axis": channel_axis, "tokens": tokens, "classes": classes,
    }  # fmt: skip
    settings |= {"task": task, "void": void} if task else {}
    fingerprint, facts = identified(files, settings, rows, root)

    from dlaudit.datasets.fields import dataset_of

    x = stored["x"]
    return dataset_of(
        fields, place=files["x"], name=files["x"].name, classes=classes or (), scale=scale,
        channel_axis=channel_axis, tokens=tokens, task=checked_task(task), void=void,
        rows=selected(rows, root, x.shape[0] if x.ndim else 0), fingerprint=fingerprint, facts=facts,
    )  # fmt: skip


def _stored(file: Path) -> StoredArray:
    """Where a file's numbers lie. Raises LoadError, UntrustedModel."""
    airlock.admit(file, accepts={"numpy array"}, expected="an array (numpy.save)")

    from dlaudit.datasets.streamed import StoredArray, header_of

    with file.open("rb") as opened:
        header = header_of(opened, file.stat().st_size, file)
    if header.fortran and len(header.shape) > 1:
        raise refusal(
            file, expected="an array stored row by row", got="one stored column by column",
            hint="numpy.save(file, numpy.ascontiguousarray(x)) stores it row by row.",
        )  # fmt: skip
    return StoredArray(file, header.start, header.shape, header.dtype)
