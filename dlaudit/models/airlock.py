"""Tells what a file is, and whether reading it would run code, by looking only: nothing is loaded.

Knows the outside of the formats: first bytes, tables of contents of archives, the opcodes of
pickles. Refuses to know what a model computes. A strict allow-list decides: whatever is not known to
be data is named and refused, unless the file's sha256 was allowed by whoever wrote the plan.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, NamedTuple

from dlaudit.audit.evidence import file_digest
from dlaudit.audit.files import refusal, unreadable
from dlaudit.errors import LoadError, UntrustedModel
from dlaudit.models import export_reading, keras_reading, pickle_reading, zip_reading

READ_BY = {
    "safetensors": "torch",
    "torch weights": "torch",
    "torch weights of the old form": "torch",
    "TorchScript": "torchscript",
    "torch.export archive": "torch_export",
    "skops archive": "sklearn",
    "CatBoost model": "catboost",
}
"""Kind of file -> the loader that reads it."""

NUMPY = b"\x93NUMPY"
MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "HDF5 (Keras)"),
    (NUMPY, "numpy array"),
    (b"PAR1", "Parquet table"),
    (b"CBM1", "CatBoost model"),
    (b"\x1f\x8b\x08", "gzip archive"),
    (b"BZh", "bzip2 archive"),
    (b"\xfd7zXZ\x00", "xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"\x28\xb5\x2f\xfd", "zstd archive"),
    (b"x\x9c", "zlib archive"),
    (b"x\xda", "zlib archive"),
    (b"\x04\x22\x4d\x18", "lz4 archive"),
    (b"\x89PNG", "PNG picture"),
    (b"\xff\xd8\xff", "JPEG picture"),
    (b"\x7fELF", "program"),
    (b"%PDF", "PDF"),
)
ZIP = b"PK\x03\x04"
HEADER_OF_ARRAY = 64 * 1024
"""Bytes in which numpy's own readers expect the header of an array to end."""

HEADER_LIMIT = 100 * 1024 * 1024
"""Bytes of a safetensors header, as the format's own readers limit it."""


class Reading(NamedTuple):
    """What looking at a file told. objections: what is not known to be mere data, one phrase each."""

    kind: str
    objections: tuple[str, ...] = ()
    allowed: bool = False


def kind_of(path: Path) -> str:
    """What sort of file this is, by its content; ``unknown`` if nothing fits.

    Raises LoadError if it cannot be read, or begins as an archive that is cut off.
    """
    try:
        with path.open("rb") as file:
            return _kind(file, path)
    except OSError as error:
        raise refusal(path, expected="a model file", got=unreadable(error)) from error


def examine(path: Path) -> Reading:
    """Look through the whole file. Raises LoadError if it is cut off or malformed."""
    try:
        with path.open("rb") as file:
            return _examined(file, path, depth=0)
    except OSError as error:
        raise refusal(path, expected="a model file", got=unreadable(error)) from error


def admit(
    path: Path, *, accepts: Collection[str], expected: str, allow: Collection[str] = ()
) -> Reading:
    """Let a file pass, or refuse it by name.

    accepts: kinds; expected: the same in words; allow: sha256 of files that may run code, because
    whoever wrote the plan answers for them. Raises UntrustedModel, or LoadError for another kind.
    """
    reading = examine(path)
    if reading.objections:
        sha256 = file_digest(path)
        if sha256 not in {digest.lower() for digest in allow}:
            raise UntrustedModel(_objection(path, reading, sha256))
        reading = reading._replace(allowed=True)
    if reading.kind not in accepts:
        loader = READ_BY.get(reading.kind)
        hint = f'use = "{loader}" reads it.' if loader else ""
        raise refusal(path, expected=expected, got=f"a file of the kind: {reading.kind}", hint=hint)
    return reading


def verdict(reading: Reading, *, confined: str = "") -> str:
    """What a report says of a file that was let in. confined: how its code was kept in, if it was."""
    if reading.allowed:
        how = confined or "it was read in the audit's own process: NOT enforced: any limit"
        return f"{reading.kind}, allowed by its sha256 although it {'; '.join(reading.objections)}; {how}"
    return f"{reading.kind}, read as data"


def _objection(path: Path, reading: Reading, sha256: str) -> str:
    shown = "; ".join(reading.objections[:3])
    more = len(reading.objections) - 3
    return (
        f"{path}: expected data only, got {reading.kind} that {shown}"
        + (f"; and {more} more" if more > 0 else "")
        + ". It was not loaded. Save weights as .safetensors or a plain state dict, or, if you "
        + f'answer for this very file, add allow = ["{sha256}"].'
    )


