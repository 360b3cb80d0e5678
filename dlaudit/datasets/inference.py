"""Tells which loader reads a data set, by its name and its first bytes.

Knows suffixes and first bytes; loads and imports nothing.
"""

from __future__ import annotations

from pathlib import Path

from dlaudit.audit.files import named_path, refusal, unreadable

ACCEPTED = (
    "a .npz, .csv, .parquet, .arrow or .jsonl, a folder of images or of .wav files, or f.py:factory"
)
SUFFIXES = {
    ".npz": "npz", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow",
    ".feather": "arrow", ".jsonl": "jsonl",
}  # fmt: skip


def infer(path: Path) -> str:
    """The name of the loader for a data set. Raises LoadError naming what is accepted."""
    file, colon, _ = str(path).rpartition(":")
    if colon and file.endswith(".py"):
        named_path(Path(), file, expected="a Python file")
        return "factory"
    found = named_path(Path(), str(path), expected="a data set")
    if found.is_dir():
        return _of_folder(found)
    try:
        with found.open("rb") as opened:
            first = opened.read(6)
    except OSError as error:
        raise refusal(found, expected="a data set", got=unreadable(error)) from error
    if found.suffix.lower() in SUFFIXES:
        return SUFFIXES[found.suffix.lower()]
    if first.startswith(b"PAR1"):
        return "parquet"
    got = f"a file called {found.name}"
    hint = ""
    if found.suffix == ".py":
        got, hint = "the file alone", f"Write {found}:factory."
    elif first.startswith(b"\x93NUMPY"):
        got, hint = (
            "a single array (.npy)",
            'Say where the labels are: use = "npy", labels = "y.npy"; or numpy.savez(file, x=x, y=y).',
        )
    elif not first:
        got = "an empty file"
    raise refusal(found, expected=ACCEPTED, got=got, hint=hint)


def _of_folder(folder: Path) -> str:
    """``arrow`` for a saved data set, ``wav`` where the first file below is one, else ``images``."""
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return "arrow"
    first = next((one for one in sorted(folder.rglob("*.*")) if one.suffix != ".csv"), folder)
    return "wav" if first.suffix.lower() in {".wav", ".wave"} else "images"
