"""What a plan is, sealed by its hash, and where it comes from: a TOML file with its overrides.

Knows the types and how TOML becomes plain values; whether a plan makes sense is said by ``plan_reading``.
"""

from __future__ import annotations

import tomllib
from datetime import date, time
from pathlib import Path
from typing import Any

import msgspec

from dlaudit.audit.bench import BLOCK
from dlaudit.audit.declared import Declaration
from dlaudit.audit.evidence import digest
from dlaudit.audit.record import Errored, Rule, Skipped, Waiver, canonical
from dlaudit.audit.registry import Registry
from dlaudit.errors import PlanError


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of what a plan consists of."""


class Loader(Strict, frozen=True, kw_only=True):
    """A model or data set by the name of its loader and that loader's arguments, as written."""

    use: str
    args: dict[str, Any] = {}


class RunSpec(Strict, frozen=True, kw_only=True):
    """One run of one check. ``broken``: its part exists but cannot be imported or built.

    trainings: how many it asks for; beyond: that is more than the budget has left.
    """

    id: str
    check: str
    params: dict[str, Any] = {}
    broken: Errored | None = None
    trainings: int = 0
    beyond: Skipped | None = None


class Plan(Strict, frozen=True, kw_only=True):
    """Everything that decides what is measured and judged. Its hash is the seal."""

    name: str
    seed: int = 0
    suites: tuple[str, ...] = ()
    default_rules: bool = True
    model: Loader
    models: dict[str, Loader] = {}
    data: dict[str, Loader]
    train: dict[str, Any] = {}
    runs: tuple[RunSpec, ...] = ()
    rules: tuple[Rule, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    context: dict[str, Any] = {}
    declarations: tuple[Declaration, ...] = ()
    catalogues: tuple[str, ...] = ("eu_ai_act",)
    keep_samples: int = 0
    block: int = BLOCK
    max_samples: int | None = None
    until_decided: bool = False
    train_budget: int | None = None
    plugins: dict[str, str] = {}

    @property
    def sha256(self) -> str:
        """The seal: hash of the resolved plan as canonical JSON. Paths stand in it as written."""
        return digest(canonical(self))


class Source(Strict, frozen=True, kw_only=True):
    """Where a plan comes from: a file or a table made from options, and what overrides it.

    root: the folder that relative paths are relative to. settings: ``key=value`` in TOML. only and
    skip: run ids. formats: renderers, checked here because they are asked for here, yet no part of
    the plan. calibrate: also time the model on a few rows.
    """

    root: str
    label: str = "audit.toml"
    table: dict[str, Any] = {}
    settings: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    calibrate: bool = False

    def registry(self) -> Registry:
        """All parts, those of the plug-in files among them."""
        return Registry(tuple(Path(plugin) for plugin in self.plugins))


def source_of(path: Path, **overrides: Any) -> Source:
    """Read a TOML file. Raises PlanError if it is missing or is no TOML."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        message = f"{path}: expected a plan (TOML), found {found}. `dlaudit init` writes one."
        raise PlanError(message)
    try:
        table = plain_toml(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        message = f"{path.name} cannot be read as TOML: {error}"
        raise PlanError(message) from error
    return Source(root=str(path.resolve().parent), label=path.name, table=table, **overrides)


def plain_toml(text: str) -> dict[str, Any]:
    """TOML as plain JSON values, so that a plan reads alike in every process: dates become text.

    Raises ValueError for text that is no TOML, and for whole numbers beyond TOML's 64 bits.
    """

    def plain(value: Any) -> Any:
        match value:
            case dict():
                return {key: plain(one) for key, one in value.items()}
            case list():
                return [plain(one) for one in value]
            case date() | time():
                return value.isoformat()
            case int() if not -(2**63) <= value < 2**63:
                message = f"{value} is beyond the 64 bits of a whole number"
                raise ValueError(message)
            case _:
                return value

    table: dict[str, Any] = plain(tomllib.loads(text))
    return table
