"""Reads ``audit.toml`` into a sealed plan, and names everything that is wrong with it at once.

Knows the file's words and how to find the right one for a wrong one; never executes a check.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dlaudit.audit import catalogues as books
from dlaudit.audit import declared
from dlaudit.audit.bench import BLOCK
from dlaudit.audit.declared import Declaration
from dlaudit.audit.parameters import argument_problems, build, converted, parameters_of, shown
from dlaudit.audit.parts import Suite
from dlaudit.audit.plan import Loader, Plan, RunSpec, Source, plain_toml
from dlaudit.audit.plan_rules import numbered, read_rules, read_waivers
from dlaudit.audit.record import Errored, Rule, Skipped, Waiver
from dlaudit.audit.registry import ImportFailed, Registry
from dlaudit.errors import LoadError, PlanError, UnknownName, nearest

TOP_LEVEL = (
    "name", "seed", "suites", "default_rules", "model", "models", "data", "train", "checks", "rules",
    "context", "declarations", "waivers", "keep_samples", "block", "max_samples", "catalogues",
    "until_decided", "budget", "train_budget",
)  # fmt: skip


def read(source: Source, registry: Registry) -> Plan:
    """The resolved plan. Raises PlanError with every mistake that can be known from it."""
    return _Reader(source, registry).plan()


def read_with(
    source: Source, registry: Registry, *, model: Loader, data: dict[str, Loader]
) -> Plan:
    """The resolved plan for a model and data that are open already. Raises PlanError."""
    return _Reader(source, registry, opened=(model, data)).plan()


class _Reader:
    """Reads one plan, collecting problems as it goes."""

    def __init__(
        self, source: Source, registry: Registry,
        opened: tuple[Loader, dict[str, Loader]] | None = None,
    ) -> None:  # fmt: skip
        self.opened = opened
        self.source = source
        self.registry = registry
        self.root = Path(source.root)
        self.problems: list[str] = []
        self.table = dict(source.table)
        self.known: set[str] = set()
        self.unimported: tuple[str, ...] = ()

    def plan(self) -> Plan:
        for setting in source_settings(self.source.settings, self.problems):
            _merge(self.table, setting)
        self._unknown("", self.table, TOP_LEVEL)
        suites = self._list("suites", str)
        seed = self._value("seed", int, 0, least=0)
        runs, measures, suite_rules = self._runs(suites)
        present = {run.id for run in runs}
        written = self._rules(measures)
        left_out = self.known - present  # by --check or --skip
        rules = [rule for rule in written.values() if rule.run not in left_out]
        default_rules = self._value("default_rules", bool, True)
        if default_rules:
            ruled = {rule.run for rule in rules}
            rules += [rule for rule in suite_rules if rule.run in present - ruled]
        name = self._value("name", str, "audit")
        if self.opened:
            model, data = self.opened
        else:
            model = self._loader("model", "models", self.table.get("model"))
            data = self._data()
        models = {
            key: self._loader(f"models.{key}", "models", value)
            for key, value in self._table("models").items()
        }
        if not runs and not self.problems:
            self.problems.append(
                f"nothing to run: name suites ({', '.join(p.name for p in self.registry.parts('suites'))}) "
                "or checks"
            )
        waivers = tuple(waiver for waiver in self._waivers() if waiver.run not in left_out)
        declarations = self._declarations()
        catalogues = tuple(self._list("catalogues", str) or ["eu_ai_act"])
        placed = [(f"rules[{position}]", rule) for position, rule in written.items()]
        placed += [(f"{rule.origin}: {rule.run}", rule) for rule in rules if rule.origin != "plan"]
        self._requirements(catalogues, placed, declarations)
        keep, block = (
            self._value("keep_samples", int, 0, least=0),
            self._value("block", int, BLOCK, least=1),
        )
        most = self._value("max_samples", int, None, least=1)
        until_decided = self._value("until_decided", bool, False)
        train, context = self._train(), self._table("context")
        trainings = self._value("train_budget", int, None, least=0)
        if trainings is not None:
            runs = self._within(trainings, runs)
        self.problems += declared.problems(context)
        for wanted in self.source.formats:
            try:
                self.registry.find("renderers", wanted)
            except UnknownName as error:
                self.problems.append(f"--format: {error}")
        if self.problems:
            raise PlanError(*self.problems)
        return Plan(
            name=name, seed=seed, suites=tuple(suites), default_rules=default_rules,
            model=model, models=models, data=data, train=train, runs=tuple(runs),
            rules=tuple(numbered(rules)), waivers=waivers, context=context,
            declarations=tuple(declarations.values()), catalogues=catalogues, keep_samples=keep, block=block,
            max_samples=most, until_decided=until_decided, train_budget=trainings,
            plugins=dict(sorted(self.registry.plugins.items())),
        )  # fmt: skip

    # -- small readers ---------------------------------------------------------------------------

    def _unknown(self, place: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
        for key in table:
            if key not in known:
                where = f"{place}.{key}" if place else key
                self.problems.append(f"{where}: no such key. {nearest(key, known)}")

    def _table(self, key: str) -> dict[str, Any]:
        value = self.table.get(key, {})
        if not isinstance(value, dict):
            self.problems.append(f"{key}: expected a table, got {shown(value)}")
            return {}
        return value

    def _value(self, key: str, kind: Any, default: Any, *, least: int | None = None) -> Any:
        if key not in self.table:
            return default
        value, problem = converted(self.table[key], kind)
        if problem is None and least is not None and value < least:
            problem = f"expected a whole number >= {least}, got {value}"
        if problem:
            self.problems.append(f"{key}: {problem}")
            return default
        return value

    def _list(self, key: str, kind: type) -> list[Any]:
        return list(self._value(key, list[kind], []))  # type: ignore[valid-type]

    # -- models and data -------------------------------------------------------------------------

    def _loader(self, place: str, group: str, value: Any) -> Loader:
        nothing = Loader(use="")
        if not isinstance(value, dict):
            got = "nothing" if value is None else shown(value)
            self.problems.append(f"{place}: expected a table with `use` and `args`, got {got}")
            return nothing
        self._unknown(place, value, ("use", "args"))
        args = value.get("args", {})
        if not isinstance(args, dict):
            self.problems.append(f"{place}.args: expected a table, got {shown(args)}")
            return nothing
        use = value.get("use") or self._inferred(place, group, args)
        if not isinstance(use, str):
            if use is not None:
                self.problems.append(f"{place}.use: expected a loader's name, got {shown(use)}")
            return nothing
        try:
            loader = self.registry.find(group, use).get()
        except UnknownName as error:
            self.problems.append(f"{place}.use: {error}")
        except ImportFailed as error:
            self.problems.append(f"{place}.use: {error}")
        else:
            self.problems += argument_problems(f"{place}.args", use, loader, args)
        return Loader(use=use, args=args)

    def _inferred(self, place: str, group: str, args: Mapping[str, Any]) -> str | None:
        written = args.get("weights") or args.get("path") or args.get("file")
        if not isinstance(written, str):
            self.problems.append(f"{place}.use: which loader? {nearest('', self._names(group))}")
            return None
        try:
            return infer(group, self.root / written)
        except LoadError as error:
            self.problems.append(f"{place}: {error}")
            return None

    def _names(self, group: str) -> list[str]:
        return [part.name for part in self.registry.parts(group)]

    def _data(self) -> dict[str, Loader]:
        table = self.table.get("data")
        if not isinstance(table, dict):
            got = "nothing" if table is None else shown(table)
            self.problems.append(f"data: expected a table with `use` and `args`, got {got}")
            return {}
        splits = {
            k: v for k, v in table.items() if k not in {"use", "args"} and isinstance(v, dict)
        }
        first = {k: v for k, v in table.items() if k not in splits}
        data = {"test": self._loader("data", "datasets", first)}
        for split, value in splits.items():
            if split == "test":
                self.problems.append("data.test: the test split is [data] itself")
                continue
            data[split] = self._loader(f"data.{split}", "datasets", value)
        return data

    def _train(self) -> dict[str, Any]:
        table = self._table("train")
        self._unknown("train", table, ("factory",))
        factory = table.get("factory")
        if table and not (isinstance(factory, str) and ":" in factory):
            self.problems.append(
                f'train.factory: expected "file.py:function", got {shown(factory)}'
            )
        return table

    # -- runs ------------------------------------------------------------------------------------

    def _runs(
        self, suites: list[str]
    ) -> tuple[list[RunSpec], dict[str, tuple[str, ...]], list[Rule]]:
        wanted: dict[str, dict[str, Any]] = {}
        rules: list[Rule] = []
        broken: list[RunSpec] = []
        for position, suite_name in enumerate(suites):
            try:
                suite = self.registry.find("suites", suite_name).get()
            except UnknownName as error:
                self.problems.append(f"suites[{position}]: {error}")
                continue
            except ImportFailed as error:
                broken.append(RunSpec(id=suite_name, check=suite_name, broken=failed(error)))
                continue
            if not isinstance(suite, Suite):
                self.problems.append(f"suites[{position}]: {suite_name} is no Suite")
                continue
            wanted |= {run: dict(params) for run, params in suite.runs.items()}
            rules += [
                msgspec.structs.replace(rule, origin=f"suite:{suite.name}") for rule in suite.rules
            ]
        for run, params in self._table("checks").items():
            if not isinstance(params, dict):
                self.problems.append(f'checks."{run}": expected a table, got {shown(params)}')
                continue
            wanted[run] = {**wanted.get(run, {}), **params}
        wanted = {run: params for run, params in wanted.items() if self._enabled(run, params)}
        for option, chosen in (("--check", self.source.only), ("--skip", self.source.skip)):
            for run in chosen:
                known = {*wanted, *(one.id for one in broken)}
                if run not in known and not self._adds(option, run, wanted):
                    self.problems.append(
                        f"{option} {run}: no run is called so. {nearest(run, known)}"
                    )
        self.known = {*wanted, *(run.id for run in broken)}
        self.unimported = tuple(f"{run.id}." for run in broken)
        if self.source.only:
            wanted = {run: params for run, params in wanted.items() if run in self.source.only}
            broken = [run for run in broken if run.id in self.source.only]
        wanted = {run: params for run, params in wanted.items() if run not in self.source.skip}
        broken = [run for run in broken if run.id not in self.source.skip]
        runs, measures = [], {}
        self.budget, self.budgeted = self._value("budget", int, None, least=1), False
        for run, params in wanted.items():
            spec, names = self._run(run, params)
            runs.append(spec)
            measures[run] = names
        if self.budget is not None and not self.budgeted:
            self.problems.append("budget: no check of this plan has a parameter of that name")
        return runs + broken, measures, rules

    def _enabled(self, run: str, params: dict[str, Any]) -> bool:
        enabled, problem = converted(params.pop("enabled", True), bool)
        if problem:
            self.problems.append(f'checks."{run}".enabled: {problem}')
        return bool(enabled)

    def _adds(self, option: str, run: str, wanted: dict[str, dict[str, Any]]) -> bool:
        """``--check ID`` may name a check that no suite of the plan holds: it is added."""
        if option != "--check":
            return False
        try:
            self.registry.check(run)
        except UnknownName:
            return False
        wanted[run] = {}
        return True

    def _run(self, run: str, params: dict[str, Any]) -> tuple[RunSpec, tuple[str, ...]]:
        place = f'checks."{run}"'
        params = dict(params)
        check, problem = converted(params.pop("use", run), str)
        if problem:
            self.problems.append(f"{place}.use: {problem}")
            return RunSpec(id=run, check=run), ()
        try:
            part = self.registry.check(check)
            if self.budget is not None and "budget" in getattr(part.get(), "__struct_fields__", ()):
                params.setdefault("budget", self.budget)
                self.budgeted = True
            built, problems = build(part, params)
        except UnknownName as error:
            self.problems.append(f"{place}{'.use' if check != run else ''}: {told(error)}")
            return RunSpec(id=run, check=check), ()
        except ImportFailed as error:
            return RunSpec(id=run, check=check, params=params, broken=failed(error)), ()
        self.problems += [f"{place}{problem}" for problem in problems]
        if built is None:
            return RunSpec(id=run, check=check), ()
        spec = RunSpec(id=run, check=check, params=parameters_of(built), trainings=built.trainings)
        return spec, built.measures

    def _within(self, budget: int, runs: list[RunSpec]) -> list[RunSpec]:
        """The runs in their order, each with what it asks of the budget for trainings or beyond it."""
        if not any(run.trainings for run in runs):
            self.problems.append("train_budget: no check of this plan trains anything")
        left, kept = budget, []
        for run in runs:
            if run.trainings > left:
                reason = (
                    f"needs {run.trainings} trainings, {left} of the budget of {budget} are left "
                    "(train_budget)"
                )
                beyond = Skipped(reason=reason, missing=("plan: train_budget",))
                kept.append(msgspec.structs.replace(run, beyond=beyond))
            else:
                left -= run.trainings
                kept.append(run)
        return kept

    # -- rules -----------------------------------------------------------------------------------

    def _rules(self, measures: Mapping[str, tuple[str, ...]]) -> dict[int, Rule]:
        written = self.table.get("rules", [])
        if not isinstance(written, list):
            self.problems.append(f"rules: expected [[rules]] tables, got {shown(written)}")
            return {}
        rules = read_rules(written, self.problems, origin="plan")
        for position, rule in rules.items():
            place = f"rules[{position}]"
            if not self._may_name(rule.run):
                self.problems.append(
                    f"{place}.run: no run is called {rule.run!r}. {nearest(rule.run, self.known)}"
                )
            elif (names := measures.get(rule.run)) and rule.measurement not in names:
                self.problems.append(
                    f"{place}.measurement: {rule.run} measures no {rule.measurement!r}. "
                    f"{nearest(rule.measurement, names)}"
                )
        return rules

    def _may_name(self, run: str) -> bool:
        """Whether there is such a run; one of a suite that cannot be imported may exist."""
        return run in self.known or run.startswith(self.unimported)

    def _requirements(
        self,
        catalogues: Iterable[str],
        rules: Iterable[tuple[str, Rule]],
        declarations: Mapping[int, Declaration],
    ) -> None:
        opened = []
        for position, name in enumerate(catalogues):
            try:
                opened.append(books.opened(name, self.registry))
            except (UnknownName, ImportFailed) as error:
                self.problems.append(f"catalogues[{position}]: {error}")
                return
        if twice := books.doubled(opened):
            self.problems.append(f"catalogues: {twice[0]!r} is the id of two requirements")
        known = {item.id: item for catalogue in opened for item in catalogue}
        asked = [(f"{place}.requirements", item) for place, r in rules for item in r.requirements]
        asked += [
            (f"declarations[{i}].requirement", d.requirement) for i, d in declarations.items()
        ]
        for place, item in asked:
            if problem := books.problem(item, known):
                self.problems.append(f"{place}: {problem}")

    def _waivers(self) -> tuple[Waiver, ...]:
        written = self._table("waivers")
        runs = self.known | {run for run in written if self._may_name(run)}
        return read_waivers(written, runs, self.problems)

    def _declarations(self) -> dict[int, Declaration]:
        written = self.table.get("declarations", [])
        if not isinstance(written, list):
            self.problems.append(f"declarations: expected [[declarations]], got {shown(written)}")
            return {}
        found = {}
        for position, one in enumerate(written):
            value, problem = converted(one, Declaration)
            if problem:
                self.problems.append(f"declarations[{position}]: {problem}")
            else:
                found[position] = value
        return found


def infer(group: str, path: Path) -> str:
    """The loader for a file, by its name and first bytes. Raises LoadError."""
    if group == "models":
        from dlaudit.models import infer as infer_model

        return infer_model(path)
    from dlaudit.datasets import infer as infer_data

    return infer_data(path)


def told(error: UnknownName) -> str:
    """An unknown check in the words of the plan: ``no check is called so. Did you mean …?``."""
    return re.sub(r"is called '.*?'\.", "is called so.", str(error))


def failed(error: ImportFailed) -> Errored:
    """The outcome of a run whose part cannot be imported."""
    return Errored(error="ImportFailed", message=str(error))


def source_settings(settings: Iterable[str], problems: list[str]) -> list[dict[str, Any]]:
    """``--set key=value`` pairs as tables; TOML that does not parse is a problem."""
    tables = []
    for setting in settings:
        try:
            tables.append(plain_toml(setting))
        except ValueError as error:
            problems.append(f"--set {setting}: expected a TOML key and value, {error}")
    return tables


def _merge(into: dict[str, Any], table: Mapping[str, Any]) -> None:
    """Lay a table over another, key by key and deep."""
    for key, value in table.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            into[key] = dict(into[key])
            _merge(into[key], value)
        else:
            into[key] = value
