"""Reads the table of contents of a zip archive and says what is crooked about it.

Knows names, sizes and places of entries; never unpacks one to disk.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from dlaudit.audit.files import refusal
from dlaudit.errors import LoadError

SMALL = 1024**3
"""Bytes that any archive may unpack to."""

RATIO = 200
"""Beyond that, how many times its own size an archive may unpack to. Masks of zeros reach 1000:1,
but in archives far below the limit for small ones; numbers that are not constant stay below 20:1."""

LOCAL_HEADER = 30
DAMAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, OSError, ValueError,
    NotImplementedError, RuntimeError,
)  # fmt: skip
"""What zipfile raises for files that are cut off, sizes below zero, unknown methods and passwords."""

METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def archive(file: IO[bytes], place: object) -> zipfile.ZipFile:
    """The archive's table of contents. Raises LoadError if it is cut off or malformed."""
    try:
        return zipfile.ZipFile(file)
    except DAMAGE as error:
        raise damaged(place, error) from error


def damaged(place: object, error: Exception) -> LoadError:
    """The sentence about an archive that cannot be read."""
    detail = str(error).partition("\n")[0]
    return refusal(
        place, expected="a whole zip archive", got=f"one that is cut off or damaged ({detail})",
        hint="Was it copied or downloaded to its end?",
    )  # fmt: skip


@contextmanager
def opened(zipped: zipfile.ZipFile, name: str, place: object) -> Iterator[IO[bytes]]:
    """An entry's content, as a seekable stream. Raises LoadError where it is damaged."""
    try:
        with zipped.open(name) as inner:
            yield inner
    except DAMAGE as error:
        raise damaged(place, error) from error


def content_starts(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin in the archive. Raises LoadError if its header is damaged."""
    file = zipped.fp
    assert file is not None  # noqa: S101  (the archive is open)
    file.seek(entry.header_offset)
    header = file.read(LOCAL_HEADER)
    if len(header) < LOCAL_HEADER:
        raise damaged(entry.filename, EOFError("its header is cut off"))
    name, extra = struct.unpack("<HH", header[26:30])
    return entry.header_offset + LOCAL_HEADER + int(name) + int(extra)


def kind_of(names: list[str]) -> str:
    """What sort of archive holds entries of these names."""
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return "torch.export archive"
    if any(name.startswith("code/") for name in inner) and "data.pkl" in inner:
        return "TorchScript"
    if "data.pkl" in inner:
        return "torch weights"
    if "schema.json" in names:
        return "skops archive"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    if "config.json" in names and "model.weights.h5" in names:
        return "Keras archive"
    return "zip archive"


def objections(zipped: zipfile.ZipFile, size: int) -> Iterator[str]:
    """What an honest writer of models and arrays never writes. size: bytes of the archive itself."""
    entries = zipped.infolist()
    names = [entry.filename for entry in entries]
    for entry in entries:
        yield from _entry_objections(entry)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        yield f"holds two entries called {twice!r}"
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(SMALL, RATIO * size):
        yield f"would unpack {size} bytes to {unpacked} (a zip bomb)"
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if end == 0 and entry.header_offset > 0:
            yield "has something else in front of the archive"
        elif entry.header_offset < end:
            yield f"holds entries that overlap ({entry.filename!r})"
            break
        end = entry.header_offset + LOCAL_HEADER + len(entry.orig_filename) + entry.compress_size
    if zipped.comment:
        yield "has something behind the archive"


def _entry_objections(entry: zipfile.ZipInfo) -> Iterator[str]:
    name = entry.orig_filename
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0] or "\0" in name:
        yield f"holds an entry that leaves its folder ({name!r})"
    if stat.S_ISLNK(entry.external_attr >> 16):
        yield f"holds a link ({name!r})"
    if entry.flag_bits & 0x1:
        yield f"holds an encrypted entry ({name!r})"
    if entry.compress_type not in METHODS:
        yield f"holds an entry packed by an unusual method ({name!r})"
