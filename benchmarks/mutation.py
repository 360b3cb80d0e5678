"""Breaks the judge, the findings and the statistics in every small way, and counts what tests notice.

The mutations are cosmic-ray's (all of its operators that take no argument). Each broken module is
loaded in a forked process that already holds pytest, scipy and statsmodels, and there the tests run
that execute the broken line, fastest first, until one fails. No file of the working tree is touched.

    python benchmarks/mutation.py                 all mutants; writes docs/mutation.md
    python benchmarks/mutation.py --sample 100    a seeded sample, for CI; exit 1 below 90 %
    python benchmarks/mutation.py judge           one module, nothing written

Why a mutant survived stands in mutation_survivors.toml, by hand; one without a reason is listed so.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import gc
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
import tomllib
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["DLAUDIT_HYPOTHESIS"] = (
    "first"  # one failing example will do, it need not be the smallest
)

import click
import coverage
import pytest

ROOT = Path(__file__).parents[1]
REASONS = Path(__file__).with_name("mutation_survivors.toml")
PAGE = ROOT / "docs" / "mutation.md"
PACKAGE = "dlaudit.audit"
TESTS = {
    "judge": ("tests/audit/test_judge.py",),
    "findings": ("tests/audit/test_findings.py",),
    "statistics": (
        "tests/audit/test_statistics.py",
        "tests/audit/test_confidence_sequence.py",
        "tests/audit/test_two_samples_apart.py",
    ),
}
"""Module -> the tests that must notice; the slow coverage simulation is left out."""
PATIENCE = 10
"""A mutant that takes so many times, and seconds more, than the sound module is stuck: noticed."""
PROMISED = 0.9


class Mutant(NamedTuple):
    """One small break of one module."""

    module: str
    operator: str
    line: int
    before: str
    after: str
    code: str


class Tried(NamedTuple):
    """What the tests said to a mutant: ``killed``, ``stuck`` (noticed too) or ``survived``."""

    mutant: Mutant
    outcome: str
    seconds: float


class Known(NamedTuple):
    """A test: how long it takes and which lines of the module it executes."""

    id: str
    seconds: float
    lines: frozenset[int]


def source_of(module: str) -> str:
    """The module as it stands."""
    return (ROOT / "dlaudit" / "audit" / f"{module}.py").read_text(encoding="utf-8")


class Place(NamedTuple):
    """Where an operator of cosmic-ray applies, and for the how-manieth time."""

    module: str
    operator: str
    occurrence: int
    line: int


def places(module: str) -> Iterator[Place]:
    """Every place at which the module can be broken."""
    import parso.python.tree  # noqa: F401  (cosmic-ray's plug-ins import it in a circle otherwise)
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(source_of(module))))
    for name in sorted(operator_names()):
        kind = get_operator(name)
        if kind.arguments():
            continue
        found = [place for node in nodes for place in kind().mutation_positions(node)]
        for occurrence, ((line, _), _) in enumerate(found):
            yield Place(module, name, occurrence, line)


class Breaker:
    """Makes mutants, each behaviour once."""

    def __init__(self) -> None:
        """Nothing is broken yet. ``left_out`` counts by module what made no mutant."""
        self.left_out: dict[str, Counter[str]] = {}
        self._seen: dict[str, set[str]] = {}

    def mutant(self, place: Place) -> Mutant | None:
        """The module broken at a place; None if that is no Python or changes no behaviour."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        source = source_of(place.module)
        counts = self.left_out.setdefault(place.module, Counter())
        seen = self._seen.setdefault(place.module, set())
        code = mutate_code(source, get_operator(place.operator)(), place.occurrence)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                changed = behaviour(code)
        except SyntaxError:
            counts["are no Python"] += 1
            return None
        if changed == behaviour(source):
            counts["change annotations alone"] += 1
        elif changed in seen:
            counts["are the same as another"] += 1
        else:
            seen.add(changed)
            before, after = changed_lines(source, code)
            operator = place.operator.partition("/")[2]
            return Mutant(place.module, operator, place.line, before, after, code)
        return None


