"""A plan is read whole or refused whole, with every mistake named, before anything is measured."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlaudit import Attack, Check, Epsilon
from dlaudit.audit.parts import Suite
from dlaudit.audit.plan import Plan, Source, source_of
from dlaudit.audit.plan_reading import read
from dlaudit.audit.plan_rules import numbered
from dlaudit.audit.record import Rule, canonical
from dlaudit.audit.registry import Part, Registry
from dlaudit.cli import explained
from dlaudit.errors import PlanError

SOUND = """
name = "toy"
seed = 7
model.use = "toy.model"
data.use = "toy.data"
checks."toy.accuracy" = {}
"""


class Cascade(Attack, frozen=True, kw_only=True):
    """Stands for an attack whose measurements are those of every attack."""


class Wide(Check, frozen=True, kw_only=True):
    """A check with a parameter of every kind that a plan can hold."""

    measures: ClassVar[tuple[str, ...]] = ("share",)

    share: float = 0.5
    steps: int = 3
    epsilon: Epsilon = Epsilon(0.1)
    names: list[str] | None = None
    needed: int


class Dear(Check, frozen=True, kw_only=True):
    """A check whose cost can be set."""

    measures: ClassVar[tuple[str, ...]] = ("share",)

    budget: int | None = None


def registry_of(plug: Path, *more: Part) -> Registry:
    registry = Registry((plug,))
    registry._parts |= {(part.group, part.name): part for part in more}
    return registry


@pytest.fixture(scope="module")
def registry(plug: Path) -> Registry:
    """The toy parts, a stand-in for attacks that this file speaks of, and parts that are broken."""

    def raising() -> Any:
        raise ImportError("planted")

    cascade = Part("attacks", "attacks.cascade", "this test", lambda: Cascade)
    pgd = Part("attacks", "attacks.pgd", "this test", lambda: Cascade)
    wide = Part("checks", "toy.wide", "this test", lambda: Wide)
    dear = Part("checks", "toy.dear", "this test", lambda: Dear)
    broken = Part("checks", "toy.unimportable", "this test", raising)
    ruled = Suite(
        name="half", runs={"toy.unimportable": {}, "toy.accuracy": {}},
        rules=tuple(
            Rule(id="", run=run, measurement="accuracy", at_least=0.5)
            for run in ("toy.unimportable", "toy.accuracy")
        ),
    )  # fmt: skip
    half = Part("suites", "half", "this test", lambda: ruled)
    gone = Part("suites", "gone", "this test", raising)
    no_suite = Part("suites", "no_suite", "this test", lambda: 3)
    return registry_of(plug, cascade, pgd, wide, dear, broken, half, gone, no_suite)


def plan_of(text: str, registry: Registry, *, root: Path | str = "/", **options: Any) -> Plan:
    return read(Source(root=str(root), table=tomllib.loads(text), **options), registry)


def problems_of(text: str, registry: Registry, **options: Any) -> tuple[str, ...]:
    with pytest.raises(PlanError) as caught:
        plan_of(text, registry, **options)
    return caught.value.problems


def test_the_example_of_a_bad_plan_is_told_word_for_word(
    tmp_path: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "audit.toml").write_text("""
        name = "bad"
        [model]
        use = "toy.model"
        [data]
        use = "toy.data"
        [checks."attacks.pgd"]
        epsilon = "8/25S"
        [checks."attacks.pdg"]
        [checks."attacks.cascade"]
        [[rules]]
        run = "attacks.cascade"
        measurement = "clean_accuracy"
        at_least = 0.9
        [[rules]]
        run = "attacks.cascade"
        measurement = "inputs_moved"
        at_least = 0.9
        [[rules]]
        run = "attacks.cascade"
        measurement = "robust_acuracy"
        at_least = 0.6
    """)
    with pytest.raises(PlanError) as caught:
        read(source_of(tmp_path / "audit.toml"), registry)
    caught.value.label = "audit.toml"
    assert explained(caught.value) == 2
    said = capsys.readouterr()
    assert not said.out
    assert said.err == (
        "Error: audit.toml cannot be run:\n"
        '  checks."attacks.pgd".epsilon: expected a number >= 0 or "a/b", got "8/25S"\n'
        '  checks."attacks.pdg": no check is called so. Did you mean attacks.pgd?\n'
        "  rules[2].measurement: attacks.cascade measures no 'robust_acuracy'. "
        "Did you mean robust_accuracy?\n"
    )


RULE = 'rules = [{ run = "toy.accuracy", measurement = "accuracy", '
WAIVER = 'waivers."toy.accuracy" = { owner = "o", reason = "r", until = '
DECLARED = 'declarations = [{ requirement = "aia:art15-99", '

BAD: list[tuple[str, str, tuple[str, ...]]] = [
    # what is wrong, the plan's lines (laid over SOUND), what each problem must say
    ("a key that does not exist", "modle = 3", ("modle: no such key. Did you mean model?",)),
    ("text for a number", 'seed = "7"', ("seed: expected a whole number, got", '"7"')),
    ("a negative seed", "seed = -1", ("seed: expected a whole number >= 0, got -1",)),
    ("a fraction for a seed", "seed = 1.5", ("seed: expected a whole number, got",)),
    ("true for a seed", "seed = true", ("seed: expected a whole number, got true",)),
    ("text for a switch", 'default_rules = "no"', ("default_rules: expected true or false, got",)),
    ("a number for a name", "name = 3", ("name: expected text, got",)),
    ("one suite that is no list", 'suites = "half"', ("suites: expected a list, got",)),
    ("an unknown suite", 'suites = ["hlaf"]', ("suites[0]: no suite", "Did you mean half?")),
    ("what is no suite", 'suites = ["half", "no_suite"]', ("suites[1]: no_suite is no Suite",)),
    ("a model that is a file", 'model = "net.py"', ("model: expected a table", '"net.py"')),
    ("an unknown model loader", 'model.use = "toy.modle"',
     ("model.use: no model is called 'toy.modle'. Did you mean toy.model?",)),
    ("a number for a loader", "model.use = 3", ("model.use: expected a loader's name, got 3",)),
    ("arguments that are no table", "model.args = 3", ("model.args: expected a table, got 3",)),
    ("an unknown argument", 'model.args.fualt = "nan"',
     ("model.args.fualt: toy.model takes no such argument. Did you mean fault?",)),
    ("a choice that is none", 'model.args.fault = "exceptoin"',
     ("model.args.fault: expected one of none, exception", "Did you mean exception?")),
    ("an unknown key of a loader", "model.path = 3", ("model.path: no such key", "args")),
    ("a loader that cannot be told", 'model.use = ""', ("model.use: which loader?",)),
    ("a second model's mistake", 'models.surrogate.use = "toy.mdoel"',
     ("models.surrogate.use: no model", "Did you mean toy.model?")),
    ("models that are no table", "models = [1]", ("models: expected a table, got [1]",)),
    ("an unknown data loader", 'data.use = "toy.dat"', ("data.use: no dataset", "toy.data?")),
    ("text for a count", 'data.args.n = "many"', ("data.args.n: expected a whole number, got",)),
    ("a second split's mistake", 'data.train.use = "toy.dota"', ("data.train.use: no dataset",)),
    ("a second split's argument", 'data.train = { use = "toy.data", args = { m = 3 } }',
     ("data.train.args.m: toy.data takes no such argument",)),
    ("the test split twice", 'data.test.use = "toy.data"', ("data.test:", "[data] itself")),
    ("a key beside the splits", "data.path = 3", ("data.path: no such key",)),
    ("a check that is no table", 'checks."toy.accuracy" = 3',
     ('checks."toy.accuracy": expected a table, got 3',)),
    ("an unknown check", 'checks."toy.acuracy" = {}',
     ('checks."toy.acuracy": no check is called so. Did you mean toy.accuracy?',)),
    ("an unknown use", 'checks.mine.use = "toy.acuracy"',
     ('checks."mine".use: no check is called so. Did you mean toy.accuracy?',)),
    ("a number for a check", "checks.mine.use = 3", ('checks."mine".use: expected text, got', "3")),
    ("an unknown parameter", 'checks."toy.wide" = { needed = 1, step = 3 }',
     ('checks."toy.wide".step: toy.wide has no such parameter. Did you mean steps?',)),
    ("a parameter's type", 'checks."toy.wide" = { needed = 1, steps = "3" }',
     ('checks."toy.wide".steps: expected a whole number, got',)),
    ("an element's type", 'checks."toy.wide" = { needed = 1, names = ["a", 3] }',
     ('checks."toy.wide".names: expected text, got', "(at [1])")),
    ("a missing parameter", 'checks."toy.wide" = {}', ('checks."toy.wide".needed: is required',)),
    ("a switch that is text", 'checks."toy.accuracy".enabled = "no"',
     ('checks."toy.accuracy".enabled: expected true or false, got',)),
    ("a negative budget", 'checks."attacks.pgd".epsilon = -1',
     ('checks."attacks.pgd".epsilon: expected a number >= 0 or "a/b", got -1',)),
    ("an empty curve", 'checks."attacks.pgd".epsilon = []', ("epsilon: expected", "an empty list")),
    ("a budget over nothing", 'checks."attacks.pgd".epsilon = "8/0"', ('got "8/0"',)),
    ("an unknown norm", 'checks."attacks.pgd".norm = "l_2"',
     ('checks."attacks.pgd".norm: expected one of linf, l2, l1, l0, patch, got "l_2"', "mean l2?")),
    ("what a check refuses itself", 'checks."attacks.pgd".samples = 0',
     ('checks."attacks.pgd": samples: expected a number >= 1, got 0',)),
    ("rules that are no list", 'rules = { run = "toy.accuracy" }', ("rules: expected [[rules]]",)),
    ("a rule that is no table", "rules = [3]", ("rules[0]: expected a table, got 3",)),
    ("a rule of nothing", "rules = [{ at_least = 1 }]",
     ("rules[0].run: is required", "rules[0].measurement: is required")),
    ("a rule of no run", 'rules = [{ run = "toy.acuracy", measurement = "accuracy", at_least = 1 }]',
     ("rules[0].run: no run is called 'toy.acuracy'. Did you mean toy.accuracy?",)),
    ("a rule of no number", 'rules = [{ run = "toy.accuracy", measurement = "acuracy", at_least = 1 }]',
     ("rules[0].measurement: toy.accuracy measures no 'acuracy'. Did you mean accuracy?",)),
    ("two thresholds",
     RULE + "at_least = 1, at_most = 2 }]",
     ("rules[0]: expected exactly one of at_least and at_most",)),
    ("no threshold", 'rules = [{ run = "toy.accuracy", measurement = "accuracy" }]',
     ("rules[0]: expected exactly one of at_least and at_most",)),
    ("a threshold that is text",
     RULE + 'at_least = "high" }]',
     ("rules[0].at_least: expected a number", '"high"')),
    ("a threshold that is no number",
     RULE + "at_least = nan }]",
     ("rules[0]", "finite threshold")),
    ("a level beyond one",
     RULE + "at_least = 1, level = 95 }]",
     ("rules[0]", "level between 0 and 1", "95")),
    ("a rule's unknown key",
     RULE + "atleast = 1 }]",
     ("rules[0].atleast: no such key. Did you mean at_least?", "rules[0]: expected exactly one of")),
    ("a slice that is no text",
     RULE + "at_least = 1, slice = { site = 3 } }]",
     ("rules[0].slice: expected text, got",)),
    ("a condition that is a list",
     RULE + "at_least = 1, conditions = { steps = [3] } }]",
     ("rules[0].conditions: expected",)),
    ("a condition's budget",
     RULE + 'at_least = 1, conditions = { epsilon = "8/25S" } }]',
     ('rules[0].conditions.epsilon: expected a number >= 0 or "a/b", got "8/25S"',)),
    ("an unknown requirement",
     RULE + 'at_least = 1, requirements = ["aia:art15-9"] }]',
     ("rules[0].requirements: no requirement is called 'aia:art15-9'.",)),
    ("a waiver without an owner", 'waivers."toy.accuracy" = { reason = "r", until = 2099-01-31 }',
     ('waivers."toy.accuracy".owner: is required',)),
    ("a waiver of nobody", 'waivers."toy.accuracy" = { owner = "", reason = "r", until = 2099-01-31 }',
     ('waivers."toy.accuracy".owner: is required',)),
    ("a waiver without an end", 'waivers."toy.accuracy" = { owner = "o", reason = "r" }',
     ('waivers."toy.accuracy".until: is required',)),
    ("an end that is no day",
     WAIVER + '"soon" }',
     ('waivers."toy.accuracy".until: ', '"soon"')),
    ("an end that is an hour",
     WAIVER + "2099-01-31T10:00:00 }",
     ('waivers."toy.accuracy".until: ', "2099-01-31T10:00:00")),
    ("a waiver for no run", 'waivers."toy.acuracy" = { owner = "o", reason = "r", until = 2099-01-31 }',
     ('waivers."toy.acuracy": no run is called so. Did you mean toy.accuracy?',)),
    ("a waiver's unknown key",
     WAIVER + '2099-01-31, who = "me" }',
     ('waivers."toy.accuracy".who: no such key.',)),
    ("a waiver that is text", 'waivers."toy.accuracy" = "please"',
     ('waivers."toy.accuracy": expected a table with owner, reason and until',)),
    ("waivers that are no table", "waivers = 3", ("waivers: expected a table, got 3",)),
    ("declarations that are no list", "declarations = 3", ("declarations: expected [[declarations]]",)),
    ("a declaration without words", 'declarations = [{ requirement = "aia:art15-1" }]',
     ("declarations[0]: who is required",)),
    ("a declaration of nothing",
     DECLARED + 'who = "w", role = "r", statement = "s", date = 2026-01-01 }]',
     ("declarations[0].requirement: no requirement is called 'aia:art15-99'.",)),
    ("an unknown catalogue", 'catalogues = ["eu_ai_ct"]', ("catalogues[0]: no catalogue", "eu_ai_act?")),
    ("fewer samples than none", "keep_samples = -1", ("keep_samples: expected a whole number >= 0",)),
    ("an empty block", "block = 0", ("block: expected a whole number >= 1, got 0",)),
    ("an empty subset", "max_samples = 0", ("max_samples: expected a whole number >= 1, got 0",)),
    ("training without a function", 'train.factory = "train.py"',
     ('train.factory: expected "file.py:function", got "train.py"',)),
    ("training with more", 'train = { factory = "train.py:f", epochs = 3 }', ("train.epochs: no such key",)),
    ("a context that is no table", "context = 3", ("context: expected a table, got 3",)),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "said"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_mistake_is_told_with_its_place_what_was_expected_and_what_was_got(
    lines: str, said: tuple[str, ...], registry: Registry
) -> None:
    problems = problems_of(SOUND, registry, settings=tuple(lines.splitlines()))
    assert all(any(part in problem for problem in problems) for part in said), problems
    assert all(any(part in problem for part in said) for problem in problems), problems


def test_all_mistakes_of_all_sections_are_told_together(registry: Registry) -> None:
    sections = {lines.partition(".")[0].split(" ")[0]: (lines, said) for _, lines, said in BAD}
    del sections["catalogues"]  # without it, no requirement is known
    settings = tuple(line for lines, _ in sections.values() for line in lines.splitlines())
    problems = problems_of(SOUND, registry, settings=settings)
    assert len(problems) >= len(sections) > 15
    for _, said in sections.values():
        assert all(any(part in problem for problem in problems) for part in said), said


def test_without_model_data_and_checks_each_is_asked_for(registry: Registry) -> None:
    problems = problems_of("", registry)
    assert [problem.partition(":")[0] for problem in problems] == ["model", "data"]
    problems = problems_of('model.use = "toy.model"\ndata.use = "toy.data"', registry)
    (problem,) = problems
    assert problem.startswith("nothing to run: name suites (")
    assert "half" in problem


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "expected a plan (TOML), found nothing. `dlaudit init` writes one."),
        (b"seed = ", "audit.toml cannot be read as TOML"),
        (b"name = '\xff'", "audit.toml cannot be read as TOML"),
        (b"seed = 9223372036854775808", "9223372036854775808 is beyond the 64 bits"),
        (b"rules = [{ at_least = -9223372036854775809 }]", "beyond the 64 bits"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(
    content: bytes | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "audit.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlanError) as caught:
        source_of(path)
    assert said in str(caught.value)


def test_a_folder_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="found a folder"):
        source_of(tmp_path)


# -- what overrides a plan ---------------------------------------------------------------------------


def test_settings_are_laid_over_the_plan_deep_and_in_order(registry: Registry) -> None:
    plan = plan_of(
        SOUND, registry,
        settings=("seed = 1", 'checks."toy.accuracy".fault = "nan"', "seed = 2",
                  "data.args = { n = 12 }", "data.args.n = 24"),
    )  # fmt: skip
    assert plan.seed == 2
    assert plan.runs[0].params["fault"] == "nan"
    assert plan.data["test"].args == {"n": 24}


def test_settings_leave_the_table_they_are_laid_over_alone(registry: Registry) -> None:
    table = tomllib.loads(SOUND)
    source = Source(
        root="/", table=table, settings=('checks."toy.accuracy".fault = "nan"', "seed = 1")
    )
    read(source, registry)
    assert table == tomllib.loads(SOUND)


@pytest.mark.parametrize("setting", ["seed", "seed = ", "= 3", "seed = 99999999999999999999"])
def test_a_setting_that_is_no_toml_is_told(setting: str, registry: Registry) -> None:
    (problem,) = problems_of(SOUND, registry, settings=(setting,))
    assert problem.startswith(f"--set {setting}: expected a TOML key and value")


TWO_RUNS = """
suites = ["toy.ruled"]
model.use = "toy.model"
data.use = "toy.data"
checks.second.use = "toy.accuracy"
[[rules]]
run = "second"
measurement = "accuracy"
at_least = 0.5
[waivers.second]
owner = "o"
reason = "r"
until = 2099-01-31
"""


def test_check_and_skip_leave_out_runs_with_their_rules_and_waivers(registry: Registry) -> None:
    whole = plan_of(TWO_RUNS, registry)
    assert [run.id for run in whole.runs] == ["toy.accuracy", "second"]
    assert [rule.run for rule in whole.rules] == ["second", "toy.accuracy"]
    for options in ({"only": ("toy.accuracy",)}, {"skip": ("second",)}):
        plan = plan_of(TWO_RUNS, registry, **options)
        assert [run.id for run in plan.runs] == ["toy.accuracy"]
        assert [rule.run for rule in plan.rules] == ["toy.accuracy"]
        assert not plan.waivers
    other = plan_of(TWO_RUNS, registry, only=("second",))
    assert [run.id for run in other.runs] == ["second"]
    assert [waiver.run for waiver in other.waivers] == ["second"]


def test_check_adds_a_check_that_the_plan_does_not_name(registry: Registry) -> None:
    plan = plan_of(SOUND, registry, only=("attacks.cascade",))
    assert [run.id for run in plan.runs] == ["attacks.cascade"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"only": ("toy.acuracy",)}, "--check toy.acuracy: no run is called so. Did you mean toy.accuracy?"),
        ({"skip": ("attacks.cascade",)}, "--skip attacks.cascade: no run is called so."),
        ({"formats": ("htlm",)}, "--format: no renderer is called 'htlm'. Did you mean html?"),
    ],
)  # fmt: skip
def test_an_option_that_names_nothing_is_told(
    options: dict[str, Any], said: str, registry: Registry
) -> None:
    (problem,) = problems_of(SOUND, registry, **options)
    assert problem.startswith(said)


def test_a_mistake_in_a_rule_is_told_also_where_its_run_is_left_out(registry: Registry) -> None:
    plan = TWO_RUNS.replace('run = "second"', 'run = "secnod"')
    (problem,) = problems_of(plan, registry, only=("toy.accuracy",))
    assert problem == "rules[0].run: no run is called 'secnod'. Did you mean second?"


def test_a_run_that_is_not_enabled_is_dropped(registry: Registry) -> None:
    plan = plan_of(TWO_RUNS, registry, settings=('checks."toy.accuracy".enabled = false',))
    assert [run.id for run in plan.runs] == ["second"]
    assert [rule.run for rule in plan.rules] == ["second"]


# -- rules -----------------------------------------------------------------------------------------


def test_a_suites_own_rules_speak_only_of_runs_without_a_rule_in_the_plan(
    registry: Registry,
) -> None:
    own = plan_of(
        'suites = ["toy.ruled"]\nmodel.use = "toy.model"\ndata.use = "toy.data"', registry
    )
    (rule,) = own.rules
    assert (rule.id, rule.origin, rule.at_least) == ("toy.accuracy.accuracy", "suite:ruled", 0.5)
    stricter = 'rules = [{ run = "toy.accuracy", measurement = "accuracy", at_least = 0.9 }]'
    table = 'suites = ["toy.ruled"]\nmodel.use = "toy.model"\ndata.use = "toy.data"\n'
    (rule,) = plan_of(table + stricter, registry).rules
    assert (rule.origin, rule.at_least) == ("plan", 0.9)
    assert not plan_of(table + "default_rules = false", registry).rules


def test_rules_are_numbered_in_file_order() -> None:
    def rule(id: str = "", run: str = "a", measurement: str = "m") -> Rule:
        return Rule(id=id, run=run, measurement=measurement, at_least=0)

    found = numbered([rule(), rule(id="mine"), rule(), rule(run="b"), rule(), rule(id="mine")])
    assert [one.id for one in found] == ["a.m", "mine", "a.m-2", "b.m", "a.m-3", "mine-2"]


@given(st.lists(st.sampled_from(["", "a.m", "a.m-2", "x"])))
def test_no_two_rules_share_an_id(ids: list[str]) -> None:
    rules = [Rule(id=one, run="a", measurement="m", at_least=0) for one in ids]
    found = [rule.id for rule in numbered(rules)]
    assert len(set(found)) == len(ids)
    assert "" not in found


def test_a_budget_goes_to_every_check_that_takes_one_and_sets_none_itself(
    registry: Registry,
) -> None:
    more = ('checks."toy.dear" = {}', 'checks."own" = { use = "toy.dear", budget = 3 }')
    plan = plan_of(SOUND, registry, settings=(*more, "budget = 40"))
    assert {run.id: run.params.get("budget") for run in plan.runs} == {
        "toy.accuracy": None, "toy.dear": 40, "own": 3,
    }  # fmt: skip
    with pytest.raises(PlanError, match="budget: no check of this plan has a parameter"):
        plan_of(SOUND, registry, settings=("budget = 40",))
    with pytest.raises(PlanError, match="budget: expected a whole number >= 1, got 0"):
        plan_of(SOUND, registry, settings=(more[0], "budget = 0"))


def test_a_condition_may_be_written_as_a_fraction(registry: Registry) -> None:
    rule = (
        'rules = [{ run = "attacks.pgd", measurement = "robust_accuracy", at_least = 0.5, '
        'conditions = { epsilon = "8/255" } }]'
    )
    plan = plan_of(SOUND, registry, settings=('checks."attacks.pgd" = {}', rule))
    assert plan.rules[0].conditions == {"epsilon": 8 / 255}


@pytest.mark.parametrize("written", ['"2099-01-31"', "2099-01-31"])
def test_a_waiver_reads_alike_as_a_day_and_as_text(
    written: str, registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "audit.toml").write_text(
        f'{SOUND}waivers."toy.accuracy" = {{ owner = "o", reason = "r", until = {written} }}\n'
    )
    source = source_of(tmp_path / "audit.toml")
    travelled = msgspec.msgpack.decode(msgspec.msgpack.encode(source), type=Source)
    for one in (source, travelled):
        (waiver,) = read(one, registry).waivers
        assert waiver.until.isoformat() == "2099-01-31"
    assert read(source, registry).sha256 == read(travelled, registry).sha256


# -- parts that exist but are broken ---------------------------------------------------------------


def test_a_check_that_cannot_be_imported_or_built_is_a_broken_run_whose_rules_stay(
    registry: Registry,
) -> None:
    plan = plan_of(
        SOUND, registry,
        settings=('suites = ["half"]', 'checks.built = { use = "toy.accuracy", fault = "build" }'),
    )  # fmt: skip
    by_id = {run.id: run.broken for run in plan.runs}
    assert by_id["toy.accuracy"] is None
    for run in ("toy.unimportable", "built"):
        assert by_id[run] is not None
        assert by_id[run].error == "ImportFailed"
        assert "planted" in by_id[run].message
    assert {rule.run for rule in plan.rules} == {"toy.unimportable", "toy.accuracy"}


def test_a_suite_that_cannot_be_imported_is_a_broken_run_of_its_name(registry: Registry) -> None:
    plan = plan_of(
        SOUND, registry,
        settings=('suites = ["gone"]',
                  'rules = [{ run = "gone.check", measurement = "share", at_least = 0.5 }]',
                  'waivers."gone.check" = { owner = "o", reason = "r", until = 2099-01-31 }'),
    )  # fmt: skip
    assert [(run.id, run.broken and run.broken.error) for run in plan.runs] == [
        ("toy.accuracy", None), ("gone", "ImportFailed"),
    ]  # fmt: skip
    assert [rule.run for rule in plan.rules] == ["gone.check"], "its runs cannot be known"
    assert [waiver.run for waiver in plan.waivers] == ["gone.check"]


def test_a_broken_suite_can_be_left_out(registry: Registry) -> None:
    settings = ('suites = ["gone"]',)
    for options in ({"only": ("toy.accuracy",)}, {"skip": ("gone",)}):
        plan = plan_of(SOUND, registry, settings=settings, **options)
        assert [run.id for run in plan.runs] == ["toy.accuracy"]
    plan = plan_of(SOUND, registry, settings=settings, only=("gone",))
    assert [run.id for run in plan.runs] == ["gone"]


@pytest.mark.parametrize(
    ("kind", "default"),
    [(complex, 1j), (object, object()), ("NoSuchType", None), (float, 1j), (str, object())],
)
def test_a_check_whose_parameters_cannot_be_written_down_is_a_broken_run(
    kind: Any, default: Any, plug: Path
) -> None:
    body = {"__annotations__": {"odd": kind}, "odd": default, "measures": ("share",)}
    odd = type("Odd", (Check,), body, frozen=True, kw_only=True)
    registry = registry_of(plug, Part("checks", "toy.odd", "this test", lambda: odd))
    for params in ("{}", "{ odd = 3 }")[: 1 if kind in {float, str} else 2]:
        plan = plan_of(SOUND, registry, settings=(f'checks."toy.odd" = {params}',))
        broken = plan.runs[1].broken
        assert broken is not None
        assert broken.message.startswith("toy.odd (this test) cannot be built: ")


def test_a_loader_that_cannot_be_imported_is_told_with_its_place(
    registry: Registry, plug: Path
) -> None:
    def raising() -> Any:
        raise ImportError("planted")

    broken = registry_of(plug, Part("models", "gone", "this test", raising))
    (problem,) = problems_of(SOUND, broken, settings=('model.use = "gone"',))
    assert problem == "model.use: gone (this test) cannot be imported: ImportError: planted"


def test_a_loader_is_told_by_its_file_or_what_is_missing_is(
    tmp_path: Path, registry: Registry
) -> None:
    plan = 'checks."toy.accuracy" = {}\nmodel.args.path = "net.onnx"\ndata.args.path = "rows.npz"'
    problems = "\n".join(problems_of(plan, registry, root=tmp_path))
    assert "model: " in problems
    assert "net.onnx" in problems
    assert "data: " in problems
    assert "rows.npz" in problems


# -- the seal --------------------------------------------------------------------------------------


def test_the_seal_is_of_what_is_meant_not_of_how_or_where_it_is_written(
    tmp_path: Path, registry: Registry
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    lines = ["seed = 7", 'model.use = "toy.model"', 'data = { use = "toy.data", args = { n = 9 } }']
    checks = '[checks."attacks.pgd"]\nepsilon = {}\nnorm = "linf"\n'
    swapped = '[checks."attacks.pgd"]\nnorm = "linf"\nepsilon = {}\n'
    for folder, plan in zip(
        folders,
        ("\n".join([*lines, checks.format('["8/255", "4/255"]')]),
         "\n".join([*reversed(lines), swapped.format(f"[{4 / 255}, {8 / 255}]")])),
        strict=True,
    ):  # fmt: skip
        folder.mkdir()
        (folder / "audit.toml").write_text(plan)
    first, second = (read(source_of(folder / "audit.toml"), registry) for folder in folders)
    assert first.sha256 == second.sha256
    assert first.name == "audit"


def test_the_seal_holds_the_defaults_that_were_left_unsaid(registry: Registry) -> None:
    said = 'checks."toy.accuracy" = { fault = "none", marks = "", gate = "" }'
    assert plan_of(SOUND, registry).sha256 == plan_of(SOUND, registry, settings=(said,)).sha256


CHANGES = [
    "seed = 8", 'name = "other"', 'checks."toy.accuracy".marks = "m"', "data.args.n = 100",
    'model.args.fault = "nan"', "max_samples = 10", "block = 16", "keep_samples = 1",
    'rules = [{ run = "toy.accuracy", measurement = "accuracy", at_least = 0.5 }]',
    'rules = [{ run = "toy.accuracy", measurement = "accuracy", at_least = 0.6 }]',
    'rules = [{ run = "toy.accuracy", measurement = "accuracy", at_least = 0.5, level = 0.9 }]',
    'waivers."toy.accuracy" = { owner = "o", reason = "r", until = 2099-01-31 }',
    'waivers."toy.accuracy" = { owner = "o", reason = "r", until = 2099-02-01 }',
    'context.annex_iii = "5b"', 'suites = ["half"]', 'data.train.use = "toy.data"',
    'checks.second.use = "toy.accuracy"', 'models.surrogate.use = "toy.model"',
]  # fmt: skip


def test_every_criterion_and_every_parameter_is_under_the_seal(registry: Registry) -> None:
    seals = {plan_of(SOUND, registry, settings=(change,)).sha256 for change in CHANGES}
    assert len(seals | {plan_of(SOUND, registry).sha256}) == len(CHANGES) + 1


def test_a_plug_in_file_is_under_the_seal(plug: Path, tmp_path: Path) -> None:
    changed = tmp_path / "toy.py"
    changed.write_text(plug.read_text() + "\n# changed\n")
    seals = {
        read(Source(root="/", table=tomllib.loads(SOUND)), Registry((path,))).sha256
        for path in (plug, changed)
    }
    assert len(seals) == 2


def test_what_stands_in_the_environment_is_not_stored(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLAUDIT_TEST_FAULT", "exception")
    plan = plan_of(SOUND, registry, settings=('model.args.fault = "${DLAUDIT_TEST_FAULT}"',))
    assert plan.model.args == {"fault": "${DLAUDIT_TEST_FAULT}"}
    assert b"exception" not in canonical(plan).replace(b"exception_", b"")


# -- budgets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "values"),
    [
        (0.1, (0.1,)),
        (0, (0.0,)),
        ("8/255", (8 / 255,)),
        ("0.25", (0.25,)),
        ([0.5, "1/4"], (0.25, 0.5)),
        (["2/4", 0.5], (0.5,)),
    ],
)
def test_a_budget_is_a_number_a_fraction_or_a_sorted_curve_of_them(
    written: object, values: tuple[float, ...]
) -> None:
    epsilon = Epsilon(written)
    assert epsilon.values == values
    assert tuple(epsilon) == values
    assert eval(repr(epsilon)) == epsilon  # noqa: S307  (our own repr)
    assert Epsilon(epsilon.plain) == epsilon
    assert len({epsilon, Epsilon(list(values))}) == 1


@pytest.mark.parametrize(
    "written",
    [-0.1, "-1/2", "a/b", "", "1/0", True, None, [], [[0.1]], float("nan"), float("inf"), "inf"],
)
def test_what_is_no_budget_is_refused_with_what_was_expected(written: object) -> None:
    with pytest.raises(ValueError, match='expected a number >= 0 or "a/b"'):
        Epsilon(written)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_a_curve_is_sorted_without_repetition_and_survives_storing(values: list[float]) -> None:
    epsilon = Epsilon(values)
    assert list(epsilon) == sorted(set(values))
    assert Epsilon(msgspec.json.decode(msgspec.json.encode(epsilon.plain))) == epsilon
