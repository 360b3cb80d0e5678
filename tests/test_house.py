"""The table of DESIGN.md §2 is true: who imports whom is read from the code, not remembered."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

HOUSE = Path(__file__).parents[1] / "dlaudit"
SUITES = {
    "overfitting", "data_quality", "attacks", "backdoors", "fairness", "explain", "operations",
    "performance",
}  # fmt: skip
ROOMS = {"audit", "models", "datasets", "catalogues", "reports", "demo", *SUITES}
DOORS = {"__init__", "__main__", "cli", "errors", "progress", "skeletons", "starting", "testing"}
"""Modules that lie in no room."""

VOCABULARY = {"dlaudit.errors", "dlaudit.audit.record"}
BENCH = VOCABULARY | {
    "dlaudit.audit.bench", "dlaudit.audit.curves", "dlaudit.audit.embedding",
    "dlaudit.audit.evidence", "dlaudit.audit.parts", "dlaudit.audit.statistics",
}  # fmt: skip
"""What a suite may know of the spine: where it works and how it speaks, never who calls it."""

MAY_IMPORT: dict[str, set[str]] = {
    # room -> what of the house it may import besides itself; the rest it refuses to know
    **dict.fromkeys(SUITES, BENCH),
    "models": BENCH | {"dlaudit.audit.files", "dlaudit.audit.code_files", "dlaudit.datasets"},
    "datasets": BENCH | {"dlaudit.audit.files", "dlaudit.audit.code_files", "dlaudit.models"},
    "catalogues": VOCABULARY,
    "reports": VOCABULARY
    | {"dlaudit", "dlaudit.audit.difference", "dlaudit.audit.evidence", "dlaudit.audit.judge"},
    "errors": set(),
    "__init__": {"dlaudit"},
}
MUST_NOT_IMPORT: dict[str, set[str]] = {
    "reports": {"torch"},
    "fairness": {"torch"},
    "cli": {"torch", "numpy", "scipy"},
    "audit": SUITES - {"attacks"},
    **{key: {"click", "rich", "jinja2"} for key in SUITES},
}
ONLY_DOOR = {
    # foreign library -> the one module through which it enters
    "captum": "explain/via_captum.py",
    "cleanlab": "data_quality/via_cleanlab.py",
    "fairlearn": "fairness/via_fairlearn.py",
    "foolbox": "attacks/via_foolbox.py",
    "eagerpy": "attacks/via_foolbox.py",
    "ray": "audit/via_ray.py",
}


class Import(NamedTuple):
    """One import of one module. top: executed as the importing module is; typing: never executed."""

    file: str
    room: str
    module: str
    top: bool
    typing: bool


def modules() -> list[Path]:
    return sorted(HOUSE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports_of(file: Path) -> Iterator[Import]:
    """Every import of a file, where it stands and whether it is ever executed."""
    relative = file.relative_to(HOUSE)
    package = ["dlaudit", *relative.parts[:-1]]

    def visit(node: ast.AST, *, top: bool, typing: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(module=module, level=level, names=names):
                base = ".".join(package[: len(package) - level + 1]) if level else ""
                found = [".".join(part for part in (base, module) if part)]
                if found == ["dlaudit"] or (HOUSE.parent / found[0].replace(".", "/")).is_dir():
                    found = [f"{found[0]}.{alias.name}" if is_module(found[0], alias.name) else found[0]
                             for alias in names]  # fmt: skip
            case _:
                found = []
        for module in found:
            yield Import(str(relative), room_of(file), module, top, typing)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, top=top and not inside, typing=typing or checking)

    yield from visit(ast.parse(file.read_text(encoding="utf-8")), top=True, typing=False)


def is_module(package: str, name: str) -> bool:
    folder = HOUSE.parent / package.replace(".", "/")
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


IMPORTS = [one for file in modules() for one in imports_of(file)]


def within(module: str, allowed: set[str]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in allowed)


def test_every_module_lies_in_a_room_that_the_table_knows() -> None:
    assert {room_of(file) for file in modules()} <= ROOMS | DOORS
    folders = {path.name for path in HOUSE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders <= ROOMS


def test_the_reader_of_imports_sees_what_there_is_to_see(tmp_path: Path) -> None:
    found = {(one.file, one.module): one for one in IMPORTS}
    assert found["cli.py", "click"].top
    assert not found["cli.py", "dlaudit.audit.launch"].top
    assert found["audit/bench.py", "numpy"].typing or not found["audit/bench.py", "numpy"].top
    assert found["attacks/via_foolbox.py", "foolbox"]
    assert len(IMPORTS) > 500


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_nothing_of_the_house_that_it_refuses_to_know(room: str) -> None:
    allowed = MAY_IMPORT[room] | {f"dlaudit.{room}"}
    strangers = {
        (one.file, one.module)
        for one in IMPORTS
        if one.room == room and one.module.split(".")[0] == "dlaudit"
        # "dlaudit" itself stands for the public names; only its version is asked for inside.
        and not (within(one.module, allowed - {"dlaudit"}) or one.module in allowed)
    }  # fmt: skip
    if room == "__init__":  # the list of public names and where they live
        strangers = {(file, module) for file, module in strangers if module.count(".") < 2}
    assert not strangers


@pytest.mark.parametrize("room", sorted(MUST_NOT_IMPORT))
def test_a_room_never_imports_what_the_table_says_it_does_not_know(room: str) -> None:
    refused = MUST_NOT_IMPORT[room]
    assert not {
        (one.file, one.module)
        for one in IMPORTS
        if one.room == room and not one.typing
        and ({one.module.split(".")[0]} | set(one.module.split(".")[1:2])) & refused
    }  # fmt: skip


def test_suites_import_neither_each_other_nor_the_engine() -> None:
    others = {
        (one.file, one.module)
        for one in IMPORTS
        if one.room in SUITES and one.module.startswith("dlaudit.")
        and one.module.split(".")[1] in SUITES - {one.room}
    }  # fmt: skip
    assert not others


@pytest.mark.parametrize("library", sorted(ONLY_DOOR))
def test_a_foreign_library_enters_through_one_door(library: str) -> None:
    doors = {one.file for one in IMPORTS if one.module.split(".")[0] == library}
    assert doors == {ONLY_DOOR[library]} or (library == "eagerpy" and not doors)


def test_in_a_room_with_a_door_for_a_library_only_doors_import_it() -> None:
    """scikit-learn is a format to one room and a helper to another: it may have a door in each."""
    doors = {file.relative_to(HOUSE).as_posix() for file in modules() if file.stem[:4] == "via_"}
    assert set(ONLY_DOOR.values()) <= doors
    for door in doors:
        room, _, name = door.partition("/")
        library = name.removeprefix("via_").removesuffix(".py")
        importing = {
            one.file for one in IMPORTS if one.room == room and one.module.split(".")[0] == library
        }
        assert door in importing
        assert importing <= doors


def test_the_spine_knows_no_suite_by_name() -> None:
    """Not by import (an attack is the one part with a base class of its own) nor in any string."""
    imported = {
        one.module
        for one in IMPORTS
        if one.room == "audit" and one.module.split(".")[1:2] and one.module.split(".")[1] in SUITES
    }
    assert imported <= {"dlaudit.attacks.base"}
    said = set()
    for file in (HOUSE / "audit").glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        documented = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body and isinstance(node.body[0], ast.Expr)
        }  # fmt: skip
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in documented
            ):
                names = "|".join(SUITES - {"attacks"})  # also the name of an entry-point group
                if re.search(rf"\b({names})\b|\battacks\.", node.value):
                    said.add((file.name, node.value))
    assert not said


def test_the_command_line_imports_only_click_before_it_is_asked() -> None:
    top = {one.module for one in IMPORTS if one.room == "cli" and one.top and not one.typing}
    assert {module for module in top if module.split(".")[0] not in sys.stdlib_module_names} == {
        "click"
    }


HEAVY = {"torch", "numpy", "scipy", "pandas", "sklearn", "matplotlib", "captum", "cleanlab", "foolbox",
         "fairlearn", "onnxruntime", "skops", "PIL", "ray"}  # fmt: skip


def test_what_is_reached_without_computing_anything_imports_nothing_heavy() -> None:
    """Suites, their registered checks, the plan and the record: imported whenever parts are listed."""
    from dlaudit.audit.registry import Registry

    registry = Registry()
    listed = {"audit/plan.py", "audit/plan_reading.py", "audit/plan_rules.py", "audit/record.py",
              "audit/parts.py", "audit/registry.py", "audit/engine.py", "audit/executor.py",
              "audit/bench.py", "cli.py"}  # fmt: skip
    for group in ("checks", "attacks", "suites"):
        for part in registry.parts(group):
            module = getattr(part.get(), "__module__", "")
            if module.startswith("dlaudit."):
                listed.add("/".join(module.split(".")[1:]) + ".py")
    for suite in SUITES:
        listed.add(f"{suite}/suite.py")
    heavy = {
        (one.file, one.module)
        for one in IMPORTS
        if one.file in listed and one.top and not one.typing and one.module.split(".")[0] in HEAVY
    }
    assert not heavy


# -- how the code reads ------------------------------------------------------------------------------


@pytest.mark.parametrize("file", modules(), ids=lambda file: file.relative_to(HOUSE).as_posix())
def test_a_module_keeps_to_the_conventions(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert file.stem not in {"utils", "util", "helpers", "helper", "common", "misc"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, "no bare except"
    for word in ("TODO", "FIXME", "XXX", "pragma: no cover", "NotImplemented  #"):
        assert word not in text
    if file.name == "__init__.py" and not text.strip():
        return
    first = (ast.get_docstring(tree) or "").partition("\n")[0]
    assert first, "the first line says what the module knows and refuses to know"
    assert first[0].isupper() or first.startswith(("`", "dlaudit"))
    assert len(text.splitlines()) <= 800, "a few hundred lines read well"


def test_each_suite_has_the_same_shape() -> None:
    for suite in SUITES:
        if not any((HOUSE / suite).glob("*.py")):
            continue
        assert (HOUSE / suite / "suite.py").is_file()
        tree = ast.parse((HOUSE / suite / "suite.py").read_text(encoding="utf-8"))
        names = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert "SUITE" in names


def test_a_suites_name_is_the_prefix_of_its_checks_and_of_its_folder() -> None:
    from dlaudit.audit.registry import Registry

    registry = Registry()
    for part in registry.parts("suites"):
        suite = part.get()
        assert part.name == suite.name in SUITES
        assert (HOUSE / suite.name).is_dir()
        for run, params in suite.runs.items():
            check = params.get("use", run)
            origin = registry.check(check).get().__module__
            assert origin.startswith(f"dlaudit.{suite.name}.")
            assert check.startswith((f"{suite.name}.", "foolbox:"))
