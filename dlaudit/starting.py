"""Starts a user off: the plan behind options without a file, and ``dlaudit init``'s commented plan.

Knows what a first plan looks like; measures nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dlaudit.audit.evidence import write_whole
from dlaudit.audit.executor import Limits, ProcessExecutor
from dlaudit.audit.parameters import build, shown
from dlaudit.audit.perform import Opened
from dlaudit.audit.plan import Source
from dlaudit.audit.registry import ImportFailed, Registry
from dlaudit.errors import PlanError

TABLES = (".csv", ".parquet")


def table_for(
    model: str, weights: Path | None, data: str, suites: Iterable[str], *, train: object = None
) -> dict[str, Any]:
    """The tables of a plan for files named on the command line; all suites if none is named."""
    table: dict[str, Any] = {
        "model": model_table(model, weights),
        "data": {"args": {"file" if ".py:" in data else "path": data}},
        "suites": list(suites) or [part.name for part in Registry().parts("suites")],
    }
    if train is not None:
        table["data"]["train"] = {"args": {"path": str(train)}}
    return table


def model_table(model: str, weights: Path | None) -> dict[str, Any]:
    """The ``[model]`` of a plan for a file, or for ``file.py:name`` with or without weights."""
    if weights is not None:
        return {"use": "torch", "args": {"file": model, "weights": str(weights)}}
    return {"args": {"file" if ".py:" in model else "path": model}}


def write_plan(model: str, weights: Path | None, data: str, output: Path) -> str:
    """Look at model and data, write a commented plan that runs unchanged; what to do next.

    Raises PlanError if ``output`` exists (nothing is ever overwritten) or the files cannot be used.
    """
    if output.exists():
        message = f"{output}: exists already, and init never overwrites. Name another file with -o."
        raise PlanError(message)
    if not output.resolve().parent.is_dir():
        message = f"{output}: its folder does not exist"
        raise PlanError(message)
    table = table_for(model, weights, data, ())
    notes: list[str] = []
    if Path(data).suffix.lower() in TABLES:
        from dlaudit.datasets.tables import describe_table

        guessed = describe_table(Path(data))
        table["data"]["args"] |= guessed.args
        notes = list(guessed.notes)
    opened = looked_at(table)
    if opened.observed is not None and (bounds := likely_bounds(opened.observed)):
        table["model"]["args"]["bounds"] = bounds
        opened = looked_at(table)
    folder = output.resolve().parent
    for part, key in (
        ("model", "file"),
        ("model", "path"),
        ("model", "weights"),
        ("data", "path"),
        ("data", "file"),
    ):
        if key in table[part]["args"]:
            table[part]["args"][key] = moved(table[part]["args"][key], folder)
    write_whole(output, plan_text(table, opened, notes).encode())
    asked = "".join(f"\nTo be answered first: {question}" for question in opened.questions)
    return (
        f"Wrote {output}. `dlaudit plan {output}` shows what it can decide, "
        f"`dlaudit run {output}` runs it.{asked}"
    )


def looked_at(table: dict[str, Any]) -> Opened:
    """Open model and data in a worker, as a run would. Raises PlanError."""
    executor = ProcessExecutor(slots=1, limits=Limits())
    try:
        source = Source(root=str(Path.cwd()), label="these files", table=table, calibrate=True)
        return executor.prepare(source)
    finally:
        executor.close()


def moved(written: str, folder: Path) -> str:
    """A path (or ``file.py:name``) relative to the plan's folder."""
    path, colon, name = written.rpartition(":") if ".py:" in written else (written, "", "")
    return os.path.relpath(Path(path).resolve(), folder) + colon + name


def likely_bounds(observed: tuple[float, float]) -> list[float] | None:
    """[0, 1] or [0, 255] where the inputs fill such a range; None where that would be a guess."""
    low, high = observed
    for top in (1.0, 255.0):
        if low >= 0 and top / 2 < high <= top:
            return [0.0, top]
    return None


