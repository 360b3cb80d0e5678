"""Loads sounds: WAV files in a class per folder, or named by a table.

Knows uncompressed WAV; never what is heard. Sounds are not resampled: that belongs to the model.
"""

from __future__ import annotations

import wave
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dlaudit.audit.files import refusal, said
from dlaudit.audit.parts import Dataset
from dlaudit.datasets.listing import listed

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".wav", ".wave")


class Sound(NamedTuple):
    """What a file's header says. width: bytes per value."""

    rate: int
    channels: int
    width: int
    length: int


def load(
    *,
    root: Path,
    path: str,
    length: int | None = None,
    rate: int | None = None,
    classes: list[str] | None = None,
    table: str | None = None,
    file: str = "file",
    label: str = "label",
    groups: list[str] | None = None,
) -> Dataset:
    """A folder of WAV files as x (n, channels, length) float32 in [-1, 1], read batch by batch.

    A class per folder, or a CSV table as for ``images``. length: values per channel, to which sounds
    are cut at their end or filled with silence; without it all must be of one length. rate: values per
    second that every file must have; without it that of the first. Raises LoadError.
    """
    for name, given in (("length", length), ("rate", rate)):
        if given is not None and given < 1:
            raise refusal(None, name, expected="a whole number of at least 1", got=str(given))
    found = listed(
        root, path, what="sounds", suffixes=SUFFIXES, classes=classes, table=table, file=file,
        label=label, groups=groups, settings={"length": length, "rate": rate},
    )  # fmt: skip
    first = header_of(found.paths[0])
    wanted = length or first.length
    for one in found.paths:
        sound = header_of(one)
        _alike(one, f"{rate or first.rate} values per second", rate or first.rate, sound.rate)
        _alike(
            one,
            f"{first.channels} channels, as the first sound has",
            first.channels,
            sound.channels,
        )
        if length is None and sound.length != first.length:
            raise refusal(
                one, expected=f"{first.length} values, as the first sound has", got=str(sound.length),
                hint="length = … cuts all, or fills them with silence.",
            )  # fmt: skip

    import numpy as np

    from dlaudit.datasets.streamed import StreamedDataset

    def read(start: int, stop: int) -> np.ndarray:
        return np.stack([values_of(one, wanted) for one in found.paths[start:stop]])

    return StreamedDataset(
        read, (first.channels, wanted), np.asarray(found.labels), name=found.folder.name or path,
        classes=found.classes, id=np.asarray(found.files), kind="audio", fingerprint=found.fingerprint,
        groups={key: np.asarray(column) for key, column in found.groups.items()},
        facts={**found.facts, "rate": first.rate},
    )  # fmt: skip


def _alike(path: Path, expected: str, first: int, given: int) -> None:
    if given != first:
        raise refusal(path, expected=expected, got=str(given))


def header_of(path: Path) -> Sound:
    """What a file's header says. Raises LoadError unless it is whole and uncompressed."""
    try:
        with wave.open(str(path), "rb") as sound:
            found = Sound(
                sound.getframerate(), sound.getnchannels(), sound.getsampwidth(), sound.getnframes()
            )
            sound.setpos(max(0, found.length - 1))
            whole = len(sound.readframes(1)) == found.width * found.channels
    except (wave.Error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise refusal(
            path,
            expected="uncompressed WAV (PCM)",
            got=said(error),
            hint="Was it copied to its end?",
        ) from error
    if found.width not in {1, 2, 3, 4} or not found.length or not found.rate or not found.channels:
        raise refusal(
            path,
            expected="sound of 8 to 32 bits",
            got=f"{found.length} values of {found.width} bytes",
        )
    if not whole:
        raise refusal(
            path, expected=f"{found.length} values, as its header says", got="fewer",
            hint="Was it copied to its end?",
        )  # fmt: skip
    return found


def values_of(path: Path, length: int) -> np.ndarray:
    """(channels, length) float32: whole numbers over half their range; eight bits count from 128."""
    import numpy as np

    sound = header_of(path)
    with wave.open(str(path), "rb") as opened:
        content = opened.readframes(min(length, sound.length))
    raw = np.frombuffer(content, dtype=np.uint8)
    raw = raw[: len(raw) - len(raw) % (sound.width * sound.channels)].reshape(-1, sound.width)
    if sound.width == 1:
        numbers = raw[:, 0].astype(np.float64) - 128
    else:  # little-endian, the highest byte with the sign
        weights = 256.0 ** np.arange(sound.width)
        numbers = raw.astype(np.float64) @ weights
        numbers -= (raw[:, -1] >= 128) * 256.0**sound.width
    values = (numbers / 256.0**sound.width * 2).astype(np.float32).reshape(-1, sound.channels).T
    whole = np.zeros((sound.channels, length), dtype=np.float32)
    whole[:, : values.shape[1]] = values
    return whole
