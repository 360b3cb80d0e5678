"""The default suite is runnable, judges what it runs, and gives reasons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from dlaudit.attacks.suite import SUITE
from dlaudit.audit.judge import judge
from dlaudit.audit.parts import Epsilon, decode_parameter
from dlaudit.audit.record import CheckRun, Measured
from dlaudit.audit.registry import Registry


def built(run: str) -> Any:
    params = dict(SUITE.runs[run])
    kind = Registry().check(params.pop("use", run)).get()
    return msgspec.convert(params, kind, dec_hook=decode_parameter)


@pytest.mark.parametrize("run", SUITE.runs)
def test_every_run_is_a_known_attack_with_known_parameters(run: str) -> None:
    assert set(built(run).epsilon) <= {2 / 255, 4 / 255, 8 / 255}


def test_an_attack_that_aims_both_ways_is_among_them() -> None:
    assert [run for run in SUITE.runs if built(run).both_ways] == ["attacks.cascade"]


def test_every_rule_judges_what_its_run_measures_and_says_that_it_is_a_default() -> None:
    judged = {(rule.run, rule.measurement) for rule in SUITE.rules}
    assert judged == {
        (run, name) for run in SUITE.runs for name in ("robust_accuracy", "inputs_moved")
    }
    for rule in SUITE.rules:
        assert rule.measurement in built(rule.run).measures
        assert "Default" in rule.rationale
        assert "eplace" in rule.rationale


def test_every_requirement_that_a_rule_feeds_is_in_the_catalogue() -> None:
    known = {item.id for item in Registry().find("catalogues", "eu_ai_act").get()()}
    assert {item for rule in SUITE.rules for item in rule.requirements} <= known


@pytest.mark.parametrize(("scale", "expected"), [(1.0, "pass"), (1e4, "fail")])
def test_an_attack_that_moves_nothing_fails_and_its_clean_twin_passes(
    scale: float, expected: str, digits: Any, attacked: Callable[..., Any]
) -> None:
    """Saturated logits: the robust accuracy looks perfect, the gate stays closed."""
    attack = msgspec.structs.replace(built("attacks.fgsm"), epsilon=Epsilon(0.03))
    x, y = np.repeat(digits.x, 2, axis=0), np.repeat(digits.y, 2)
    result = attacked(attack, digits.model(scale=scale), x, y)
    run = CheckRun(
        id="attacks.fgsm", check="attacks.fgsm", params={}, seed=0, seconds=0, device="cpu",
        cost=result.cost, outcome=Measured(measurements=tuple(result.measurements)),
    )  # fmt: skip
    rules = [rule for rule in SUITE.rules if rule.run == "attacks.fgsm"]
    verdicts = {rule.id: judge(rule, {run.id: run}).status for rule in rules}
    assert verdicts == {
        "attacks.fgsm.robust_accuracy": "pass", "attacks.fgsm.inputs_moved": expected,
    }  # fmt: skip