def _kind(file: IO[bytes], path: Path | str) -> str:
    first = file.read(16)
    if first.startswith(ZIP):
        return zip_reading.kind_of(zip_reading.archive(file, path).namelist())
    for magic, kind in MAGIC:
        if first.startswith(magic):
            return kind
    if _header_length(first) is not None:
        return "safetensors"
    file.seek(0)
    return pickle_reading.kind_of(file)


def _examined(file: IO[bytes], path: Path | str, *, depth: int) -> Reading:
    kind = _kind(file, path)
    if kind == "safetensors":
        _check_header(file, path)
        return Reading(kind)
    if kind == "torch weights of the old form":
        return Reading(kind, pickle_reading.objections(file, path, pickles=pickle_reading.OLD_FORM))
    if kind == "pickle":
        return Reading(kind, pickle_reading.objections(file, path))
    if kind == "HDF5 (Keras)" and isinstance(path, Path) and keras_reading.code_in_hdf5(path):
        return Reading(kind, ("holds a Lambda layer, which is Python code",))
    if kind == "numpy array":
        return Reading(kind, _objects(file))
    file.seek(0)
    if file.read(4) != ZIP:
        return Reading(kind)
    zipped = zip_reading.archive(file, path)
    found = list(zip_reading.objections(zipped, file.seek(0, 2)))
    if not found:  # what a crooked archive holds is not looked into
        for name in zipped.namelist():
            found += _inside(zipped, kind, name, path, depth=depth)
    return Reading(kind, tuple(found))


def _inside(
    zipped: zipfile.ZipFile, kind: str, name: str, path: Path | str, *, depth: int
) -> list[str]:
    """What one entry of an archive would do when the archive is loaded."""
    place = f"{path}!{name}"
    with zip_reading.opened(zipped, name, path) as inner:
        first = inner.read(16)
        inner.seek(0)
        if first.startswith(ZIP) or any(
            first.startswith(magic) for magic, what in MAGIC if what.endswith("archive")
        ):
            return _nested(inner, kind, name, place, depth=depth)
        if pickle_reading.is_pickle_name(name):
            script = kind == "TorchScript"
            return [
                f"{objection} in {name}"
                for objection in pickle_reading.objections(inner, place, script=script)
            ]
        if kind == "TorchScript" and name.endswith(".py"):
            return list(export_reading.script_objections(inner, name))
        if kind == "torch.export archive":
            return list(export_reading.objections(inner, name, place))
        if kind == "Keras archive" and name == "config.json":
            return list(keras_reading.objections(inner))
        return []


def _objects(file: IO[bytes]) -> tuple[str, ...]:
    """What a numpy array holds besides numbers and text: objects are a pickle behind its header."""
    file.seek(0)
    header = file.read(HEADER_OF_ARRAY)
    described = header[10 if header[6:7] == b"\x01" else 12 :].partition(b"\n")[0]
    if b"'|O'" not in described and b"'O'" not in described:
        return ()
    start = header.find(b"\n") + 1
    if not start:
        return ("holds Python objects, which are a pickle",)
    file.seek(start)
    inside: tuple[str, ...] = ()
    with contextlib.suppress(LoadError):
        inside = pickle_reading.objections(io.BytesIO(file.read(pickle_reading.LIMIT)), "")
    return ("holds Python objects, which are a pickle", *inside)


def _nested(inner: IO[bytes], kind: str, name: str, place: str, *, depth: int) -> list[str]:
    """An archive inside an archive: only those that the format itself writes, and only one deep."""
    if depth == 0 and kind in {"torch.export archive", "skops archive"}:
        reading = _examined(inner, place, depth=1)
        if reading.kind == {"torch.export archive": "torch weights"}.get(kind, "npz"):
            return list(reading.objections)
    return [f"holds an archive within the archive ({name})"]


def _header_length(first: bytes) -> int | None:
    """The length of a safetensors header, if the file begins with one."""
    if len(first) < 9 or first[8:9] != b"{":
        return None
    (length,) = struct.unpack("<Q", first[:8])
    return int(length)


def _check_header(file: IO[bytes], path: Path | str) -> None:
    """Raise LoadError unless the header is whole, of reasonable length, and JSON."""
    size = file.seek(0, 2)
    file.seek(0)
    length = _header_length(file.read(16)) or 0
    if length > HEADER_LIMIT or length + 8 > size:
        raise refusal(
            path, "header", expected=f"at most {min(size - 8, HEADER_LIMIT)} bytes",
            got=f"a header that says it has {length}", hint="Is the file whole?",
        )  # fmt: skip
    file.seek(8)
    try:
        header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise refusal(
            path, "header", expected="JSON that lists tensors", got="something else"
        ) from error
    end = max([end for end in ends if isinstance(end, int)], default=0)
    if 8 + length + end > size:
        raise refusal(
            path, expected=f"{8 + length + end} bytes, as its header says", got=str(size),
            hint="Is the file whole?",
        )  # fmt: skip
