"""Pictures on disk as samples: opened, checked, and decoded when they are needed.

Knows pillow; never where labels come from. Small sets are held as bytes, larger ones decoded anew for
every pass, so that memory stays bounded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from dlaudit.audit.files import refusal, said
from dlaudit.audit.parts import Batch, Dataset
from dlaudit.datasets.arrays import ArrayDataset
from dlaudit.datasets.truths import Truth
from dlaudit.errors import LoadError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Decoders that pillow may use; others (EPS) start programs."""

GREY = {"1", "L", "LA", "I;16", "I;16B", "I", "F"}
SIXTEEN = 65535
HELD = 512 * 1024 * 1024
"""Bytes of decoded pictures that are kept in memory."""

BATCH = 256


class PictureDataset(Dataset):
    """One split, ``test``, of pictures (C, H, W) float32 in [0, 1]; ids are file names."""

    def __init__(
        self,
        paths: Sequence[Path],
        ids: Sequence[str],
        labels: Sequence[int],
        *,
        name: str,
        classes: tuple[str, ...],
        groups: dict[str, list[str]],
        size: tuple[int, int] | None = None,
        channels: int | None = None,
        truth: Truth | None = None,
        fingerprint: str = "",
        facts: dict[str, Any] | None = None,
        held: int = HELD,
    ) -> None:
        """size: (height, width). Every picture is decoded once. Raises LoadError naming the first bad one."""
        self._paths = list(paths)
        self._channels = channels or (1 if all(mode in GREY for mode in map(_mode, paths)) else 3)
        self._size = size
        first = self._decoded(0)
        self._shape = first.shape
        keep = len(paths) * first.size <= held
        self._held = np.empty((len(paths) if keep else 0, *first.shape), dtype=np.uint8)
        for row in range(len(paths)):
            picture = self._decoded(row)
            if picture.shape != self._shape:
                raise refusal(
                    paths[row], expected=f"{_sides(self._shape)}, the size of {ids[0]}",
                    got=_sides(picture.shape), hint="size = [height, width] resizes all.",
                )  # fmt: skip
            if keep:
                self._held[row] = picture
        # Everything but x is small: an array data set checks and describes it.
        self._rest = ArrayDataset(
            np.broadcast_to(np.float32(0), (len(paths), *self._shape)), np.asarray(labels), name=name,
            classes=classes, id=np.asarray(ids), groups={k: np.asarray(v) for k, v in groups.items()},
            kind="images", truth=truth, fingerprint=fingerprint, facts=facts,
        )  # fmt: skip
        self.card, self.classes, self.offers = (
            self._rest.card,
            self._rest.classes,
            self._rest.offers,
        )

    def batches(self, split: str = "test") -> Iterator[Batch]:
        """See ``Dataset.batches``; the only split is ``test``."""
        row = 0
        for rest in self._rest.batches(split):
            for start in range(0, len(rest.y), BATCH):
                part = slice(start, min(start + BATCH, len(rest.y)))
                stop = row + part.stop - part.start
                yield Batch(
                    self._pictures(row, stop), rest.y[part], rest.id[part],
                    {name: column[part] for name, column in rest.groups.items()},
                    truth=None if rest.truth is None else rest.truth[part],
                )  # fmt: skip
                row = stop

    def size(self, split: str = "test") -> int:
        """See ``Dataset.size``."""
        return self._rest.size(split)

    def _pictures(self, start: int, stop: int) -> np.ndarray:
        held = self._held[start:stop]
        stacked = (
            held if len(held) else np.stack([self._decoded(row) for row in range(start, stop)])
        )
        return stacked.astype(np.float32) / np.float32(255)

    def _decoded(self, row: int) -> np.ndarray:
        """(C, H, W) uint8."""
        path = self._paths[row]
        with _opened(path) as picture:
            try:
                whole = _eight_bits(picture).convert("L" if self._channels == 1 else "RGB")
                if self._size is not None and (whole.height, whole.width) != self._size:
                    height, width = self._size
                    whole = whole.resize((width, height), Image.Resampling.BILINEAR)
            except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
                raise _damaged(path, error) from error
        array = np.asarray(whole)
        return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)


def _opened(path: Path) -> Image.Image:
    """A picture whose header was read. Raises LoadError; so do sizes that no camera makes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(path, formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = Image.MAX_IMAGE_PIXELS
        raise refusal(path, expected=f"a picture of at most {limit} pixels", got="more") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise _damaged(path, error) from error


def sides(path: Path) -> tuple[int, int]:
    """(height, width) as the file's header has them. Raises LoadError."""
    with _opened(path) as picture:
        return picture.height, picture.width


def label_map(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """(H, W) int32: the numbers of a picture of one channel, or of a palette, as they are stored.

    size: (height, width) it is brought to, each pixel taking its nearest. Raises LoadError.
    """
    with _opened(path) as picture:
        if picture.mode not in {"1", "L", "P", "I", "I;16", "I;16B"}:
            raise refusal(
                path, expected="one number per pixel, its class: a grey picture or a palette",
                got=f"a picture of type {picture.mode}", hint="Colours are no class indices.",
            )  # fmt: skip
        try:
            if size is not None and (picture.height, picture.width) != size:
                picture = picture.resize(size[::-1], Image.Resampling.NEAREST)  # noqa: PLW2901
            return np.asarray(picture).astype(np.int32)
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> LoadError:
    return refusal(
        path, expected=f"a whole picture ({', '.join(FORMATS)})", got=said(error),
        hint="Was the file copied to its end?",
    )  # fmt: skip


def _mode(path: Path) -> str:
    with _opened(path) as picture:
        return picture.mode


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Sixteen bits become eight. Raises ValueError for depths whose white is not known."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture, dtype=np.float64)
    if picture.mode == "F" or values.max() > SIXTEEN or values.min() < 0:
        message = f"a picture of type {picture.mode}, neither 8 nor 16 bits deep"
        raise ValueError(message)
    return Image.fromarray((values / 257).round().astype(np.uint8))


def _sides(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[2]} pixels"
