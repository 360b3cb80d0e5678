"""A stored run can be judged by other rules on any day, without the model."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from dlaudit.audit.engine import audit, judged
from dlaudit.audit.executor import InlineExecutor
from dlaudit.audit.gate import gate
from dlaudit.audit.judge import exit_code
from dlaudit.audit.plan import Source
from dlaudit.audit.run_folder import stored
from dlaudit.errors import PlanError

RULE = 'rules = [{ run = "toy.accuracy", measurement = "accuracy", '


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, plug: Path) -> Path:
    """A run of the toy suite beside one that errored and is waived until the end of 2026."""
    source = Source(
        root="/", plugins=(str(plug),),
        table={
            "suites": ["toy.ruled"], "model": {"use": "toy.model"},
            "data": {"use": "toy.data", "args": {"n": 60}},
            "checks": {"bad": {"use": "toy.accuracy", "fault": "exception"}},
            "waivers": {"bad": {"owner": "o", "reason": "r", "until": "2026-12-31"}},
            "declarations": [{
                "requirement": "aia:art15-1", "who": "w", "role": "r", "statement": "s",
                "date": "2026-01-01",
            }],
        },
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("gate") / "run"
    audit(source, InlineExecutor(), folder)
    return folder


def rules(tmp_path: Path, text: str) -> Path:
    (tmp_path / "strict.toml").write_text(text)
    return tmp_path / "strict.toml"


def test_without_rules_the_run_is_judged_by_its_own(run: Path) -> None:
    again = gate(run)
    assert [verdict.status for verdict in again.verdicts] == ["pass"]
    assert again.rules == stored(run).rules


def test_a_waiver_expires_though_nothing_else_changes(run: Path) -> None:
    record = stored(run)
    assert exit_code(judged(record, today=date(2026, 12, 31))) == 0
    late = judged(record, today=date(2027, 1, 1))
    assert exit_code(late) == 3
    assert [waiver.expired for waiver in late.waivers] == [True]
    assert exit_code(judged(late, today=date(2026, 12, 31))) == 0


def test_other_rules_replace_those_of_the_plan_with_its_waivers(run: Path, tmp_path: Path) -> None:
    strict = gate(run, rules(tmp_path, """
        [[rules]]
        run = "toy.accuracy"
        measurement = "accuracy"
        at_least = 0.9999
        requirements = ["aia:art15-1"]
    """))  # fmt: skip
    (verdict,) = strict.verdicts
    assert (verdict.rule, verdict.status) == ("toy.accuracy.accuracy", "fail")
    assert strict.rules[0].origin == "strict.toml"
    assert strict.waivers == ()
    assert exit_code(strict) == 1
    findings = {finding.requirement: finding.status for finding in strict.findings}
    assert findings["aia:art15-1"] == "contradicted"


def test_rules_may_bring_waivers(run: Path, tmp_path: Path) -> None:
    waived = gate(run, rules(tmp_path, """
        [[rules]]
        id = "mine"
        run = "bad"
        measurement = "accuracy"
        at_least = 0.5
        [waivers.bad]
        owner = "o"
        reason = "r"
        until = 2999-01-01
    """))  # fmt: skip
    (verdict,) = waived.verdicts
    assert (verdict.rule, verdict.status) == ("mine", "not_assessed")
    assert verdict.waived is not None
    assert exit_code(waived) == 0


def test_no_rule_at_all_opens_nothing(run: Path, tmp_path: Path) -> None:
    assert exit_code(gate(run, rules(tmp_path, ""))) == 3


def test_what_the_run_has_not_measured_is_not_assessed(run: Path, tmp_path: Path) -> None:
    judged_again = gate(run, rules(
        tmp_path, 'rules = [{ run = "toy.accuracy", measurement = "recall", at_least = 0.5 }]'
    ))  # fmt: skip
    assert [verdict.status for verdict in judged_again.verdicts] == ["not_assessed"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules = 3", "rules: expected [[rules]] tables, got 3"),
        ("rule = []", "rule: no such key. Did you mean rules?"),
        ("waivers = 3", "waivers: expected a table, got 3"),
        ('rules = [{ run = "toy.acuracy", measurement = "accuracy", at_least = 1 }]',
         "rules[0].run: no run is called 'toy.acuracy'. Did you mean toy.accuracy?"),
        (RULE + 'at_least = "x" }]',
         'rules[0].at_least: expected a number, got "x"'),
        (RULE + 'at_least = 1, requirements = ["aia:x"] }]',
         "rules[0].requirements: no requirement is called 'aia:x'."),
        ('waivers.bed = { owner = "o", reason = "r", until = 2999-01-01 }',
         'waivers."bed": no run is called so. Did you mean bad?'),
        ("rules = [", "cannot be read as TOML"),
    ],
)  # fmt: skip
def test_rules_that_make_no_sense_are_refused(
    text: str, said: str, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(PlanError) as caught:
        gate(run, rules(tmp_path, text))
    (problem,) = caught.value.problems
    assert said in problem


def test_all_that_is_wrong_with_rules_is_told_together(run: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        gate(run, rules(tmp_path, "x = 1\nrules = [{}, 3]\nwaivers = 4"))
    assert len(caught.value.problems) == 6
    assert caught.value.label == "strict.toml"