@cache
def behaviour(source: str) -> str:
    """The syntax tree without annotations, which are text and never evaluated in these modules."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef():
                node.returns = None
            case ast.arg():
                node.annotation = None
            case ast.AnnAssign():
                node.annotation = ast.Constant(value=None)
    return ast.dump(tree)


def changed_lines(source: str, code: str) -> tuple[str, str]:
    """The differing lines, before and after, without indentation."""
    lines = list(difflib.unified_diff(source.splitlines(), code.splitlines(), n=0))[2:]
    sides = (" ".join(o[1:].strip() for o in lines if o.startswith(sign)) for sign in ("-", "+"))
    before, after = sides
    return before, after


class Served(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module's code from memory when it is imported."""

    def __init__(self, module: str, code: str) -> None:
        """module: its name in the package; code: what to execute for it."""
        self.name, self.code = f"{PACKAGE}.{module}", code
        self.file = str(ROOT / "dlaudit" / "audit" / f"{module}.py")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Ours, if it is the one."""
        del path, target
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.file, loader=self)

    def exec_module(self, module: types.ModuleType) -> None:
        """Execute the code as if it stood in the file."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # `x is 0` is what was asked for
            code = compile(self.code, self.file, "exec")
        exec(code, module.__dict__)  # noqa: S102


class Chosen:
    """A pytest plug-in: these tests and no others, in this order."""

    def __init__(self, ids: Sequence[str]) -> None:
        """ids: of pytest."""
        self.ids = ids

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep and order. None are there if the broken module cannot be imported."""
        by_id = {item.nodeid: item for item in items}
        items[:] = [by_id[one] for one in self.ids if one in by_id]


class Watch:
    """A pytest plug-in: how long each test takes, and under its name which lines it executes."""

    def __init__(self, watch: coverage.Coverage) -> None:
        """watch: started, of one file."""
        self.watch = watch
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Set the clock and the context around one test."""
        self.watch.switch_context(item.nodeid)
        start = time.perf_counter()
        result = yield
        self.seconds[item.nodeid] = time.perf_counter() - start
        self.watch.switch_context("")
        return result


def pytest_run(module: str, *plugins: object) -> int:
    """The module's tests in this process, until the first failure."""
    # hypothesis is imported before pytest could rewrite its assertions, and need not be rewritten.
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--assert=plain", *quiet]
    return int(pytest.main([*options, *TESTS[module]], plugins=list(plugins)))


def in_a_fork(work: Callable[[], int], *, limit: float = 600) -> int:
    """The exit code of ``work`` in a silent copy of this process; -1 if it took longer."""
    gc.freeze()  # what is loaded stays shared: the copy need not look through it for garbage
    if (child := os.fork()) == 0:
        signal.alarm(math.ceil(limit))
        code = 99
        with contextlib.suppress(BaseException), Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            code = work()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else -1


def known_tests(module: str) -> tuple[list[Known], frozenset[int]]:
    """The tests, fastest first, and the lines that importing the module executes."""
    with tempfile.NamedTemporaryFile(suffix=".json") as told:

        def work() -> int:
            file = str(ROOT / "dlaudit" / "audit" / f"{module}.py")
            watch = coverage.Coverage(include=[file], data_file=None, config_file=False)
            watcher = Watch(watch)
            watch.start()
            code = pytest_run(module, watcher)
            watch.stop()
            by_line = watch.get_data().contexts_by_lineno(file)
            Path(told.name).write_text(json.dumps([watcher.seconds, list(by_line.items())]))
            return code

        if code := in_a_fork(work):
            message = f"the tests of {module} fail before anything is broken (pytest exit {code})"
            raise click.ClickException(message)
        seconds, by_line = json.loads(Path(told.name).read_text())
    lines: dict[str, set[int]] = {test: set() for test in ["", *seconds]}
    for line, tests in by_line:
        for test in tests:
            lines[test].add(line)
    imported = frozenset(lines.pop(""))
    tests = [Known(test, seconds[test], frozenset(lines[test])) for test in lines]
    return sorted(tests, key=lambda test: test.seconds), imported


