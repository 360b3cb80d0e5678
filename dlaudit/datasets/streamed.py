"""A data set that is larger than memory: its inputs stay on disk and are read batch by batch.

Knows where an array lies in a file; never what it means. Nothing that was handed out is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from dlaudit.audit.files import refusal, said
from dlaudit.datasets.arrays import BATCH, ArrayDataset
from dlaudit.errors import UntrustedModel

AT_ONCE = 16 * 1024 * 1024
"""Bytes of inputs that are handed out together."""


class StoredArray(NamedTuple):
    """An array in a file. shape: (n, *input); offset: where its numbers begin."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Axes, samples included."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, chosen: slice | np.ndarray) -> np.ndarray:
        """Some samples, copied; the file is mapped only meanwhile, so that memory stays bounded."""
        mapped = np.memmap(self.path, self.dtype, mode="r", offset=self.offset, shape=self.shape)
        return np.array(mapped[chosen])


class Header(NamedTuple):
    """What stands before an array's numbers. start: bytes from the header's first."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def header_of(file: IO[bytes], size: int, place: object, field: str = "") -> Header:
    """The header of a .npy, which begins where ``file`` stands and is ``size`` bytes long in all.

    Raises LoadError unless it is numpy's and fits that length, UntrustedModel for objects.
    """
    begin = file.tell()
    try:
        version = np.lib.format.read_magic(file)
        readers: dict[Any, Any] = {
            (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0,
        }  # fmt: skip
        shape, fortran, dtype = readers[version](file)
    except (ValueError, KeyError) as error:
        raise refusal(
            place, field, expected="an array as numpy stores it", got=said(error)
        ) from error
    where = ": ".join(str(part) for part in (place, field) if part)
    if dtype.hasobject:
        message = (
            f"{where}: expected numbers or text, got Python objects (a pickle, which would run code). It "
            "was not loaded. Save numbers, or text of a fixed length: array.astype(str)."
        )
        raise UntrustedModel(message)
    start = file.tell() - begin
    expected = start + math.prod(shape) * dtype.itemsize
    if expected != size:
        raise refusal(
            place, field, expected=f"{expected} bytes for shape {tuple(shape)} of {dtype}",
            got=str(size), hint="Was the file copied to its end?",
        )  # fmt: skip
    return Header(start, tuple(shape), dtype, fortran)


class StreamedDataset(ArrayDataset):
    """One split whose inputs are read when they are asked for; the rest lies in memory."""

    def __init__(
        self,
        read: Callable[[int, int], np.ndarray],
        shape: tuple[int, ...],
        y: np.ndarray,
        *,
        dtype: str = "float32",
        **described: Any,
    ) -> None:
        """read: (start, stop) -> inputs (stop - start, *shape). described: as of ``ArrayDataset``."""
        # An array of one number stands for the inputs wherever only their shape is asked for.
        super().__init__(np.broadcast_to(np.zeros((), dtype), (len(y), *shape)), y, **described)
        self._read = read
        each = max(1, math.prod(shape) * np.dtype(dtype).itemsize)
        self.batch = max(1, min(BATCH, AT_ONCE // each))

    def inputs(self, part: slice) -> np.ndarray:
        """See ``ArrayDataset.inputs``."""
        return self._read(part.start, part.stop)