def plan_text(table: dict[str, Any], opened: Opened, notes: Iterable[str]) -> str:
    """The plan as TOML, each choice with its reason."""
    facts = opened.data.facts
    args = table["data"]["args"]
    name = Path(str(args.get("path") or args["file"])).stem
    suites, idle = fitting_suites(opened)
    lines = [
        "# A plan for dlaudit. What stands here decides what is measured and judged; its hash is",
        "# sealed before the first measurement. Docs: docs/first-audit.md.",
        f"name = {shown(name)}",
        "seed = 0                              # the same plan and seed give the same numbers",
        f"suites = {shown(suites)}",
        "default_rules = true                  # thresholds of the suites; replace them by your own below",
        *(f"# TO BE ANSWERED FIRST: {question}" for question in opened.questions),
        "",
        "[model]",
        f"use = {shown(opened.plan.model.use)}",
        f"args = {inline(table['model']['args'])}",
    ]
    if "bounds" not in table["model"]["args"]:
        lines.append(
            "# bounds = [low, high] in args: the valid range of inputs. Not declared, attacks assume none."
        )
    lines += [
        "",
        f"# {opened.sizes['test']} samples; classes: {few(opened.classes)}",
        "[data]",
        f"use = {shown(opened.plan.data['test'].use)}",
        f"args = {inline(table['data']['args'])}",
        *(f"# {note}" for note in notes),
        "# [data.train]                       # the training data: overfitting needs it",
        f"# use = {shown(opened.plan.data['test'].use)}",
        '# args = { path = "…" }',
        "",
    ]
    for run, reason in idle.items():
        lines += [f'[checks."{run}"]', f"enabled = false                       # {reason}", ""]
    if not facts.get("groups"):
        lines += ["# No groups are declared: nothing will be said about bias.", ""]
    lines += [
        "# [[rules]]                           # the gate opens only on rules that were shown to hold",
        '# run = "attacks.cascade"',
        '# measurement = "robust_accuracy"',
        "# at_least = 0.6",
        '# rationale = "agreed by …, on …"',
        "",
        "# [context]                           # declared facts, each with who declares it",
        '# provider = "…"',
        '# intended_purpose = "…"',
    ]
    return "\n".join(lines) + "\n"


def few(names: tuple[str, ...]) -> str:
    """The first ten names."""
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def inline(args: dict[str, Any]) -> str:
    """Arguments as an inline table of TOML."""
    return "{ " + ", ".join(f"{key} = {toml(value)}" for key, value in args.items()) + " }"


def toml(value: object) -> str:
    """A value in TOML, which writes tables otherwise than JSON."""
    if isinstance(value, dict):
        return inline(value)
    if isinstance(value, list):
        return "[" + ", ".join(toml(one) for one in value) + "]"
    return shown(int(value) if isinstance(value, float) and value.is_integer() else value)


def fitting_suites(opened: Opened) -> tuple[list[str], dict[str, str]]:
    """The suites of which something can run here, and why each of their other runs cannot."""
    registry = Registry()
    suites: list[str] = []
    idle: dict[str, str] = {}
    for part in registry.parts("suites"):
        reasons = {}
        runs = part.get().runs
        for run, params in runs.items():
            missing = missing_for(registry, run, dict(params), opened)
            if missing:
                reasons[run] = f"not offered: {', '.join(missing)}"
        if len(reasons) < len(runs):
            suites.append(part.name)
            idle |= reasons
    return suites, idle


def missing_for(
    registry: Registry, run: str, params: dict[str, Any], opened: Opened
) -> tuple[str, ...]:
    """What a run needs and does not get from this model and data."""
    try:
        check, _ = build(registry.check(params.pop("use", run)), params)
    except ImportFailed as error:
        return (str(error),)
    if check is None:
        return ("valid parameters",)
    return check.missing(
        model=frozenset(opened.offers["model"]),
        data=frozenset(opened.offers["data"]),
        train_fn=False,
    )