def attempt(mutant: Mutant, tests: Sequence[Known], imported: frozenset[int]) -> Tried:
    """Let the tests that execute the broken line look at it."""
    broken = statement_lines(mutant)
    everywhere = broken & imported
    ids = [test.id for test in tests if everywhere or test.lines & broken]

    def work() -> int:
        for name in [name for name in sys.modules if name.partition(".")[0] == "dlaudit"]:
            del sys.modules[name]
        sys.meta_path.insert(0, Served(mutant.module, mutant.code))
        return pytest_run(mutant.module, Chosen(ids))

    limit = PATIENCE * (1 + sum(test.seconds for test in tests if test.id in ids))
    start = time.monotonic()
    code = in_a_fork(work, limit=limit) if ids else 0
    if code not in OUTCOMES:
        message = f"pytest ended with {code} on {mutant.module}:{mutant.line} {mutant.after}"
        raise click.ClickException(message)
    return Tried(mutant, OUTCOMES[code], round(time.monotonic() - start, 2))


OUTCOMES = {0: "survived", 1: "killed", 2: "killed", -1: "stuck"}
"""What pytest's exit code says; 2 is a module that cannot even be imported."""


def statement_lines(mutant: Mutant) -> set[int]:
    """The lines of the smallest statement around the break: coverage names its first line."""
    tree = ast.parse(source_of(mutant.module))
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= mutant.line <= (node.end_lineno or 0)
    ]
    smallest = min(around, key=lambda node: (node.end_lineno or 0) - node.lineno)
    last = smallest.body[0].lineno - 1 if hasattr(smallest, "body") else smallest.end_lineno
    return set(range(smallest.lineno, max(smallest.lineno, last or 0) + 1))


def reasons() -> dict[tuple[str, str], str]:
    """(module, line after the mutation) -> why no test can or should notice."""
    written: dict[str, Any] = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    return {
        (group["module"], line): group["reason"]
        for group in written.get("survivors", [])
        for line in group["lines"]
    }


class Log:
    """The outcomes so far, one JSON line each: what was noticed once need not be tried again."""

    def __init__(self, path: Path | None) -> None:
        """path: appended to; None keeps nothing."""
        self.path = path
        lines = path.read_text().splitlines() if path and path.exists() else []
        self.noticed = {
            digest: (outcome, seconds)
            for digest, outcome, seconds in map(json.loads, lines)
            if outcome != "survived"
        }

    def attempt(self, mutant: Mutant, tests: Sequence[Known], imported: frozenset[int]) -> Tried:
        """The stored outcome if this very code was noticed before, else a new one."""
        digest = hashlib.sha256(mutant.code.encode()).hexdigest()
        if digest in self.noticed:
            return Tried(mutant, *self.noticed[digest])
        tried = attempt(mutant, tests, imported)
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps([digest, tried.outcome, tried.seconds]) + "\n")
        return tried


def score(tried: Sequence[Tried]) -> float:
    """The share that was noticed."""
    return sum(one.outcome != "survived" for one in tried) / len(tried)


def table(tried: Sequence[Tried]) -> str:
    """Counts per module."""
    lines = [
        "| module | mutants | killed | stuck | survived | score |",
        "|---|---|---|---|---|---|",
    ]
    for module in [*TESTS, "all"]:
        of = [one for one in tried if module in {one.mutant.module, "all"}]
        if of:
            count = Counter(one.outcome for one in of)
            lines.append(
                f"| {module} | {len(of)} | {count['killed']} | {count['stuck']} "
                f"| {count['survived']} | {100 * score(of):.1f} % |"
            )
    return "\n".join(lines)


