"""Files that a plan names: found, of the right sort, readable, and identified by their content.

Knows paths, digests and how to say in one sentence what is wrong; never what a file means.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlaudit.audit.evidence import digest, file_digest, fingerprint
from dlaudit.audit.record import canonical
from dlaudit.audit.registry import import_file
from dlaudit.errors import LoadError, PlanError, nearest


def sentence(place: object, field: str = "", *, expected: str, got: str, hint: str = "") -> str:
    """``place: field: expected …, got …. hint``: the one form in which loaders complain.

    place: a path, or None where the field is an argument of the plan.
    """
    where = ": ".join(str(part) for part in (place, field) if part)
    return f"{where}: expected {expected}, got {got}." + (f" {hint}" if hint else "")


def refusal(
    place: object, field: str = "", *, expected: str, got: str, hint: str = ""
) -> LoadError:
    """A LoadError of one ``sentence``."""
    return LoadError(sentence(place, field, expected=expected, got=got, hint=hint))


def named_file(root: Path, written: str, *, expected: str = "a file") -> Path:
    """The readable, non-empty file that a plan calls ``written``. Raises LoadError.

    root: the folder that relative paths are relative to.
    """
    path = named_path(root, written, expected=expected)
    if path.is_dir():
        raise refusal(path, expected=expected, got="a folder")
    if not path.is_file():
        raise refusal(path, expected=expected, got="something that is no regular file")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise refusal(path, expected=expected, got=unreadable(error)) from error
    if empty:
        raise refusal(path, expected=expected, got="an empty file")
    return path


def named_folder(root: Path, written: str, *, expected: str = "a folder") -> Path:
    """The readable folder that a plan calls ``written``. Raises LoadError."""
    path = named_path(root, written, expected=expected)
    if not path.is_dir():
        raise refusal(path, expected=expected, got="a file")
    try:
        os.listdir(path)  # noqa: PTH208  (Path.iterdir asks only when it is walked)
    except OSError as error:
        raise refusal(path, expected=expected, got=unreadable(error)) from error
    return path


def named_path(root: Path, written: str, *, expected: str) -> Path:
    """Whatever a plan calls ``written``, if it exists. Raises LoadError with the nearest name."""
    if not written:
        raise refusal(None, "path", expected=f"the name of {expected}", got="an empty text")
    path = root / written
    try:
        found = path.exists()
    except OSError as error:
        raise refusal(path, expected=expected, got=unreadable(error)) from error
    if found:
        return path
    if path.is_symlink():
        raise refusal(path, expected=expected, got="a link to nothing")
    raise refusal(path, expected=expected, got="nothing of this name", hint=_neighbour(path))


def _neighbour(path: Path) -> str:
    """The nearest name in the folder, if the folder can be listed and is not too full to help."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    hint = nearest(path.name, names)
    return hint if hint.startswith("Did you mean") else ""


def unreadable(error: OSError) -> str:
    """What the system said, in words for ``got``."""
    return f"an error on reading it ({error.strerror or type(error).__name__})"


def said(error: Exception) -> str:
    """What a foreign library raised, in words for ``got``: its class and its first line."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def named_function(root: Path, written: str, *, field: str) -> tuple[Path, Callable[..., Any]]:
    """The code file and the function that a plan calls ``file.py:function``. Raises LoadError.

    Code files are trusted by whoever wrote the plan: the file is imported.
    """
    file, colon, name = written.rpartition(":")
    if not colon or not name.isidentifier():
        raise refusal(
            field, expected='"file.py:function"', got=f'"{written}"',
            hint="The function's name stands after a colon.",
        )  # fmt: skip
    path = named_file(root, file, expected="a Python file")
    try:
        module = import_file(path)
    except PlanError as error:
        raise LoadError(*error.problems) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [
            key for key, value in vars(module).items()
            if callable(value) and not key.startswith("_")
        ]  # fmt: skip
        got = "nothing of this name" if function is None else f"a {type(function).__name__}"
        raise refusal(path, name, expected="a function", got=got, hint=nearest(name, known))
    return path, function


def identity(
    files: Mapping[str, Path],
    settings: Mapping[str, object] | None = None,
    *,
    digests: Mapping[str, str] | None = None,
) -> tuple[str, dict[str, Any]]:
    """The fingerprint of what was loaded, and the facts ``files`` that a card shows.

    files: role -> path. settings: arguments that change what is read (a scale, a target column);
    they are part of the identity only where given, under the role ``settings``. digests: role ->
    sha256 of what is identified otherwise.
    """
    of_files = {role: file_digest(path) for role, path in files.items()}
    given = {
        key: value
        for key, value in (settings or {}).items()
        if value or (value == 0 and value is not False)
    }
    pairs = [*of_files.items(), *(digests or {}).items()]
    if given:
        pairs.append(("settings", digest(canonical(given))))
    described = {
        role: {"name": path.name, "sha256": of_files[role], "bytes": path.stat().st_size}
        for role, path in files.items()
    }
    return fingerprint(pairs), {"files": described}
