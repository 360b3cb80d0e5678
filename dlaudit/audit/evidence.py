"""Where evidence lies: files named by their content, written whole or not at all.

Knows bytes and digests; never what they mean.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dlaudit.audit.record import Artifact, Card, canonical
from dlaudit.errors import nearest

if TYPE_CHECKING:
    import numpy as np

EXTENSIONS = {
    "application/vnd.numpy.npz": "npz",
    "application/json": "json",
    "image/png": "png",
    "image/svg+xml": "svg",
    "text/csv": "csv",
    "text/plain": "txt",
}
UNFINISHED = ".writing-"
"""How the name of a file begins that is not whole yet."""
TABLE = "application/vnd.numpy.npz"


def digest(content: bytes) -> str:
    """sha256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(parts: Iterable[tuple[str, str]]) -> str:
    """The identity of a model or data set: sha256 over its (role, sha256 of file) pairs, sorted."""
    return digest(canonical(sorted(parts)))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees all of it or nothing."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101  (mkstemp gives a name, not a Path)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def table_bytes(columns: Mapping[str, np.ndarray]) -> bytes:
    """Columns as a compressed ``.npz``; the same columns always give the same bytes."""
    import numpy as np

    for name, column in columns.items():
        if np.asarray(column).dtype == object:
            message = (
                f"evidence column {name!r} holds objects; numbers, booleans or text are stored"
            )
            raise TypeError(message)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **dict(columns))
    return buffer.getvalue()


class EvidenceStore:
    """The ``evidence`` folder of a run."""

    def __init__(self, run_folder: Path) -> None:
        """run_folder: the folder of the run; ``evidence`` is made inside at first use."""
        self.folder = run_folder / "evidence"

    def keep(
        self, name: str, content: bytes, *, media_type: str, caption: str = "", alt: str = ""
    ) -> Artifact:
        """Store bytes under their digest. Storing the same content twice writes it once.

        Raises ValueError for a media type that the evidence folder has no file ending for.
        """
        if media_type not in EXTENSIONS:
            message = f"evidence {name!r}: no evidence is of type {media_type!r}. " + nearest(
                media_type, EXTENSIONS
            )
            raise ValueError(message)
        sha256 = digest(content)
        file = f"{sha256}.{EXTENSIONS[media_type]}"
        path = self.folder / file
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        return Artifact(
            name=name, media_type=media_type, sha256=sha256, path=f"evidence/{file}",
            caption=caption, alt=alt,
        )  # fmt: skip

    def keep_table(
        self, name: str, columns: Mapping[str, np.ndarray], *, caption: str = ""
    ) -> Artifact:
        """Store per-sample outcomes, one row per sample, as an ``.npz``."""
        return self.keep(name, table_bytes(columns), media_type=TABLE, caption=caption)


def subset_card(card: Card, split: str, kept: int, seed: int) -> Card:
    """The card of a seeded subset: another fingerprint, because other samples stand behind it."""
    parts = [("whole", card.fingerprint), ("subset", f"{split}:{kept}:{seed}")]
    facts = {**card.facts, "subset": kept, "subset_seed": seed}
    return Card(name=card.name, fingerprint=fingerprint(parts), facts=facts, splits=card.splits)