def survivors(tried: Sequence[Tried]) -> str:
    """Those that nothing noticed, grouped by the reason."""
    why = reasons()
    grouped: dict[tuple[str, str], list[Mutant]] = {}
    for mutant in (one.mutant for one in tried if one.outcome == "survived"):
        reason = why.get((mutant.module, mutant.after), "**No reason given: a test is missing.**")
        grouped.setdefault((mutant.module, reason), []).append(mutant)
    parts = []
    for (module, reason), group in sorted(grouped.items()):
        shown = "\n".join(f"- {mutant.before}\n+ {mutant.after}" for mutant in group)
        mutants = f"<!-- skip: to be read -->\n```diff\n{shown}\n```"
        parts.append(f"**{module}**, {len(group)}: {reason}\n\n{mutants}")
    return "\n\n".join(parts) or "None."


def page(tried: Sequence[Tried], left_out: dict[str, Counter[str]]) -> str:
    """The whole of docs/mutation.md."""
    minutes = sum(one.seconds for one in tried) / 60
    omitted = "\n".join(
        f"- {module}: " + ", ".join(f"{count} {why}" for why, count in sorted(counts.items()))
        for module, counts in left_out.items()
    )
    return f"""# What the tests notice

Coverage says which lines the tests execute, not whether they would notice a mistake there. So the
three modules that decide an audit's outcome are broken in every small way that cosmic-ray knows (an
operator exchanged, a number moved by one, a condition negated, a loop skipped), one at a time, and
the tests run on each broken version. The promise is that at least {100 * PROMISED:.0f} % are noticed.

<!-- skip: takes half an hour -->
```bash
python benchmarks/mutation.py                # this page; {minutes:.0f} minutes on one core
python benchmarks/mutation.py --sample 100   # a seeded sample, for CI
```

{table(tried)}

A *stuck* mutant never came to an end and was stopped: noticed too. Only the fast tests run, not the
simulation of coverage. Not counted, because they are no mutants of behaviour:

{omitted}

## Survivors, and why

{survivors(tried)}
"""


@click.command()
@click.argument("modules", nargs=-1, type=click.Choice(list(TESTS)))
@click.option(
    "--sample", type=click.IntRange(1), help="At most so many mutants, drawn with a seed."
)
@click.option("--log", type=click.Path(path_type=Path), help="Append outcomes here; go on from it.")
def main(modules: tuple[str, ...], sample: int | None, log: Path | None) -> None:
    """Break the modules (default: all) and count what the tests notice."""
    os.chdir(ROOT)
    preload()
    chosen = modules or tuple(TESTS)
    everywhere = [place for module in chosen for place in places(module)]
    if sample:
        random.Random(20261123).shuffle(everywhere)  # noqa: S311  (no secret)
    breaker = Breaker()
    todo = list(islice(filter(None, map(breaker.mutant, everywhere)), sample))
    tests = {module: known_tests(module) for module in chosen}
    tried, book = [], Log(log)
    for number, mutant in enumerate(todo, 1):
        tried.append(book.attempt(mutant, *tests[mutant.module]))
        if tried[-1].outcome == "survived" or number % 50 == 0:
            print(f"{number}/{len(todo)} {tried[-1].outcome} {mutant.module}:{mutant.line} "
                  f"{mutant.after}", file=sys.stderr, flush=True)  # fmt: skip
    print(table(tried), survivors(tried), sep="\n\n")
    if not sample and not modules:
        PAGE.write_text(page(tried, breaker.left_out), encoding="utf-8")
    if score(tried) < PROMISED:
        raise SystemExit(1)


def preload() -> None:
    """Import what is slow and not under test once, before anything forks."""
    import hypothesis
    import jsonschema
    import scipy.stats
    import statsmodels.stats.contingency_tables
    import statsmodels.stats.multitest
    import statsmodels.stats.proportion
    import statsmodels.stats.weightstats

    del hypothesis, jsonschema, scipy, statsmodels


if __name__ == "__main__":
    main()
