"""Which files of code stand behind one: itself, and what it imports from beside it.

Reads source, runs nothing; so every process names the same files, whatever it has imported.
"""

from __future__ import annotations

import ast
from pathlib import Path


def code_files(path: Path) -> dict[str, Path]:
    """Role -> file: ``code`` for the file itself, ``code/<path>`` for what it imports beside it.

    Directly or not, from its own folder and the folders below.
    Only imports that stand in the source are seen. A file that is no Python has no imports.
    """
    folder = path.resolve().parent
    found = {"code": path.resolve()}
    waiting = [path.resolve()]
    while waiting:
        for imported in imports_of(waiting.pop(), folder):
            role = f"code/{imported.relative_to(folder).as_posix()}"
            if imported not in found.values():
                found[role] = imported
                waiting.append(imported)
    return found


def imports_of(file: Path, folder: Path) -> list[Path]:
    """The files below ``folder`` that a file's import statements name, sorted."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []
    names: set[tuple[Path, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(folder, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # One dot is the file's own package, each further dot one folder up.
            base = file.parents[node.level - 1] if node.level else folder
            module = node.module or ""
            names |= {(base, module)} if module else set()
            names |= {(base, f"{module}.{alias.name}".lstrip(".")) for alias in node.names}
    files = {one for base, name in names for one in files_of(base, name)}
    return sorted(one for one in files if one.is_relative_to(folder))


def files_of(base: Path, name: str) -> list[Path]:
    """The files of a dotted module below ``base``, its packages' ``__init__`` among them."""
    parts = name.split(".")
    candidates = [
        base.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)
    ]
    candidates.append(base.joinpath(*parts[:-1], f"{parts[-1]}.py"))
    return [one.resolve() for one in candidates if one.is_file()]
