"""``dlaudit plan`` says before anything runs what will be measured, decided and left open."""

import pytest
from commandline import dlaudit_command

PLAN = """
name = "preview"
[model]
use = "toy.model"
[data]
use = "toy.data"
[checks."toy.accuracy"]
[[rules]]
run = "toy.accuracy"
measurement = "accuracy"
at_least = 0.5
requirements = ["aia:art15-1"]
[[rules]]
run = "toy.accuracy"
measurement = "accuracy"
at_most = 0.99
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text(PLAN)
    return path


def previewed(plan, plug, *more):
    words = ("plan", plan, "--plugin", plug, "--executor", "inline", *more)
    answer = dlaudit_command(*words, folder=plan.parent)
    assert answer.code == 0, answer.stderr
    return answer.stdout


def test_each_rule_says_from_which_value_on_it_is_decided(plan, plug):
    """At n = 240, Wilson's interval decides >= 0.5 at 136 right answers and at 104."""
    out = previewed(plan, plug)
    assert "accuracy >= 0.5; passes if measured >= 0.5667, fails if <= 0.4333" in out
    assert "accuracy <= 0.99; passes if measured <= " in out


def test_fewer_samples_decide_less(plan, plug):
    out = previewed(plan, plug, "--max-samples", 20)
    assert "passes if measured >= 0.75" in out
    assert "cannot fail at this n" in out, "20 of 20 right leaves 0.99 open"


def test_articles_with_and_without_evidence_are_told_apart(plan, plug):
    out = previewed(plan, plug)
    assert "evidence from toy.accuracy.accuracy" in out
    assert "283 further items get no evidence from this plan" in out


def test_a_plan_without_rules_is_told_that_its_gate_stays_closed(tmp_path, plug):
    plan = tmp_path / "audit.toml"
    plan.write_text(PLAN.partition("[[rules]]")[0])
    assert "the gate will stay closed" in previewed(plan, plug)


def test_a_run_that_will_be_skipped_is_named_beforehand(plan, plug, tmp_path):
    needy = tmp_path / "needy.py"
    needy.write_text(
        "from dlaudit import Check, Needs\n"
        "class Listens(Check):\n"
        '    """Needs what the toy data lack."""\n'
        '    needs = Needs(data=("audio",))\n'
    )
    more = ("--plugin", needy, "--set", "checks.'needy.listens' = {}")
    out = previewed(plan, plug, *more)
    assert "needy.listens: WILL BE SKIPPED, which closes the gate: not offered: data: audio" in out
    assert "toy.accuracy: WILL BE SKIPPED" not in out


def test_nothing_is_written(plan, plug):
    previewed(plan, plug)
    assert [path.name for path in plan.parent.iterdir()] == ["audit.toml"]


def test_a_wrong_plan_is_refused_as_by_run(plan, plug):
    answer = dlaudit_command(
        "plan", plan, "--plugin", plug, "--set", "seed = -1", folder=plan.parent
    )
    assert answer.code == 2
    assert "seed: expected" in answer.stderr
