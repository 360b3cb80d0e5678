"""Finds parts by name: entry points of installed packages, and single files given with --plugin.

Knows names and where they come from; never what a part does. Nothing is imported before it is
asked for, and built-in parts come through the same door as guests.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import typing
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from dlaudit.audit.evidence import file_digest
from dlaudit.audit.parts import Check, Dataset, Explainer, Model, Suite
from dlaudit.audit.record import AuditRecord, Catalogue
from dlaudit.errors import AuditError, PlanError, UnknownName

GROUPS = (
    "models",
    "datasets",
    "checks",
    "attacks",
    "explainers",
    "suites",
    "renderers",
    "executors",
    "catalogues",
)
CHECK_GROUPS = ("checks", "attacks")
"""Groups whose parts can be run: an attack is also a check of the same name."""


class ImportFailed(AuditError):
    """A part exists by name, but importing or building it raised."""


class Part(NamedTuple):
    """Something that can be loaded by name."""

    group: str
    name: str
    origin: str
    load: Callable[[], Any]

    @property
    def line(self) -> str:
        """The first line of its documentation, or why it cannot be imported."""
        try:
            loaded = self.get()
        except ImportFailed as error:
            return f"({error})"
        if isinstance(loaded, Suite):
            return loaded.title
        # Its own words, not those of the class that it derives from.
        return inspect.cleandoc(loaded.__doc__ or "").partition("\n")[0]

    def get(self) -> Any:
        """Import it. Raises ImportFailed, with the cause; UnknownName if a family lacks the member."""
        try:
            return self.load()
        except UnknownName:
            raise
        except (Exception, SystemExit) as error:  # a script that calls sys.exit as it is imported
            message = (
                f"{self.name} ({self.origin}) cannot be imported: {type(error).__name__}: {error}"
            )
            raise ImportFailed(message) from error


@cache
def installed(path: tuple[str, ...]) -> tuple[Part, ...]:
    """The parts of every package on the path, in the order of the groups.

    Read once: to look through the metadata of some hundred packages takes longer than a small audit.
    """
    del path
    points = entry_points()
    found = [(group, one) for group in GROUPS for one in points.select(group=f"dlaudit.{group}")]
    packages = {id(one.dist): one.dist for _, one in found if one.dist}
    names = {key: package.name for key, package in packages.items()}
    return tuple(
        Part(group, one.name, names.get(id(one.dist), "unknown package"), one.load)
        for group, one in found
    )


class Registry:
    """All parts of this installation and of the plug-in files named on the command line."""

    def __init__(self, plugins: tuple[Path, ...] = ()) -> None:
        """plugins: files of code. Raises PlanError if one is missing or cannot be imported."""
        self._parts: dict[tuple[str, str], Part] = {}
        self.plugins: dict[str, str] = {}
        for part in installed(tuple(sys.path)):
            self._add(part)
        for plugin in plugins:
            self._add_file(plugin)

    def parts(self, group: str) -> list[Part]:
        """The parts of a group, by name."""
        return [part for (of, _), part in sorted(self._parts.items()) if of == group]

    def find(self, group: str, name: str) -> Part:
        """The part called so. ``family:member`` asks the part ``family`` for one of its members.

        Raises UnknownName, with the nearest name.
        """
        return self._find((group,), name, group.removesuffix("s"))

    def check(self, name: str) -> Part:
        """The check, or the attack that is one, called so."""
        return self._find(CHECK_GROUPS, name, "check")

    def _find(self, groups: tuple[str, ...], name: str, kind: str) -> Part:
        family, _, member = name.partition(":")
        for group in groups:
            part = self._parts.get((group, family if member else name))
            if part and member:
                return Part(group, name, part.origin, lambda part=part: part.get().member(member))  # type: ignore[misc]
            if part:
                return part
        known = [known for of, known in self._parts if of in groups]
        raise UnknownName(name, kind, known)

    def _add(self, part: Part) -> None:
        rivals = CHECK_GROUPS if part.group in CHECK_GROUPS else (part.group,)
        for group in rivals:
            other = self._parts.get((group, part.name))
            if other and (other.origin != part.origin or group != part.group):
                message = (
                    f"two parts are called {part.name!r}: "
                    f"one of {other.origin}, one of {part.origin}"
                )
                raise PlanError(message)
        self._parts[part.group, part.name] = part

    def _add_file(self, path: Path) -> None:
        module = import_file(path)
        if self.plugins.setdefault(path.name, file_digest(path)) != file_digest(path):
            message = f"two plug-in files are called {path.name}: their parts would share names"
            raise PlanError(message)
        parts = parts_of(module)
        if not parts:
            message = (
                f"{path.name}: defines no part. Expected a class of Check, Attack, Explainer, Model or "
                "Dataset, a Suite, or a function annotated `-> Model`, `-> Dataset`, `-> Catalogue` or "
                "`(AuditRecord) -> str`"
            )
            raise PlanError(message)
        for group, name, value in parts:
            self._add(Part(group, f"{path.stem}.{name}", path.name, lambda value=value: value))  # type: ignore[misc]


def import_file(path: Path) -> ModuleType:
    """Import a file of code that the plan or the command names. Raises PlanError."""
    if not path.is_file():
        message = (
            f"{path}: expected a Python file, found {'a folder' if path.is_dir() else 'nothing'}"
        )
        raise PlanError(message)
    name = f"dlaudit_file_{path.stem}_{file_digest(path)[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        message = f"{path}: expected a Python file (.py)"
        raise PlanError(message)
    module = importlib.util.module_from_spec(spec)
    # Registered first, as for any import: type hints of its classes are resolved through it.
    sys.modules[name] = module
    if (folder := str(path.resolve().parent)) not in sys.path:
        # Last, so that a file beside it is found and yet shadows nothing that is installed.
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        message = f"{path}: importing it raised {type(error).__name__}: {error}"
        raise PlanError(message) from error
    return module


def parts_of(module: ModuleType) -> list[tuple[str, str, object]]:
    """The (group, name, part) triples that a file defines.

    Subclasses of Attack, Check, Explainer, Model and Dataset by their class; suites as ``Suite`` values;
    loaders, catalogues and renderers as functions, by their annotations (``-> Model``,
    ``-> Dataset``, ``-> Catalogue``, ``(record: AuditRecord) -> str``).
    """
    from dlaudit.attacks.base import Attack

    found: list[tuple[str, str, object]] = []
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if isinstance(value, Suite):
            found.append(("suites", snake_case(name), value))
        elif getattr(value, "__module__", None) != module.__name__:
            continue
        elif inspect.isclass(value):
            kinds = (
                ("attacks", Attack),
                ("checks", Check),
                ("explainers", Explainer),
                ("models", Model),
                ("datasets", Dataset),
            )
            groups = [group for group, base in kinds if issubclass(value, base)]
            found += [(group, snake_case(name), value) for group in groups[:1]]
        elif inspect.isfunction(value) and (group := _function_group(value)):
            found.append((group, snake_case(name), value))
    return found


def _function_group(function: Callable[..., object]) -> str | None:
    """The group a plug-in file's function belongs to, told by its annotations."""
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):
        return None
    returns = hints.pop("return", None)
    if inspect.isclass(returns) and issubclass(returns, Model):
        return "models"
    if inspect.isclass(returns) and issubclass(returns, Dataset):
        return "datasets"
    if inspect.isclass(returns) and issubclass(returns, Catalogue):
        return "catalogues"
    if returns is str and next(iter(hints.values()), None) is AuditRecord:
        return "renderers"
    return None


def snake_case(name: str) -> str:
    """``UniformNoise`` -> ``uniform_noise``; ``FGSMAttack`` -> ``fgsm_attack``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
